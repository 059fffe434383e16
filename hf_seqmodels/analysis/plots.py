"""Figures of what the analysis functions return. Needs matplotlib (extra [plot]); no global state of it is touched."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .vit_embeddings import PrincipalFilters
from .vit_reconstruction import Reconstruction

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ImportError("hf_seqmodels.analysis.plots needs the extra: pip install 'hf_seqmodels[plot]'.") from error

# One map for what has a zero as its lowest value, one for what lies on both sides of zero.
_POSITIVE, _SIGNED = "viridis", "RdBu_r"
_BRIGHTEST = 0.99  # quantile
_OCTAVES = 3
_PANEL = 1.6  # inches
_LARGEST_MOSAIC = 12.0
_MOST_TICKS = 16


def rollout_figure(images: np.ndarray, rollout: np.ndarray) -> Figure:
    """Each image, and beside it its rollout laid over it.

    Args:
        images: `(batch, height, width, channels)` in [0, 1]. Of other channel counts than 1 and 3 the mean is shown,
            here and in all figures.
        rollout: `(batch, rows, columns)`, as `attention_rollout` gives it.
    """
    height, width = images.shape[1:3]
    relative = rollout * rollout[0].size
    per_line = min(5, len(images))
    lines = math.ceil(len(images) / per_line)
    figure = _figure(2 * per_line * _PANEL + 1, lines * _panel_height(images) + 0.8)
    panels = figure.subplots(lines, 2 * per_line, squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    drawn: Any = None
    for image, seen, plain, laid_over in zip(images, relative, panels.flat[::2], panels.flat[1::2]):
        _show(plain, image)
        _show(laid_over, image.mean(-1, keepdims=True))  # in grey: the colours are the rollout's
        drawn = laid_over.imshow(
            seen,
            cmap=_POSITIVE,
            vmin=0,
            vmax=np.quantile(relative, _BRIGHTEST),  # one patch that gets nearly all would darken the others
            alpha=0.75,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
    figure.colorbar(drawn, ax=panels, shrink=0.8, extend="max", label="attention (1: all patches alike)")
    figure.suptitle("Attention rollout: image, and what reaches the output from each patch")
    return figure


def heads_figure(image: np.ndarray, maps: np.ndarray) -> Figure:
    """One image and every head's map of it: red is more, and blue less, than if all patches were attended alike.

    Args:
        image: `(height, width, channels)` in [0, 1].
        maps: `(layers, heads, rows, columns)`, one image of what `attention_maps` gives.
    """
    least = np.finfo(np.float32).tiny
    relative = maps / maps.mean((-2, -1), keepdims=True).clip(min=least)
    tiles = np.log2(relative.clip(min=least))
    aspect = image.shape[0] / maps.shape[-2] / (image.shape[1] / maps.shape[-1])
    height, width = _mosaic_inches(tiles.shape, aspect)
    figure = _figure(2 * _PANEL + width + 1.2, max(height, 2 * _PANEL) + 0.8)
    left, right = figure.subplots(1, 2, width_ratios=(2 * _PANEL, width))
    _show(left, image)
    left.set_title("image")
    left.axis("off")
    drawn = _show_mosaic(right, tiles, aspect, cmap=_SIGNED, vmin=-_OCTAVES, vmax=_OCTAVES)
    right.set(title="attention of every head to the patches", xlabel="head", ylabel="layer")
    _number_from_one(right, maps.shape[:2])
    octaves = range(-_OCTAVES, _OCTAVES + 1)
    bar = figure.colorbar(drawn, ax=right, ticks=octaves, extend="both", shrink=0.8, aspect=40)
    bar.set_ticklabels([f"{2**octave}×" if octave >= 0 else f"1/{2**-octave}×" for octave in octaves])
    bar.set_label("of the mean over the patches")
    return figure


def positions_figure(similarity: np.ndarray, patch_size: tuple[int, int] = (1, 1)) -> Figure:
    """A map for each position, in the position's place (Dosovitskiy et al. 2020, figure 7 centre).

    Args:
        similarity: `(rows, columns, rows, columns)`, as `position_similarity` gives it.
        patch_size: `(height, width)`, for the shape of the image.
    """
    aspect = patch_size[0] / patch_size[1]
    height, width = _mosaic_inches(similarity.shape, aspect)
    figure = _figure(width + 1.8, height + 1)
    panel = figure.subplots()
    drawn = _show_mosaic(panel, similarity, aspect, cmap=_SIGNED, vmin=-1, vmax=1)
    panel.set(title="Similarity of position embeddings", xlabel="column of the patch", ylabel="row of the patch")
    _number_from_one(panel, similarity.shape[:2])
    figure.colorbar(drawn, ax=panel, shrink=0.8, aspect=40, label="cosine similarity")
    return figure


def filters_figure(principal: PrincipalFilters) -> Figure:
    """Principal filters, the most important first (Dosovitskiy et al. 2020, figure 7 left).

    Grey is a weight of 0; each filter is scaled to its own largest weight.
    """
    filters = _shown_channels(principal.filters)
    largest = np.abs(filters).max((1, 2, 3), keepdims=True).clip(min=np.finfo(np.float32).tiny)
    tiles = 0.5 + filters / (2 * largest)
    per_line = min(7, len(tiles))
    lines = math.ceil(len(tiles) / per_line)
    filter_height, filter_width = tiles.shape[1:3]
    figure = _figure(per_line * _PANEL * 0.8 + 0.3, lines * _PANEL * 0.8 * (filter_height / filter_width) + 0.9)
    panels = figure.subplots(lines, per_line, squeeze=False)
    for index, panel in enumerate(panels.flat):
        panel.axis("off")
        if index < len(tiles):
            _show(panel, tiles[index])
            panel.set_title(f"{principal.variance_ratios[index]:.1%}", fontsize=8)
    figure.suptitle("Principal filters of the embedding\nand their shares of the variance", fontsize=11)
    return figure


def distance_figure(distance: np.ndarray) -> Figure:
    """Each head as a dot over its layer (Dosovitskiy et al. 2020, figure 7 right).

    Args:
        distance: `(layers, heads)` in pixels, as `attention_distance` gives it.
    """
    layers, heads = distance.shape
    figure = _figure(5.5, 4)
    panel = figure.subplots()
    colours = colormaps["turbo"](np.linspace(0, 1, heads))
    for head, colour in enumerate(colours):
        panel.scatter(
            np.arange(1, layers + 1), distance[:, head], s=30, alpha=0.7, color=colour, label=f"head {head + 1}"
        )
    panel.set(title="Attention distance of every head", xlabel="layer", ylabel="mean distance in pixels")
    panel.set_ylim(0, 1.1 * float(np.nanmax(distance, initial=1)))
    panel.set_xlim(0.5, layers + 0.5)
    panel.set_xticks(_ticks(layers) + 1)
    panel.grid(alpha=0.3)
    if heads <= _MOST_TICKS:
        panel.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def reconstruction_figure(reconstruction: Reconstruction) -> Figure:
    """A row for each image: input, masked, prediction of every patch, prediction among the visible patches."""
    columns = {
        "image": reconstruction.image,
        "hidden patches": reconstruction.masked,
        "prediction": reconstruction.reconstruction,
        "with visible patches": reconstruction.pasted,
    }
    count = len(reconstruction.image)
    figure = _figure(4 * _PANEL, count * _panel_height(reconstruction.image) + 0.7)
    panels = figure.subplots(count, 4, squeeze=False)
    for (title, images), column in zip(columns.items(), panels.T):
        column[0].set_title(title, fontsize=9)
        for panel, image in zip(column, images):
            panel.axis("off")
            _show(panel, image)
    figure.suptitle("Hidden patches, predicted")
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _panel_height(images: np.ndarray) -> float:
    return _PANEL * images.shape[1] / images.shape[2]


def _shown_channels(images: np.ndarray) -> np.ndarray:
    """`(…, channels)` -> `(…, 1 or 3)`."""
    return images if images.shape[-1] in (1, 3) else images.mean(-1, keepdims=True)


def _show(panel: Any, image: np.ndarray) -> None:
    """`(height, width, channels)` in [0, 1], pixels square; without a third axis matplotlib maps grey itself."""
    shown = _shown_channels(image).clip(0, 1)
    panel.imshow(
        shown[..., 0] if shown.shape[-1] == 1 else shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )


def _mosaic_inches(shape: Sequence[int], aspect: float) -> tuple[float, float]:
    """Height and width of the figure of a mosaic `(lines, tiles in a line, rows, columns)`, so that it is legible."""
    lines, tiles, rows, columns = shape
    height, width = lines * rows * aspect, tiles * columns
    scale = min(_LARGEST_MOSAIC / max(height, width), _PANEL / max(rows * aspect, columns))
    return max(height * scale, 1.2), max(width * scale, 1.2)


def _show_mosaic(panel: Any, tiles: np.ndarray, aspect: float, **how: Any) -> Any:
    """`(lines, tiles in a line, rows, columns)` as one picture, far faster than an axes for each tile."""
    lines, per_line, rows, columns = tiles.shape
    gap = max(1, rows // 10), max(1, columns // 10)
    pitch = rows + gap[0], columns + gap[1]
    canvas = np.full((lines, pitch[0], per_line, pitch[1]), np.nan)
    canvas[:, :rows, :, :columns] = tiles.transpose(0, 2, 1, 3)
    picture = canvas.reshape(lines * pitch[0], per_line * pitch[1])[: -gap[0], : -gap[1]]
    # The axes count tiles, so that ticks are their numbers; a tile's centre is a whole number.
    top, left = (-size / (2 * step) for size, step in zip((rows, columns), pitch))
    bottom, right = (start + size / step for start, size, step in zip((top, left), picture.shape, pitch))
    return panel.imshow(
        picture, extent=(left, right, bottom, top), aspect=aspect * pitch[0] / pitch[1], interpolation="nearest", **how
    )


def _ticks(count: int) -> np.ndarray:
    return np.arange(0, count, math.ceil(count / _MOST_TICKS))


def _number_from_one(panel: Any, counts: Sequence[int]) -> None:
    lines, tiles = (_ticks(count) for count in counts)
    panel.set_yticks(lines, [str(number + 1) for number in lines])
    panel.set_xticks(tiles, [str(number + 1) for number in tiles])
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


__all__ = [
    "distance_figure",
    "filters_figure",
    "heads_figure",
    "positions_figure",
    "reconstruction_figure",
    "rollout_figure",
]
