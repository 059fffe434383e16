"""Augmentation of batches of images: pure functions of the images and of uniform numbers, a row for each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .mixing import box_mask
from .randaugment import (
    MAXIMUM_MAGNITUDE,
    OPERATIONS,
    PAPER_OPERATIONS,
    UNIFORMS_PER_OPERATION,
    randaugment,
)

PADDING_MODES = ("reflect", "zero")
FLIP_UNIFORMS = 1
CROP_UNIFORMS = 2
ERASING_UNIFORMS = 5
# Zhong et al. 2017, section 4.
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class AugmentationRule:
    """How training images are changed, in this order; every part is off by default.

    Args:
        crop_padding: pixels added on each side, of which a window of the old size is cut at random.
        crop_padding_mode: `reflect` or `zero`: what the added pixels hold.
        flip: probability of a horizontal flip.
        randaugment_ops: RandAugment's operations on each image.
        randaugment_magnitude: their strength, 0 to 10.
        randaugment_operations: names to choose from; see `randaugment.OPERATIONS`.
        erasing: probability of random erasing.
        mixup_alpha, cutmix_alpha: Beta(alpha, alpha) is drawn from for the weights of mixup and of CutMix; 0 is off.
            With both on, either is taken half of the time.
        mixing_probability: how often an image is mixed at all, above 0 if and only if mixup or CutMix is on. The
            same goes to the `ImageDataset`.
        label_smoothing: share of each label that is spread over all classes.

    Raises:
        ValueError: a field outside what is allowed.
    """

    crop_padding: int = 0
    crop_padding_mode: str = "reflect"
    flip: float = 0.0
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0
    randaugment_operations: tuple[str, ...] = PAPER_OPERATIONS
    erasing: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mixing_probability: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop_padding", "randaugment_ops", "mixup_alpha", "cutmix_alpha"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value} must be at least 0.")
        for name in ("flip", "erasing", "mixing_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1].")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must lie in [0, 1).")
        if not 0 <= self.randaugment_magnitude <= MAXIMUM_MAGNITUDE:
            raise ValueError(
                f"randaugment_magnitude={self.randaugment_magnitude} must lie in [0, {MAXIMUM_MAGNITUDE}]."
            )
        if (self.mixing_probability > 0) != (self.mixup_alpha > 0 or self.cutmix_alpha > 0):
            raise ValueError(
                f"mixing_probability={self.mixing_probability}, mixup_alpha={self.mixup_alpha}, cutmix_alpha="
                f"{self.cutmix_alpha}: mixing needs a probability above 0 and at least one alpha above 0."
            )
        if self.crop_padding_mode not in PADDING_MODES:
            raise ValueError(
                f"crop_padding_mode={self.crop_padding_mode!r} must be one of {', '.join(PADDING_MODES)}."
            )
        unknown = [name for name in self.randaugment_operations if name not in OPERATIONS]
        if unknown or not self.randaugment_operations:
            raise ValueError(
                f"randaugment_operations={self.randaugment_operations} must be names of {', '.join(OPERATIONS)}."
            )

    @property
    def mixes(self) -> bool:
        """Whether any image is mixed with another."""
        return self.mixing_probability > 0

    @property
    def num_uniforms(self) -> int:
        """Numbers in [0, 1) that `augment` needs for each image."""
        return CROP_UNIFORMS + FLIP_UNIFORMS + UNIFORMS_PER_OPERATION * self.randaugment_ops + ERASING_UNIFORMS


def augment(
    images: torch.Tensor, uniforms: torch.Tensor, rule: AugmentationRule, fill: float | Sequence[float]
) -> torch.Tensor:
    """Crop, flip, RandAugment and random erasing, as `rule` says.

    Args:
        images: `(batch, channels, height, width)` uint8.
        uniforms: `(batch, rule.num_uniforms)` in [0, 1), float64.
        rule: what to do; mixing and label smoothing are the collator's.
        fill: what erased pixels hold, for each channel or for all, in [0, 1].

    Returns:
        A new tensor, float32 in [0, 1].

    Raises:
        ValueError: images that are not uint8, uniforms of another number, or a reflected crop padding that is not
            smaller than the image.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images of {images.dtype} are not augmented: uint8 in 0..255 is expected.")
    if tuple(uniforms.shape) != (len(images), rule.num_uniforms):
        raise ValueError(
            f"uniforms of shape {tuple(uniforms.shape)}: (batch, rule.num_uniforms) = "
            f"{(len(images), rule.num_uniforms)} is expected."
        )
    operations = UNIFORMS_PER_OPERATION * rule.randaugment_ops
    crop, flip, rounds, erasing = uniforms.split([CROP_UNIFORMS, FLIP_UNIFORMS, operations, ERASING_UNIFORMS], dim=1)
    if rule.crop_padding:
        images = padded_crop(images, crop, rule.crop_padding, rule.crop_padding_mode)
    if rule.flip:
        images = horizontal_flip(images, flip, rule.flip)
    if rule.randaugment_ops:
        images = randaugment(images, rounds, rule.randaugment_magnitude, rule.randaugment_operations)
    scaled = images.float() / 255
    return random_erasing(scaled, erasing, rule.erasing, fill) if rule.erasing else scaled


def horizontal_flip(images: torch.Tensor, uniforms: torch.Tensor, probability: float) -> torch.Tensor:
    """Mirrors images left to right.

    Args:
        images: `(batch, channels, height, width)`.
        uniforms: `(batch, 1)` in [0, 1).
        probability: of a flip.
    """
    return torch.where((uniforms < probability).view(-1, 1, 1, 1), images.flip(3), images)


def padded_crop(images: torch.Tensor, uniforms: torch.Tensor, padding: int, mode: str = "reflect") -> torch.Tensor:
    """Cuts a window of the image's size from the padded image.

    Args:
        images: `(batch, channels, height, width)`.
        uniforms: `(batch, 2)` in [0, 1): row and column of the window.
        padding: pixels on each side.
        mode: `reflect` (about the border pixel, which is not repeated) or `zero`.

    Raises:
        ValueError: with `reflect`, a side that is not larger than `padding`.
    """
    height, width = images.shape[2:]
    if mode == "reflect" and padding >= min(height, width):
        raise ValueError(f"crop_padding={padding} must be smaller than the image, {height}×{width}, to reflect it.")
    shifts = (uniforms * (2 * padding + 1)).floor().long() - padding
    rows = torch.arange(height) + shifts[:, :1]
    columns = torch.arange(width) + shifts[:, 1:]
    outside = ((rows < 0) | (rows >= height)).unsqueeze(2) | ((columns < 0) | (columns >= width)).unsqueeze(1)
    if mode == "reflect":
        rows, columns = _reflected(rows, height), _reflected(columns, width)
    else:
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    places = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1).unsqueeze(1)
    cropped = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view_as(images)
    return cropped if mode == "reflect" else cropped.masked_fill(outside.unsqueeze(1), 0)


def _reflected(places: torch.Tensor, length: int) -> torch.Tensor:
    places = places.abs()
    return (length - 1) - ((length - 1) - places).abs()


def random_erasing(
    images: torch.Tensor, uniforms: torch.Tensor, probability: float, fill: float | Sequence[float]
) -> torch.Tensor:
    """Fills a rectangle with each channel's mean (Zhong et al. 2017, "Random erasing data augmentation": RE-M).

    Its area is uniform in [0.02, 0.4] of the image's, and its height : width log-uniform in [0.3, 3.3], so that flat
    and tall ones are alike likely. Where the paper draws again because the rectangle is too long, it is cut.

    Args:
        images: `(batch, channels, height, width)` float.
        uniforms: `(batch, 5)` in [0, 1): whether, area, aspect ratio, row, column.
        probability: of erasing.
        fill: what erased pixels hold, for each channel or for all.
    """
    height, width = images.shape[2:]
    whether, area, aspect, row, column = uniforms.double().unbind(1)
    smallest, largest = _ERASED_AREA
    flattest, tallest = _ERASED_ASPECT
    pixels = (smallest + (largest - smallest) * area) * (height * width)
    ratio = flattest * (tallest / flattest) ** aspect
    rows = (pixels * ratio).sqrt().round().clamp(1, height)
    columns = (pixels / ratio).sqrt().round().clamp(1, width)
    top = (row * (height - rows + 1)).floor().long()
    left = (column * (width - columns + 1)).floor().long()
    inside = box_mask(top, left, torch.stack([rows, columns], dim=1).long(), height, width)
    inside &= (whether < probability).view(-1, 1, 1, 1)
    return torch.where(inside, torch.tensor(fill, dtype=images.dtype).view(1, -1, 1, 1), images)
