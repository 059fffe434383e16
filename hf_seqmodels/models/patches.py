"""Images as grids of patches: pure functions on sizes, pixels and masks."""

from collections.abc import Sequence

import torch

Size = int | tuple[int, int] | list[int]


def as_pair(size: Size) -> tuple[int, int]:
    """`(height, width)` of a size that may be one number for both."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def patch_grid(image_size: Size, patch_size: Size) -> tuple[int, int]:
    """Patches `(rows, columns)` of an image.

    Raises:
        ValueError: a side of the image is not a multiple of the patch's: no pixel is cropped silently.
    """
    (height, width), (patch_height, patch_width) = as_pair(image_size), as_pair(patch_size)
    if height < patch_height or width < patch_width or height % patch_height or width % patch_width:
        raise ValueError(
            f"image size {height}×{width} is not divisible by patch_size {patch_height}×{patch_width}: resize or pad "
            "the image, or choose another patch_size."
        )
    return height // patch_height, width // patch_width


def patchify(images: torch.Tensor, patch_size: Size) -> torch.Tensor:
    """Cuts images into flattened patches, row by row (Dosovitskiy et al. 2020, section 3.1).

    Args:
        images: `(batch, channels, height, width)`.

    Returns:
        `(batch, rows * columns, channels * patch_height * patch_width)`; a patch is flattened channel by channel, as
        the weights of a convolution are.

    Raises:
        ValueError: see `patch_grid`.
    """
    batch, channels = images.shape[:2]
    rows, columns = patch_grid((images.shape[-2], images.shape[-1]), patch_size)
    height, width = as_pair(patch_size)
    grid = images.reshape(batch, channels, rows, height, columns, width)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * height * width)


def unpatchify(patches: torch.Tensor, patch_size: Size, grid: Sequence[int]) -> torch.Tensor:
    """The inverse of `patchify`.

    Args:
        patches: `(batch, rows * columns, channels * patch_height * patch_width)`.
        grid: `(rows, columns)`.

    Returns:
        `(batch, channels, height, width)`.
    """
    rows, columns = grid
    height, width = as_pair(patch_size)
    cells = patches.reshape(patches.shape[0], rows, columns, -1, height, width)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(patches.shape[0], -1, rows * height, columns * width)


def random_patches(noise: torch.Tensor, ratio: float, eligible: torch.Tensor | None = None) -> torch.Tensor:
    """Marks exactly `round(ratio * count)` patches of each image, those with the lowest noise.

    At least one patch is marked and at least one is not, wherever an image has two.

    Args:
        noise: `(batch, num_patches)`, independent and uniform.
        ratio: share of the patches to mark.
        eligible: `(batch, num_patches)` boolean; others (padding) are neither marked nor counted.

    Returns:
        `(batch, num_patches)` boolean.

    Raises:
        ValueError: `ratio` lies outside (0, 1).
    """
    if not 0 < ratio < 1:
        raise ValueError(f"mask ratio {ratio} must lie in (0, 1).")
    if eligible is None:
        eligible = torch.ones_like(noise, dtype=torch.bool)
    count = eligible.sum(1, keepdim=True)
    marked = (count * ratio).round().clamp(min=1).minimum((count - 1).clamp(min=1))
    rank = noise.masked_fill(~eligible, float("inf")).argsort(1).argsort(1)
    return (rank < marked) & eligible


def kept_indices(visible: torch.Tensor) -> torch.Tensor:
    """Where the visible patches lie, in order, so that an encoder can run on them alone.

    Args:
        visible: `(batch, num_patches)` boolean.

    Returns:
        `(batch, num_kept)`, num_kept being the largest count of any image; -1 fills up the others.
    """
    num_kept = int(visible.sum(1).max())
    ids_keep = (~visible).to(torch.uint8).argsort(dim=1, stable=True)[:, :num_kept]
    return ids_keep.masked_fill(~visible.gather(1, ids_keep), -1)


def gather_patches(patches: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """`(batch, num_patches, dim)` at `(batch, n)` -> `(batch, n, dim)`."""
    return patches.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


__all__ = [
    "Size",
    "as_pair",
    "gather_patches",
    "kept_indices",
    "patch_grid",
    "patchify",
    "random_patches",
    "unpatchify",
]
