"""RandAugment's operations against Pillow's, on every image of a batch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from hf_seqmodels.data.randaugment import OPERATIONS, PAPER_OPERATIONS, apply_operations, grey, randaugment

Reference = Callable[[Image.Image, float], Image.Image]


def _images(channels: int, batch: int = 6, height: int = 24, width: int = 30) -> torch.Tensor:
    """Smooth images with edges, of different ranges, one of them plain."""
    rng = np.random.default_rng(channels)
    y, x = np.mgrid[:height, :width]
    images = []
    for _ in range(batch * channels):
        a, b, c = rng.uniform(-0.4, 0.4, 3)
        wave = 128 + rng.uniform(30, 120) * np.sin(a * x + b * y + 9 * c) + 30 * (x > 9)
        images.append(np.clip(wave, 0, 255))
    stacked = np.array(images, dtype=np.uint8).reshape(batch, channels, height, width)
    stacked[-1] = 77
    return torch.from_numpy(stacked)


def _to_pil(image: torch.Tensor) -> Image.Image:
    array = image.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


def _from_pil(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


POINTWISE: dict[str, Reference] = {
    "identity": lambda image, level: image,
    "autocontrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
    "invert": lambda image, level: ImageOps.invert(image),
    "posterize": lambda image, level: ImageOps.posterize(image, 8 - round(4 * abs(level))),
    "solarize": lambda image, level: ImageOps.solarize(image, 256 * (1 - abs(level))),
    "color": lambda image, level: ImageEnhance.Color(image).enhance(1 + 0.9 * level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(1 + 0.9 * level),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(1 + 0.9 * level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * level),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("magnitude", [0, 5, 9.5, 10])
def test_equals_pillow(name: str, channels: int, magnitude: float) -> None:
    images = _images(channels)
    signs = torch.tensor([1.0, -1.0] * 3)
    found = apply_operations(images, [name] * len(images), signs, magnitude).numpy().astype(int)
    for image, sign, result in zip(images, signs.tolist(), found):
        expected = _from_pil(POINTWISE[name](_to_pil(image), sign * magnitude / 10))
        # Both cut off a product of floats, which may fall on either side of a whole number.
        assert abs(result - expected).max() <= 1, (name, sign)
        assert (result != expected).mean() < 0.02


def _affine(image: Image.Image, level: float, name: str) -> Image.Image:
    """Pillow counts from the corner of the first pixel; ours turns about the centre."""
    width, height = image.size
    shear_x, shear_y = (0.3 * level if name == f"shear_{axis}" else 0.0 for axis in "xy")
    shift_x = 0.45 * level * width if name == "translate_x" else -shear_x * height / 2
    shift_y = 0.45 * level * height if name == "translate_y" else -shear_y * width / 2
    data = (1, shear_x, shift_x, shear_y, 1, shift_y)
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


GEOMETRIC: dict[str, Reference] = {
    "rotate": lambda image, level: image.rotate(30 * level, Image.Resampling.BILINEAR),
    "shear_x": lambda image, level: _affine(image, level, "shear_x"),
    "shear_y": lambda image, level: _affine(image, level, "shear_y"),
    "translate_x": lambda image, level: _affine(image, level, "translate_x"),
    "translate_y": lambda image, level: _affine(image, level, "translate_y"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("magnitude", [4, 10])
def test_geometry_equals_pillow(name: str, channels: int, magnitude: float) -> None:
    images = _images(channels)
    signs = torch.tensor([1.0, -1.0] * 3)
    found = apply_operations(images, [name] * len(images), signs, magnitude).numpy().astype(int)
    white = Image.new("L", (images.shape[3], images.shape[2]), 255)
    for image, sign, result in zip(images, signs.tolist(), found):
        level = sign * magnitude / 10
        expected = _from_pil(GEOMETRIC[name](_to_pil(image), level)).astype(int)
        # Where the image's own border lands, Pillow repeats pixels and we fade to black: compare what is well inside
        # or well outside of it. Pillow rounds coordinates to 16 bits, and cuts off where we round.
        area = _from_pil(GEOMETRIC[name](white, level))[0]
        padded = np.pad(area, 1, mode="edge")
        neighbours = [padded[y : y + area.shape[0], x : x + area.shape[1]] for y in range(3) for x in range(3)]
        settled = np.min(neighbours, axis=0) == np.max(neighbours, axis=0)
        settled[[0, -1]] = settled[:, [0, -1]] = False
        assert settled.mean() > 0.5
        assert abs(result - expected)[:, settled].max() <= 2, (name, sign)


def test_rotation_direction_and_sign() -> None:
    images = _images(1)[:1]
    left, right = (apply_operations(images, ["rotate"], torch.tensor([sign]), 10) for sign in (1.0, -1.0))
    assert not torch.equal(left, right)
    mirrored = apply_operations(images.flip(3), ["rotate"], torch.tensor([-1.0]), 10).flip(3)
    # Mirroring changes the order of the sums.
    assert (left.int() - mirrored.int()).abs().max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "color"])
def test_any_number_of_channels(channels: int, name: str) -> None:
    images = _images(channels)
    changed = apply_operations(images, [name] * len(images), torch.ones(len(images)), 9)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    if name not in ("contrast", "identity"):
        # Channels don't know of each other, contrast's mean apart.
        alone = [
            apply_operations(images[:, [c]], [name] * len(images), torch.ones(len(images)), 9) for c in range(channels)
        ]
        assert torch.equal(changed, torch.cat(alone, dim=1))
        assert not torch.equal(changed, images)


def test_color_is_drawn_for_three_channels_only() -> None:
    uniforms = torch.rand(6, 2, dtype=torch.float64)
    for channels in (1, 2, 5):
        with pytest.raises(ValueError, match=f"none of them applies to {channels} channels"):
            randaugment(_images(channels), uniforms, 9, ("color",))
    assert torch.equal(
        randaugment(_images(5), uniforms, 9, ("color", "invert")), randaugment(_images(5), uniforms, 9, ("invert",))
    )
    assert not torch.equal(randaugment(_images(3), uniforms, 9, ("color",)), _images(3))


def test_operations_follow_each_other_and_have_equal_chances() -> None:
    images = _images(3)
    names = PAPER_OPERATIONS
    uniforms = torch.rand(len(images), 4, dtype=torch.float64)
    by_hand = images
    for round_ in (0, 1):
        choice, direction = uniforms[:, 2 * round_].tolist(), uniforms[:, 2 * round_ + 1].tolist()
        results = [
            apply_operations(
                by_hand[[row]],
                [names[math.floor(choice[row] * len(names))]],
                torch.tensor([-1.0 if direction[row] < 0.5 else 1.0]),
                7,
            )
            for row in range(len(images))
        ]
        by_hand = torch.cat(results)
    before = images.clone()
    assert torch.equal(randaugment(images, uniforms, 7), by_hand)
    assert torch.equal(images, before)
    # The largest number below 1 is the last operation, not one past it.
    edge = torch.full((6, 2), math.nextafter(1, 0), dtype=torch.float64)
    assert torch.equal(randaugment(images, edge, 7), apply_operations(images, [names[-1]] * 6, torch.ones(6), 7))


def test_grey_is_pillows() -> None:
    images = _images(3)
    expected = np.stack([np.asarray(_to_pil(image).convert("L")) for image in images])
    assert np.array_equal(grey(images)[:, 0].numpy(), expected)


def test_tiny_images_keep_their_pixels_when_sharpened() -> None:
    images = _images(1, height=2, width=9)
    expected = np.stack([_from_pil(_to_pil(image).filter(ImageFilter.SMOOTH)) for image in images])
    assert np.array_equal(expected, images.numpy())
    assert torch.equal(apply_operations(images, ["sharpness"] * 6, torch.ones(6), 10), images)
