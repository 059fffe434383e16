"""Masks of patches and of larger units, and the ViT paper's corruption and colours."""

import itertools

import numpy as np
import pytest
import torch

from hf_seqmodels.data.image_masking import (
    corrupt_patches,
    corruption_uniforms,
    patch_colour_classes,
    patch_noise,
    random_unit_mask,
)
from hf_seqmodels.data.random import Key, generator
from hf_seqmodels.data.streams import Streams
from hf_seqmodels.models.patches import patchify, random_patches

KEYS = [Key(epoch, 0, index) for epoch in (0, 7) for index in (0, 1, 40, 2**40)]


def test_streams_are_those_of_the_generator() -> None:
    streams = Streams(5, "mask")
    for key in [*KEYS, *KEYS[::-1]]:
        expected = generator(5, "mask", *key)
        found = streams.at(*key)
        # 32-bit draws leave half a number behind, which must not reach the next stream.
        assert found.integers(1000, dtype=np.int32) == expected.integers(1000, dtype=np.int32)
        assert np.array_equal(found.random(7), expected.random(7))
        assert found.beta(0.3, 0.3) == expected.beta(0.3, 0.3)
    assert np.array_equal(patch_noise(5, KEYS, 6)[3], generator(5, "mask", *KEYS[3]).random(6))


def test_masks_are_functions_of_seed_and_key() -> None:
    masks = random_unit_mask(1, KEYS, (8, 12), 2, 0.5)
    assert torch.equal(torch.cat([random_unit_mask(1, [key], (8, 12), 2, 0.5) for key in KEYS]), masks)
    assert len({tuple(mask.tolist()) for mask in masks}) == len(KEYS)
    assert not torch.equal(random_unit_mask(2, KEYS, (8, 12), 2, 0.5), masks)


@pytest.mark.parametrize(("image", "patch", "unit"), [((8, 12), 2, 4), ((12, 8), (3, 1), (6, 2)), ((6, 6), 1, None)])
@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.75])
def test_whole_units_in_exact_numbers(image: tuple[int, int], patch: object, unit: object, ratio: float) -> None:
    masks = random_unit_mask(0, KEYS, image, patch, ratio, unit)  # type: ignore[arg-type]
    (height, width), (unit_height, unit_width) = (
        size if isinstance(size, tuple) else (size, size) for size in (patch, unit or patch)
    )
    per_unit = (unit_height // height) * (unit_width // width)
    number = (image[0] // unit_height) * (image[1] // unit_width)
    assert masks.sum(1).tolist() == [round(number * ratio) * per_unit] * len(KEYS)
    grid = masks.view(len(KEYS), image[0] // height, image[1] // width)
    for top, left in itertools.product(range(0, image[0], unit_height), range(0, image[1], unit_width)):
        rows = slice(top // height, (top + unit_height) // height)
        block = grid[:, rows, left // width : (left + unit_width) // width].flatten(1)
        assert torch.equal(block.all(1), block.any(1))


def test_refuses_units_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="mask_patch_size 3×3 must be a multiple of patch_size 2×2"):
        random_unit_mask(0, KEYS, (12, 12), 2, 0.5, 3)
    with pytest.raises(ValueError, match="12×12 is not divisible by patch_size 8×8"):
        random_unit_mask(0, KEYS, (12, 12), 2, 0.5, 8)
    with pytest.raises(ValueError, match="mask ratio 1"):
        random_unit_mask(0, KEYS, (12, 12), 2, 1)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_corruption(channels: int) -> None:
    keys = [Key(0, 0, index) for index in range(150)]
    images = torch.rand(len(keys), channels, 8, 12)
    before = images.clone()
    selected = random_patches(patch_noise(0, keys, 24), 0.5)
    corrupted, masked = corrupt_patches(images, selected, corruption_uniforms(0, keys, 24), 2)
    assert torch.equal(images, before)
    assert selected.sum(1).tolist() == [12] * len(keys)
    assert not (masked & ~selected).any()
    old, new = patchify(images, 2), patchify(corrupted, 2)
    changed = (old != new).any(-1)
    assert not (changed & ~selected).any()
    assert not (changed & masked).any()
    # 1800 decisions: standard errors 0.009 and 0.007.
    assert abs(masked.sum() / selected.sum() - 0.8) < 0.035
    assert abs(changed.sum() / selected.sum() - 0.1) < 0.025
    # Each replacement is another patch of the same image.
    sources = []
    for image, place in changed.nonzero().tolist():
        same = (old[image] == new[image, place]).all(-1)
        same[place] = False
        sources.append(same.nonzero().item())
    assert len(set(sources)) > 15, "hardly any patch is ever taken"


def test_corruption_of_a_single_patch_leaves_it() -> None:
    images = torch.rand(5, 1, 4, 4)
    uniforms = torch.full((5, 1, 2), 0.85, dtype=torch.float64)
    assert torch.equal(corrupt_patches(images, torch.ones(5, 1, dtype=torch.bool), uniforms, 4)[0], images)


@pytest.mark.parametrize(("channels", "bits"), [(1, 3), (3, 3), (3, 1), (5, 2)])
def test_colour_classes(channels: int, bits: int) -> None:
    images = torch.randint(0, 256, (4, channels, 4, 6), dtype=torch.uint8)
    images[0], images[1] = 0, 255
    classes = patch_colour_classes(images.float() / 255, (2, 3), bits)
    for image, found in zip(images.numpy().astype(int), classes.view(4, 2, 2)):
        for row, column in itertools.product(range(2), range(2)):
            patch = image[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            # Floors of exact fractions: mean = sum / (6 · 255).
            levels = [min(2**bits - 1, int(plane.sum()) * 2**bits // (6 * 255)) for plane in patch]
            assert found[row, column] == sum(level << (bits * c) for c, level in enumerate(levels))
    assert classes[0].unique().tolist() == [0]
    assert classes[1].unique().tolist() == [2 ** (bits * channels) - 1]
    with pytest.raises(ValueError, match="bits=0"):
        patch_colour_classes(images.float() / 255, 2, 0)
