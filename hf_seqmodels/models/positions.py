"""Positions of patches in an image: fixed tables, and tables resized to another grid."""

from collections.abc import Callable

import torch
from torch import nn

Grid = tuple[int, int]


def sincos_positions(grid: Grid, dim: int, trained_grid: Grid | None = None) -> torch.Tensor:
    """Two-dimensional sines and cosines (He et al. 2021, appendix A.1): half of the features for x, half for y.

    Args:
        grid: patches `(rows, columns)`.
        dim: features of a position, a multiple of 4.
        trained_grid: the grid that the model was trained on; coordinates are scaled to its range, as bilinear resizing
            of its table would.

    Returns:
        `(rows * columns, dim)` in float32.
    """
    trained = grid if trained_grid is None else trained_grid
    rows, columns = (
        (torch.arange(count, dtype=torch.float64) + 0.5) * (base / count) - 0.5 for count, base in zip(grid, trained)
    )
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = (torch.outer(places, frequencies) for places in (rows, columns))
    y, x = (torch.cat([angles.sin(), angles.cos()], dim=-1) for angles in (y, x))
    table = torch.cat([x.expand(len(rows), -1, -1), y.unsqueeze(1).expand(-1, len(columns), -1)], dim=-1)
    return table.flatten(0, 1).float()


def resize_positions(table: torch.Tensor, grid: Grid, new_grid: Grid) -> torch.Tensor:
    """A learned table for another grid, by bicubic interpolation (Dosovitskiy et al. 2020, section 3.2).

    Args:
        table: `(1, rows * columns, dim)` for `grid`.

    Returns:
        `(1, new_rows * new_columns, dim)` of the same dtype.
    """
    if grid == new_grid:
        return table
    image = (table if table.dtype == torch.float64 else table.float()).unflatten(1, grid).permute(0, 3, 1, 2)
    image = nn.functional.interpolate(image, size=new_grid, mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)


def grids_of_mask(attention_mask: torch.Tensor, grid: Grid) -> list[Grid]:
    """Each image's own grid in a padded batch.

    Args:
        attention_mask: `(batch, rows * columns)`, 1 on real patches.
        grid: `(rows, columns)` of the padded images.

    Raises:
        ValueError: an image's real patches are not a rectangle in the top left corner.
    """
    real = attention_mask.bool().unflatten(1, grid)
    heights, widths = real[:, :, 0].sum(1), real[:, 0, :].sum(1)
    rows, columns = (torch.arange(count, device=real.device) for count in grid)
    rectangles = (rows < heights[:, None])[:, :, None] & (columns < widths[:, None])[:, None, :]
    wrong = ((real != rectangles).flatten(1).any(1) | (heights == 0)).nonzero()
    if len(wrong):
        raise ValueError(
            f"attention_mask of image {wrong[0].item()}: its real patches must fill a rectangle that begins in the "
            "top left corner, with padding to the right and below."
        )
    return list(zip(heights.tolist(), widths.tolist()))


def positions_in_batch(table_of: Callable[[Grid], torch.Tensor], grid: Grid, grids: list[Grid] | None) -> torch.Tensor:
    """The positions of a batch of images, padded ones included.

    Args:
        table_of: a grid -> its table `(1, rows * columns, dim)`.
        grid: of the batch, padding included.
        grids: each image's own, as `grids_of_mask` finds them; `None` if all are `grid`.

    Returns:
        `(1 or batch, rows * columns, dim)`; zeros beyond an image's own grid, where there is only padding.
    """
    if grids is None:
        return table_of(grid)
    padded = {}
    for own in set(grids):
        cells = table_of(own).unflatten(1, own)
        padded[own] = nn.functional.pad(cells, (0, 0, 0, grid[1] - own[1], 0, grid[0] - own[0])).flatten(1, 2)
    return torch.cat([padded[own] for own in grids])


__all__ = ["Grid", "grids_of_mask", "positions_in_batch", "resize_positions", "sincos_positions"]
