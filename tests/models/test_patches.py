"""Patches as pure functions: cutting and putting together, random masks of exact size, indices of what is kept."""

import pytest
import torch
from torch import nn

from hf_seqmodels.models.patches import (
    as_pair,
    gather_patches,
    kept_indices,
    patch_grid,
    patchify,
    random_patches,
    unpatchify,
)

SHAPES = [(1, 8, 8, 2), (3, 6, 12, (2, 3)), (2, 4, 4, 4), (5, 3, 2, 1)]


@pytest.mark.parametrize(("channels", "height", "width", "patch"), SHAPES)
def test_unpatchify_is_the_inverse(channels: int, height: int, width: int, patch) -> None:
    images = torch.randn(2, channels, height, width)
    grid = patch_grid((height, width), patch)
    patches = patchify(images, patch)
    assert patches.shape == (2, grid[0] * grid[1], channels * height * width // (grid[0] * grid[1]))
    assert torch.equal(unpatchify(patches, patch, grid), images)


@pytest.mark.parametrize(("channels", "height", "width", "patch"), SHAPES)
def test_a_linear_layer_on_patches_is_a_strided_convolution(channels: int, height: int, width: int, patch) -> None:
    """So the weights of transformers' and timm's ViT fit as they are."""
    convolution = nn.Conv2d(channels, 7, kernel_size=patch, stride=patch).double()
    images = torch.randn(2, channels, height, width, dtype=torch.float64)
    expected = convolution(images).flatten(2).transpose(1, 2)
    got = nn.functional.linear(patchify(images, patch), convolution.weight.flatten(1), convolution.bias)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_patches_go_row_by_row() -> None:
    images = torch.arange(12.0).view(1, 1, 2, 6)
    assert patchify(images, (1, 3)).tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("size", [(7, 8), (8, 6), (2, 8), (0, 8)])
def test_no_pixel_is_cropped_silently(size: tuple[int, int]) -> None:
    message = f"image size {size[0]}×{size[1]} is not divisible by patch_size 4×4"
    with pytest.raises(ValueError, match=message):
        patch_grid(size, 4)
    with pytest.raises(ValueError, match=message):
        patchify(torch.zeros(1, 3, *size), 4)


def test_pairs() -> None:
    assert as_pair(4) == (4, 4)
    assert as_pair([2, 3]) == as_pair((2, 3)) == (2, 3)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("count", [2, 3, 9, 196])
def test_random_masks_have_exactly_their_size(ratio: float, count: int) -> None:
    marked = random_patches(torch.rand(5, count), ratio)
    assert marked.sum(1).eq(min(max(round(ratio * count), 1), count - 1)).all()


def test_random_masks_are_uniform_and_follow_the_noise() -> None:
    noise = torch.rand(4000, 8)
    marked = random_patches(noise, 0.5)
    # binomial: the deviation of a share over 4,000 draws is 0.008
    assert (marked.double().mean(0) - 0.5).abs().max() < 0.04
    assert torch.equal(marked, random_patches(noise, 0.5))
    worst = noise.masked_fill(~marked, -1).amax(1)
    assert (worst < noise.masked_fill(marked, 2).amin(1)).all()


def test_padding_is_neither_marked_nor_counted() -> None:
    eligible = torch.arange(8) < torch.tensor([8, 4, 2, 1])[:, None]
    for _ in range(20):
        marked = random_patches(torch.rand(4, 8), 0.75, eligible)
        assert not (marked & ~eligible).any()
        assert marked.sum(1).tolist() == [6, 3, 1, 1]


def test_kept_indices_are_in_order_and_filled_up() -> None:
    visible = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    assert kept_indices(visible).tolist() == [[1, 3, 4], [0, -1, -1], [0, 1, -1]]
    assert kept_indices(torch.ones(2, 3).bool()).tolist() == [[0, 1, 2]] * 2


def test_gathering() -> None:
    patches = torch.randn(2, 5, 3)
    indices = torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(gather_patches(patches, indices), torch.stack([patches[0, [4, 0]], patches[1, [1, 1]]]))
