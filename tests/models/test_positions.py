"""Positions of patches: MAE's own table, coordinates on other grids, resizing, and grids in padded batches."""

import pytest
import torch
from torch import nn
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from hf_seqmodels.models.positions import grids_of_mask, positions_in_batch, resize_positions, sincos_positions

GRIDS = [(1, 1), (3, 3), (14, 14), (2, 5), (7, 3)]


@pytest.mark.parametrize("grid", GRIDS)
def test_sincos_is_maes_table(grid: tuple[int, int]) -> None:
    """facebookresearch/mae puts the columns' half first ("here w goes first"); transformers 5.23 the rows'."""
    rows, columns = build_2d_sinusoidal_position_embedding(*grid, embed_dim=32).chunk(2, dim=-1)
    # float64 inside, rounded to float32
    torch.testing.assert_close(sincos_positions(grid, 32), torch.cat([columns, rows], -1), rtol=0, atol=1e-6)


def test_sincos_tells_all_places_apart() -> None:
    table = sincos_positions((14, 14), 64)
    assert table.shape == (196, 64) and table.dtype == torch.float32
    distances = torch.cdist(table, table) + 10 * torch.eye(196)
    assert distances.min() > 0.1


def test_coordinates_of_another_grid_are_scaled() -> None:
    """Twice as many patches along a side lie a quarter of an old patch beside the old centres."""
    frequencies = 10000.0 ** -(torch.arange(2.0) / 2)
    table = sincos_positions((1, 4), 8, trained_grid=(1, 2))
    angles = torch.tensor([-0.25, 0.25, 0.75, 1.25])[:, None] * frequencies
    torch.testing.assert_close(table[:, :4], torch.cat([angles.sin(), angles.cos()], -1), rtol=0, atol=1e-6)
    assert torch.equal(sincos_positions((3, 5), 8, trained_grid=(3, 5)), sincos_positions((3, 5), 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_learned_positions_are_resized_as_images(dtype: torch.dtype) -> None:
    table = torch.randn(1, 6, 4, dtype=dtype)
    resized = resize_positions(table, (3, 2), (6, 5))
    wide = table if dtype == torch.float64 else table.float()
    expected = nn.functional.interpolate(wide.view(1, 3, 2, 4).movedim(-1, 1), size=(6, 5), mode="bicubic")
    assert torch.equal(resized, expected.movedim(1, -1).reshape(1, 30, 4).to(dtype))
    assert resized.dtype == dtype
    assert resize_positions(table, (3, 2), (3, 2)) is table


def test_resizing_keeps_what_is_the_same_everywhere() -> None:
    table = torch.ones(1, 6, 4) * torch.arange(4.0)
    torch.testing.assert_close(resize_positions(table, (3, 2), (5, 7)), torch.ones(1, 35, 4) * torch.arange(4.0))


def rectangle(rows: int, columns: int) -> torch.Tensor:
    """Of a grid of 3 × 4."""
    cells = torch.zeros(3, 4, dtype=torch.long)
    cells[:rows, :columns] = 1
    return cells.flatten()


def test_grids_of_a_mask() -> None:
    grids = [(3, 4), (1, 1), (2, 4), (3, 1)]
    assert grids_of_mask(torch.stack([rectangle(*grid) for grid in grids]), (3, 4)) == grids


@pytest.mark.parametrize("wrong", [0, 1, 5])
def test_what_is_no_rectangle(wrong: int) -> None:
    cells = rectangle(2, 3)
    cells[wrong] = 0
    with pytest.raises(ValueError, match="attention_mask of image 1: its real patches must fill a rectangle"):
        grids_of_mask(torch.stack([rectangle(3, 4), cells]), (3, 4))


def test_nothing_real() -> None:
    with pytest.raises(ValueError, match="attention_mask of image 0"):
        grids_of_mask(torch.zeros(1, 12), (3, 4))


def test_each_image_has_the_positions_of_its_own_grid() -> None:
    def table_of(grid: tuple[int, int]) -> torch.Tensor:
        return sincos_positions(grid, 8, (3, 4)).unsqueeze(0)

    grids = [(3, 4), (2, 1), (2, 1)]
    positions = positions_in_batch(table_of, (3, 4), grids).unflatten(1, (3, 4))
    for own, cells in zip(grids, positions, strict=True):
        assert torch.equal(cells[: own[0], : own[1]], table_of(own)[0].unflatten(0, own))
        assert cells[own[0] :].eq(0).all() and cells[:, own[1] :].eq(0).all()
    assert torch.equal(positions_in_batch(table_of, (3, 4), None), table_of((3, 4)))
