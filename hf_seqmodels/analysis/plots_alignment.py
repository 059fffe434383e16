"""Figures of `attention_map`. Needs matplotlib (extra [plot]); no global state of it is touched."""

from .alignment import AttentionMap

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ImportError(
        "hf_seqmodels.analysis.plots_alignment needs the extra: pip install 'hf_seqmodels[plot]'."
    ) from error

_CELL = 0.32  # inches
_MARGIN = 1.6


def alignment_figure(found: AttentionMap) -> Figure:
    """Source tokens from left to right, target tokens from top to bottom; the darker, the more attention."""
    rows, columns = found.weights.shape
    figure = Figure(figsize=(columns * _CELL + _MARGIN, rows * _CELL + _MARGIN), layout="constrained")
    panel = figure.subplots()
    drawn = panel.imshow(found.weights, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    panel.set_xticks(range(columns), [_visible(token) for token in found.source], rotation=90)
    panel.set_yticks(range(rows), [_visible(token) for token in found.target])
    panel.xaxis.tick_top()
    panel.set_title(found.text, fontsize="medium")
    figure.colorbar(drawn, ax=panel, shrink=0.8, label="attention")
    return figure


def _visible(token: str) -> str:
    """A token as it can be read: tokenizers mark spaces by signs of their own; `$` would begin a formula."""
    return token.replace("Ġ", "␣").replace("▁", "␣").replace(" ", "␣").replace("$", r"\$")


__all__ = ["alignment_figure"]
