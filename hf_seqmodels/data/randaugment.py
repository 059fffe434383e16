"""RandAugment (Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space").

Whole batches at once: an operation runs on the images that drew it, and all geometric ones are one interpolation. As
with Pillow, in which the paper's operations are written, images are bytes before and after every operation.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

# Section 3.1 of the paper, in its order.
PAPER_OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
OPERATIONS = (*PAPER_OPERATIONS, "invert")
MAXIMUM_MAGNITUDE = 10
UNIFORMS_PER_OPERATION = 2

# What the largest magnitude does (AutoAugment, Cubuk et al. 2018, table 6).
_ROTATION = 30.0  # degrees
_SHEAR = 0.3
_TRANSLATION = 0.45  # of the side; 150 of 331 pixels in the paper
_ENHANCEMENT = 0.9
_LOST_BITS = 4
_LEVELS = 256
# ITU-R 601 luma in 16 bits and 3 × 3 smoothing, both as Pillow has them.
_LUMA = (19595, 38470, 7471)
_SMOOTHING_CENTRE, _SMOOTHING_SUM = 5, 13


def randaugment(
    images: torch.Tensor,
    uniforms: torch.Tensor,
    magnitude: float,
    operations: Sequence[str] = PAPER_OPERATIONS,
) -> torch.Tensor:
    """Changes every image by operations drawn one after the other.

    Operations that can go either way (rotate, shear, translate, color, contrast, brightness, sharpness) go each way
    half of the time; geometric ones turn about the centre and leave black behind. `color` is drawn only where there
    are three channels; elsewhere the others take its share.

    Args:
        images: `(batch, channels, height, width)` uint8.
        uniforms: `(batch, 2 · rounds)` in [0, 1): for each round the choice and the direction.
        magnitude: strength, 0 to 10.
        operations: names to choose from, with equal chances.

    Returns:
        A new tensor like `images`.

    Raises:
        ValueError: nothing to choose from.
    """
    channels = images.shape[1]
    choices = [name for name in operations if name != "color" or channels == len(_LUMA)]
    if not choices:
        raise ValueError(f"operations={tuple(operations)}: none of them applies to {channels} channels.")
    for draw in uniforms.split(UNIFORMS_PER_OPERATION, dim=1):
        chosen = (draw[:, 0] * len(choices)).long()
        signs = torch.where(draw[:, 1] < 0.5, -1.0, 1.0)
        images = apply_operations(images, [choices[number] for number in chosen.tolist()], signs, magnitude)
    return images


def apply_operations(
    images: torch.Tensor, operations: Sequence[str], signs: torch.Tensor, magnitude: float
) -> torch.Tensor:
    """One named operation on each image.

    Args:
        images: `(batch, channels, height, width)` uint8.
        operations: a name of `OPERATIONS` for each image.
        signs: `(batch,)`, 1 or -1, the direction where an operation has one.
        magnitude: strength, 0 to 10.

    Returns:
        A new tensor like `images`.
    """
    level = magnitude / MAXIMUM_MAGNITUDE
    size = (images.shape[2], images.shape[3])
    result = images.clone()
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(operations):
        rows_of.setdefault(name, []).append(row)
    pointwise: list[int] = []
    tables: list[torch.Tensor] = []
    geometric: list[int] = []
    matrices: list[tuple[float, ...]] = []
    for name, numbers in rows_of.items():
        rows = torch.tensor(numbers)
        if name in _MATRICES:
            geometric += numbers
            matrices += [_MATRICES[name](sign * level, size) for sign in signs[rows].tolist()]
        elif name in _TABLES:
            pointwise += numbers
            table = _TABLES[name](images[rows], signs[rows] * level).to(torch.uint8)
            tables.append(table.expand(len(rows), images.shape[1], _LEVELS))
        elif name in _BLENDS:
            original = images[rows]
            result[rows] = _blend(_BLENDS[name](original), original.float(), _factor(signs[rows] * level, 4))
    if pointwise:
        rows = torch.tensor(pointwise)
        result[rows] = look_up(images[rows], torch.cat(tables))
    if geometric:
        rows = torch.tensor(geometric)
        result[rows] = transform(images[rows], torch.tensor(matrices))
    return result


def look_up(images: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Replaces every byte by the table's entry for it.

    Args:
        images: `(batch, channels, height, width)` uint8.
        tables: `(batch, channels, 256)` uint8.
    """
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def transform(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Moves pixels by affine maps about the centre, with bilinear interpolation and black outside.

    Args:
        images: `(batch, channels, height, width)` uint8.
        matrices: `(batch, 6)` float, (a, b, c, d, e, f): the result at (x, y) is the image at (a·x + b·y + c,
            d·x + e·y + f), in pixels from the centre.
    """
    height, width = images.shape[2:]
    x = (torch.arange(width) - (width - 1) / 2).view(1, 1, -1)
    y = (torch.arange(height) - (height - 1) / 2).view(1, -1, 1)
    a, b, c, d, e, f = matrices.view(-1, 6, 1, 1).unbind(1)
    # Not affine_grid: its matrix product may round differently in batches of another size.
    grid = torch.stack([(a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)], dim=-1)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.round_().clamp_(0, _LEVELS - 1).to(torch.uint8)


def _rotation(level: float, size: tuple[int, int]) -> tuple[float, ...]:
    angle = math.radians(_ROTATION * level)
    return math.cos(angle), -math.sin(angle), 0.0, math.sin(angle), math.cos(angle), 0.0


_MATRICES: dict[str, Callable[[float, tuple[int, int]], tuple[float, ...]]] = {
    "rotate": _rotation,
    "shear_x": lambda level, size: (1.0, _SHEAR * level, 0.0, 0.0, 1.0, 0.0),
    "shear_y": lambda level, size: (1.0, 0.0, 0.0, _SHEAR * level, 1.0, 0.0),
    "translate_x": lambda level, size: (1.0, 0.0, _TRANSLATION * level * size[1], 0.0, 1.0, 0.0),
    "translate_y": lambda level, size: (1.0, 0.0, 0.0, 0.0, 1.0, _TRANSLATION * level * size[0]),
}


def _factor(levels: torch.Tensor, dimensions: int) -> torch.Tensor:
    return (1 + _ENHANCEMENT * levels).view(-1, *(1,) * (dimensions - 1))


def _blend(degenerate: torch.Tensor, original: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Bytes between the degenerate image (factor 0) and the original (1), or beyond; cut off as Pillow does."""
    return (degenerate + factor * (original - degenerate)).clamp_(0, _LEVELS - 1).to(torch.uint8)


def grey(images: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, height, width)` uint8 -> `(batch, 1, height, width)` int32, Pillow's grey of three channels;
    of any other number it is their mean."""
    if images.shape[1] != len(_LUMA):
        return images.sum(1, keepdim=True, dtype=torch.int32) // images.shape[1]
    weighted = images.int() * torch.tensor(_LUMA, dtype=torch.int32).view(1, -1, 1, 1)
    return (weighted.sum(1, keepdim=True, dtype=torch.int32) + 0x8000) >> 16


def _levels() -> torch.Tensor:
    return torch.arange(_LEVELS, dtype=torch.float32).view(1, 1, -1)


def _autocontrast(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    flat = images.flatten(2)
    low, high = flat.amin(2, keepdim=True).double(), flat.amax(2, keepdim=True).double()
    scale = (_LEVELS - 1) / (high - low).clamp(min=1)
    stretched = (_levels().double() * scale - low * scale).clamp_(0, _LEVELS - 1)
    return torch.where(high > low, stretched, _levels())


def _equalize(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    flat = images.flatten(2).long()
    histogram = torch.zeros(*flat.shape[:2], _LEVELS, dtype=torch.int64)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    brightest = histogram.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - brightest) // (_LEVELS - 1)
    darker = histogram.cumsum(2) - histogram
    equal = ((step // 2 + darker) // step.clamp(min=1)).clamp_(max=_LEVELS - 1)
    return torch.where(step > 0, equal, _levels().long())


def _contrast(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    # Whole numbers add up exactly, in any order and batch.
    mean = (grey(images).flatten(1).sum(1, dtype=torch.int64).double() / images[0, 0].numel() + 0.5).floor()
    return _blend(mean.float().view(-1, 1, 1), _levels(), _factor(levels, 3))


def _brightness(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return _blend(torch.zeros(()), _levels(), _factor(levels, 3))


def _posterize(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    lost = (levels.abs() * _LOST_BITS).round().long().view(-1, 1, 1)
    return (_levels().long() >> lost) << lost


def _solarize(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    threshold = ((1 - levels.abs()) * _LEVELS).view(-1, 1, 1)
    return torch.where(_levels() < threshold, _levels(), _LEVELS - 1 - _levels())


def _invert(images: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return _LEVELS - 1 - _levels()


# Operations on each pixel alone: (images, signed levels (batch,)) -> tables (batch or 1, channels or 1, 256), whose
# fractions are cut off.
_TABLES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "contrast": _contrast,
    "brightness": _brightness,
    "posterize": _posterize,
    "solarize": _solarize,
    "invert": _invert,
}


def _smoothed(images: torch.Tensor) -> torch.Tensor:
    """A 3 × 3 mean with a heavier centre; the border stays as it is."""
    pixels = images.float()
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return pixels
    total = (_SMOOTHING_CENTRE - 1) * pixels[:, :, 1:-1, 1:-1]
    for top in range(3):
        for left in range(3):
            total = total + pixels[:, :, top : top + height - 2, left : left + width - 2]
    smoothed = pixels.clone()
    smoothed[:, :, 1:-1, 1:-1] = (total / _SMOOTHING_SUM + 0.5).floor()
    return smoothed


# Operations that blend with another image: images -> the degenerate one.
_BLENDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "color": lambda images: grey(images).float(),
    "sharpness": _smoothed,
}
