"""Crop, flip, erasing, mixup, CutMix and soft labels, each against a plain version for one image."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_seqmodels.data.augmentation import (
    AugmentationRule,
    augment,
    horizontal_flip,
    padded_crop,
    random_erasing,
)
from hf_seqmodels.data.mixing import box_mask, cutmix, mixed_labels, mixup, soft_labels
from hf_seqmodels.data.randaugment import randaugment

SHAPES = [(1, 8, 8), (3, 7, 10), (5, 12, 6)]
JUST_BELOW_ONE = math.nextafter(1, 0)


def _images(shape: tuple[int, int, int], batch: int = 40) -> torch.Tensor:
    return torch.randint(0, 256, (batch, *shape), dtype=torch.uint8)


def _uniforms(batch: int, count: int) -> torch.Tensor:
    drawn = torch.rand(batch, count, dtype=torch.float64)
    drawn[0], drawn[1] = 0, JUST_BELOW_ONE
    return drawn


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("padding", [1, 5])
def test_padded_crop(shape: tuple[int, int, int], mode: str, padding: int) -> None:
    images, uniforms = _images(shape), _uniforms(40, 2)
    _, height, width = shape
    found = padded_crop(images, uniforms, padding, mode)
    offsets = set()
    for image, uniform, result in zip(images, uniforms.tolist(), found):
        padded = F.pad(image.float(), [padding] * 4, mode="reflect" if mode == "reflect" else "constant")
        top, left = (int(value * (2 * padding + 1)) for value in uniform)
        offsets |= {top, left}
        assert torch.equal(result.float(), padded[:, top : top + height, left : left + width])
    assert offsets == set(range(2 * padding + 1))


def test_reflection_needs_a_larger_image() -> None:
    with pytest.raises(ValueError, match="crop_padding=8 must be smaller than the image, 8×8"):
        padded_crop(_images((1, 8, 8)), _uniforms(40, 2), 8)
    assert padded_crop(_images((1, 8, 8)), _uniforms(40, 2), 8, "zero").shape == (40, 1, 8, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flip(shape: tuple[int, int, int]) -> None:
    images, uniforms = _images(shape), _uniforms(40, 1)
    found = horizontal_flip(images, uniforms, 0.3)
    for image, uniform, result in zip(images, uniforms[:, 0].tolist(), found):
        assert torch.equal(result, image.flip(2) if uniform < 0.3 else image)
    assert torch.equal(horizontal_flip(images, uniforms, 1), images.flip(3))
    assert torch.equal(horizontal_flip(images, uniforms, 0), images)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_erasing(shape: tuple[int, int, int]) -> None:
    images, uniforms = torch.rand(40, *shape), _uniforms(40, 5)
    fill = torch.arange(shape[0]) / 7 - 1
    _, height, width = shape
    found = random_erasing(images, uniforms, 0.6, fill.tolist())
    for image, (whether, area, aspect, row, column), result in zip(images, uniforms.tolist(), found):
        expected = image.clone()
        if whether < 0.6:
            pixels, ratio = (0.02 + 0.38 * area) * height * width, 0.3 * (1 / 0.09) ** aspect
            rows = min(height, max(1, round(math.sqrt(pixels * ratio))))
            columns = min(width, max(1, round(math.sqrt(pixels / ratio))))
            top, left = int(row * (height - rows + 1)), int(column * (width - columns + 1))
            expected[:, top : top + rows, left : left + columns] = fill.view(-1, 1, 1)
        assert torch.equal(result, expected)


def test_erased_share() -> None:
    images = torch.ones(4000, 1, 32, 32)
    erased = (random_erasing(images, torch.rand(4000, 5, dtype=torch.float64), 0.25, 0.0) == 0).float().mean((1, 2, 3))
    # Standard errors 0.007 and 0.004.
    assert abs((erased > 0).float().mean() - 0.25) < 0.03
    assert abs(erased[erased > 0].mean() - 0.21) < 0.015
    assert erased.max() < 0.45


def test_augment_is_its_parts_in_order() -> None:
    rule = AugmentationRule(crop_padding=2, flip=0.5, randaugment_ops=2, erasing=0.5)
    images = _images((3, 9, 12))
    uniforms = _uniforms(40, rule.num_uniforms)
    before = images.clone()
    found = augment(images, uniforms, rule, [0.1, 0.2, 0.3])
    crop, flip, rounds, erasing = uniforms.split([2, 1, 4, 5], dim=1)
    expected = randaugment(horizontal_flip(padded_crop(images, crop, 2), flip, 0.5), rounds, 9)
    assert torch.equal(found, random_erasing(expected.float() / 255, erasing, 0.5, [0.1, 0.2, 0.3]))
    assert torch.equal(images, before)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < found.max() <= 1
    nothing = AugmentationRule()
    assert torch.equal(augment(images, uniforms[:, : nothing.num_uniforms], nothing, 0.0), images.float() / 255)


def test_augment_refuses() -> None:
    with pytest.raises(ValueError, match=r"images of torch\.float32"):
        augment(torch.rand(2, 1, 4, 4), _uniforms(2, 8), AugmentationRule(), 0.0)
    with pytest.raises(ValueError, match=r"uniforms of shape \(2, 3\): .* = \(2, 8\)"):
        augment(_images((1, 4, 4), 2), _uniforms(2, 3), AugmentationRule(), 0.0)


def test_mixup() -> None:
    images, partners, weights = torch.rand(8, 3, 5, 6), torch.rand(8, 3, 5, 6), torch.rand(8)
    weights[0], weights[1] = 1, 0
    found = mixup(images, partners, weights)
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[1], partners[1])
    for number, weight in enumerate(weights.tolist()):
        expected = weight * images[number] + (1 - weight) * partners[number]
        # One product and one sum of numbers up to 1, in float32.
        torch.testing.assert_close(found[number], expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cutmix_weight_is_the_area_left(shape: tuple[int, int, int]) -> None:
    images, partners = torch.zeros(200, *shape), torch.ones(200, *shape)
    weights, uniforms = torch.rand(200), _uniforms(200, 2)
    weights[2], weights[3] = 1, 0
    mixed, remaining = cutmix(images, partners, weights, uniforms)
    _, height, width = shape
    torch.testing.assert_close(remaining, 1 - mixed.mean((1, 2, 3)), rtol=0, atol=1e-6)  # a float32 mean of 0 and 1
    for number, (weight, (row, column)) in enumerate(zip(weights.tolist(), uniforms.tolist())):
        rows, columns = int(height * math.sqrt(1 - weight)), int(width * math.sqrt(1 - weight))
        top, left = int(row * height) - rows // 2, int(column * width) - columns // 2
        expected = torch.zeros(shape)
        expected[:, max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)] = 1
        assert torch.equal(mixed[number], expected)
    assert torch.equal(mixed[2], images[2])
    assert remaining[2] == 1
    assert (remaining[4:] < 1).any()


def test_box_mask_outside() -> None:
    mask = box_mask(torch.tensor([-2, 3]), torch.tensor([-1, 9]), torch.tensor([[3, 3], [2, 2]]), 4, 5)
    assert mask.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]


def test_soft_labels() -> None:
    labels, partners = torch.tensor([0, 2, 1, 2]), torch.tensor([1, 2, 0, 0])
    hard = soft_labels(labels, 3)
    assert torch.equal(hard, F.one_hot(labels, 3).float())
    smooth = soft_labels(labels, 3, 0.3)
    expected = np.full((4, 3), 0.1)
    expected[range(4), labels] = 0.8
    np.testing.assert_allclose(smooth.numpy(), expected, atol=1e-6)
    mixed = mixed_labels(smooth, soft_labels(partners, 3, 0.3), torch.tensor([0.25, 0.5, 1, 0]))
    # Sums of three float32 numbers.
    np.testing.assert_allclose(mixed.sum(1).numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(mixed[0].numpy(), [0.275, 0.625, 0.1], atol=1e-6)
    assert torch.equal(mixed[2], smooth[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.1}, r"flip=1\.1 must lie in \[0, 1\]"),
        ({"erasing": -0.1}, r"erasing=-0\.1 must lie in"),
        ({"crop_padding": -1}, "crop_padding=-1 must be at least 0"),
        ({"randaugment_ops": -2}, "randaugment_ops=-2 must be at least 0"),
        ({"randaugment_magnitude": 11}, r"randaugment_magnitude=11 must lie in \[0, 10\]"),
        ({"randaugment_operations": ("blur",)}, r"randaugment_operations=\('blur',\) must be names of identity"),
        ({"randaugment_operations": ()}, "randaugment_operations"),
        ({"crop_padding_mode": "wrap"}, "crop_padding_mode='wrap' must be one of reflect, zero"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0 must lie in \[0, 1\)"),
        ({"mixup_alpha": float("nan")}, "mixup_alpha=nan"),
        ({"mixup_alpha": 0.8}, r"mixing_probability=0\.0, mixup_alpha=0\.8.* needs a probability above 0"),
        ({"mixing_probability": 0.5}, r"mixing_probability=0\.5, mixup_alpha=0\.0"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentationRule(**settings)
