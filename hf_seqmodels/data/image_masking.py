"""Masks and corruptions for masked image modelling: pure functions of (seed, key), drawn image by image."""

from collections.abc import Iterable

import numpy as np
import torch

from hf_seqmodels.models.patches import Size, as_pair, patch_grid, patchify, random_patches, unpatchify

from .random import Key
from .streams import Streams

# Dosovitskiy et al. 2020, appendix B.1.2.
MASK_TOKEN_SHARE = 0.8
OTHER_PATCH_SHARE = 0.1
COLOUR_BITS = 3
_PATCH_UNIFORMS = 2


def patch_noise(seed: int, keys: Iterable[Key], num_patches: int) -> torch.Tensor:
    """`(batch, num_patches)` float64 in [0, 1), a row for each example of an epoch; the lowest are masked."""
    streams = Streams(seed, "mask")
    return torch.from_numpy(np.stack([streams.at(*key).random(num_patches) for key in keys]))


def random_unit_mask(
    seed: int, keys: Iterable[Key], image_size: Size, patch_size: Size, ratio: float, unit_size: Size | None = None
) -> torch.Tensor:
    """Random masks of whole units, which may be larger than the patches (SimMIM, Xie et al. 2021, section 3.2).

    Args:
        seed, keys: name the masks, one an image.
        image_size: height and width.
        patch_size: the model's.
        ratio: share of the units to mask; exactly `round(ratio · units)`, see `random_patches`.
        unit_size: pixels of a unit, as 32 for patches of 4; `None` masks patch by patch.

    Returns:
        `(batch, num_patches)` boolean.

    Raises:
        ValueError: the image is not divisible into units, or a unit not into patches; `ratio` outside (0, 1).
    """
    unit_size = patch_size if unit_size is None else unit_size
    repeats = units_in_patches(unit_size, patch_size)
    grid = patch_grid(image_size, unit_size)
    units = random_patches(patch_noise(seed, keys, grid[0] * grid[1]), ratio).view(-1, *grid)
    return units.repeat_interleave(repeats[0], 1).repeat_interleave(repeats[1], 2).flatten(1)


def units_in_patches(unit_size: Size, patch_size: Size) -> tuple[int, int]:
    """Patches (rows, columns) of a masked unit.

    Raises:
        ValueError: they do not divide it.
    """
    (unit_height, unit_width), (height, width) = as_pair(unit_size), as_pair(patch_size)
    if unit_height < height or unit_width < width or unit_height % height or unit_width % width:
        raise ValueError(
            f"mask_patch_size {unit_height}×{unit_width} must be a multiple of patch_size {height}×{width}."
        )
    return unit_height // height, unit_width // width


def corruption_uniforms(seed: int, keys: Iterable[Key], num_patches: int) -> torch.Tensor:
    """`(batch, num_patches, 2)` float64 in [0, 1) for `corrupt_patches`."""
    streams = Streams(seed, "corrupt")
    return torch.from_numpy(np.stack([streams.at(*key).random((num_patches, _PATCH_UNIFORMS)) for key in keys]))


def corrupt_patches(
    images: torch.Tensor, selected: torch.Tensor, uniforms: torch.Tensor, patch_size: Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """Corrupts selected patches: 80 % for the mask token, 10 % by another patch of the image, 10 % not at all.

    Dosovitskiy et al. 2020, "An image is worth 16x16 words", appendix B.1.2; decided for each patch alone.

    Args:
        images: `(batch, channels, height, width)`; left as they are.
        selected: `(batch, num_patches)` boolean, the patches to predict.
        uniforms: `(batch, num_patches, 2)` float64 in [0, 1): the patch's fate, and which other patch.
        patch_size: the model's.

    Returns:
        Images with the other patches in place, and `bool_masked_pos` `(batch, num_patches)`, true where the model is
        to put its mask token (the pixels there are unchanged).
    """
    grid = patch_grid((images.shape[-2], images.shape[-1]), patch_size)
    patches = patchify(images, patch_size)
    count = patches.shape[1]
    fate, choice = uniforms.unbind(2)
    bool_masked_pos = selected & (fate < MASK_TOKEN_SHARE)
    replaced = selected & ~bool_masked_pos & (fate < MASK_TOKEN_SHARE + OTHER_PATCH_SHARE)
    itself = torch.arange(count)
    source = (itself + 1 + (choice * (count - 1)).floor().long()) % count
    source = torch.where(replaced, source, itself)
    corrupted = patches.gather(1, source.unsqueeze(2).expand_as(patches))
    return unpatchify(corrupted, patch_size, grid), bool_masked_pos


def patch_colour_classes(images: torch.Tensor, patch_size: Size, bits: int = COLOUR_BITS) -> torch.Tensor:
    """The mean colour of each patch in `bits` bits per channel, as a class id (Dosovitskiy et al. 2020, B.1.2).

    Args:
        images: `(batch, channels, height, width)` in [0, 1].
        patch_size: the model's.
        bits: a channel's values are cut into 2 ** bits equal ranges.

    Returns:
        `(batch, num_patches)` int64 in 0 .. 2 ** (bits · channels) - 1, the first channel in the lowest bits: 512
        classes for three channels, 8 for one.

    Raises:
        ValueError: `bits` is below 1.
    """
    if bits < 1:
        raise ValueError(f"bits={bits} must be at least 1.")
    channels = images.shape[1]
    # In float64 the sum of a patch's bytes over 255 is exact, hence the same in every batch.
    mean = patchify(images.double(), patch_size).unflatten(2, (channels, -1)).mean(-1)
    levels = (mean * 2**bits).floor().long().clamp_(0, 2**bits - 1)
    return (levels << (bits * torch.arange(channels))).sum(-1)
