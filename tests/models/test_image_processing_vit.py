"""Images of every kind become the same pixel values; settings and images that can't are refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import ExifTags, Image
from transformers import (
    AutoImageProcessor,
    PreTrainedConfig,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_seqmodels.models.image_processing_vit import (
    SeqViTImageProcessor,
    denormalize_images,
    normalize_images,
    resize_images,
)

# A few float32 roundings of values up to 3: the library divides twice, ours multiplies and adds.
ATOL = 1e-6
_RANDOM = np.random.default_rng(0)
COLOUR = _RANDOM.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = _RANDOM.integers(0, 256, (12, 20), dtype=np.uint8)
SIZE = {"height": 8, "width": 16}


def pixels(images: Any, **settings: Any) -> torch.Tensor:
    """`pixel_values` of a processor that leaves values in 0..1 and sizes alone, unless told otherwise."""
    settings = {"do_resize": False, "do_normalize": False, **settings}
    return SeqViTImageProcessor(**settings)(images, return_tensors="pt").pixel_values


def smooth(count: int, height: int, width: int) -> np.ndarray:
    """`(count, height, width, 3)` images whose neighbouring pixels are alike, as in photographs."""
    small = [Image.fromarray(np.random.randint(0, 256, (6, 7, 3), dtype=np.uint8)) for _ in range(count)]
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in small])


@pytest.mark.parametrize(
    "settings",
    [
        {"size": SIZE},
        {"size": {"height": 30, "width": 30}, "resample": 3},
        {"do_resize": False},
        {"size": SIZE, "do_normalize": False},
        {"size": SIZE, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"size": SIZE, "rescale_factor": 1 / 127},
    ],
)
def test_same_as_transformers(settings: dict[str, Any]) -> None:
    images = [Image.fromarray(array) for array in smooth(3, 12, 20)]
    theirs = ViTImageProcessorPil(**settings)(images, return_tensors="pt").pixel_values
    ours = SeqViTImageProcessor(**settings)(images, return_tensors="pt").pixel_values
    assert ours.dtype == theirs.dtype == torch.float32 and ours.is_contiguous()
    torch.testing.assert_close(ours, theirs, atol=ATOL, rtol=0)


def test_without_rescaling_as_transformers() -> None:
    settings = {"do_resize": False, "do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}
    theirs = ViTImageProcessorPil(**settings)(Image.fromarray(COLOUR), return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels(COLOUR, **settings, do_normalize=True), theirs, atol=ATOL, rtol=0)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_kind_of_colour_image(num_channels: int, tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    image.save(tmp_path / "image.png")
    first = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))
    read_only = COLOUR.copy()
    read_only.flags.writeable = False
    expected = np.asarray(image if num_channels == 3 else image.convert("L"), dtype=np.float32) / 255
    expected = torch.from_numpy(expected.reshape(12, 20, num_channels)).permute(2, 0, 1)[None]
    kinds = [
        image,
        COLOUR,
        first,
        read_only,
        COLOUR[:, ::-1].copy()[:, ::-1],
        torch.from_numpy(COLOUR),
        torch.from_numpy(first),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.float32),
        COLOUR[None],
        torch.from_numpy(first)[None],
        str(tmp_path / "image.png"),
    ]
    for kind in kinds:
        # Grey of integers and floats is not rounded to a level: within half of one.
        exact = num_channels == 3 or getattr(kind, "dtype", None) in (None, np.uint8, torch.uint8)
        ours = pixels(kind, num_channels=num_channels)
        torch.testing.assert_close(ours, expected, atol=ATOL if exact else 0.51 / 255, rtol=0)
    many = pixels([image, COLOUR, [first, torch.from_numpy(COLOUR)], COLOUR[None]], num_channels=num_channels)
    torch.testing.assert_close(many, expected.expand(5, -1, -1, -1), atol=ATOL, rtol=0)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_kind_of_grey_image(num_channels: int) -> None:
    expected = torch.from_numpy(GREY / np.float32(255)).expand(1, num_channels, -1, -1)
    kinds = [GREY, GREY[None], GREY[..., None], Image.fromarray(GREY), GREY / 255, Image.fromarray(GREY / 255.0)]
    for kind in [*kinds, Image.fromarray(GREY.astype(np.int32)), Image.fromarray(GREY.astype(np.uint16) * 257)]:
        torch.testing.assert_close(pixels(kind, num_channels=num_channels), expected, atol=ATOL, rtol=0)
    batch = pixels([GREY, torch.from_numpy(GREY)], num_channels=num_channels, input_data_format="channels_last")
    torch.testing.assert_close(batch, expected.expand(2, -1, -1, -1), atol=ATOL, rtol=0)
    black_and_white = pixels(GREY > 99, num_channels=num_channels)
    assert torch.equal(black_and_white[0, 0], torch.from_numpy(GREY > 99).float())


@pytest.mark.parametrize("mode", ["RGBA", "P", "1", "LA", "CMYK", "YCbCr", "HSV", "PA", "RGBa"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_modes(mode: str, num_channels: int) -> None:
    image = Image.fromarray(smooth(1, 12, 20)[0])
    if mode == "PA":
        image = image.convert("P")
    image = image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)
    rgb = np.asarray(image.convert("RGBA" if mode == "RGBa" else "RGB").convert("RGB"))
    # As the pipeline sees it, which makes everything RGB first; grey with one rounding more.
    torch.testing.assert_close(
        pixels(image, num_channels=num_channels), pixels(rgb, num_channels=num_channels), atol=1.01 / 255, rtol=0
    )


def test_transparency_is_dropped() -> None:
    image = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]))
    assert torch.equal(pixels(image), pixels(COLOUR))


@pytest.mark.parametrize("num_channels", [2, 4, 5])
def test_any_number_of_channels(num_channels: int) -> None:
    array = np.random.randint(0, 256, (num_channels, 12, 20), dtype=np.uint8)
    expected = torch.from_numpy(array).float()[None] / 255
    settings = {"num_channels": num_channels}
    for kind in (array, array.transpose(1, 2, 0), torch.from_numpy(array)[None]):
        torch.testing.assert_close(pixels(kind, **settings), expected, atol=ATOL, rtol=0)
    resized = pixels(array, **settings, do_resize=True, size=SIZE, do_normalize=True)
    assert resized.shape == (1, num_channels, 8, 16)
    with pytest.raises(ValueError, match=rf"\(3, 12, 20\).*num_channels={num_channels}"):
        pixels(COLOUR.transpose(2, 0, 1), **settings)


def test_bands_of_an_image() -> None:
    array = np.random.randint(0, 256, (12, 20, 4), dtype=np.uint8)
    assert torch.equal(pixels(Image.fromarray(array), num_channels=4), pixels(array, num_channels=4))
    with pytest.raises(ValueError, match="mode RGB has 3 channels, where num_channels=5"):
        pixels(Image.fromarray(COLOUR), num_channels=5)
    with pytest.raises(ValueError, match="mode RGB has 3 channels, where num_channels=4"):
        pixels(Image.fromarray(COLOUR).convert("P"), num_channels=4)


def test_layout_where_both_fit() -> None:
    array = np.random.randint(0, 256, (3, 5, 3), dtype=np.uint8)
    assert pixels(array).shape == (1, 3, 5, 3)
    assert pixels(array, input_data_format="channels_last").shape == (1, 3, 3, 5)


def test_exif_orientation() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "png", exif=exif)
    upright = np.rot90(COLOUR, -1)
    assert torch.equal(pixels(Image.open(stream)), pixels(upright))


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    unit, bytes_as_floats = GREY / np.float32(255), GREY.astype(np.float32)
    both = pixels(np.stack([unit, bytes_as_floats])[:, None], num_channels=1)
    torch.testing.assert_close(both[0], both[1], atol=ATOL, rtol=0)
    assert torch.equal(both[:1], pixels(unit, num_channels=1))
    assert torch.equal(both[1:], pixels(bytes_as_floats, num_channels=1))


@pytest.mark.parametrize("resample", [2, 3])
def test_floats_are_resized_like_bytes(resample: int) -> None:
    settings = {"do_resize": True, "size": (30, 9), "resample": resample}
    floats, integers = pixels(COLOUR / 255, **settings), pixels(COLOUR, **settings)
    assert floats.min() >= 0 and floats.max() <= 1
    assert integers.unique().numel() <= 256 < floats.unique().numel()  # floats aren't made bytes on the way
    # Bytes are clamped between the two passes of bicubic, floats at the end only: noise overshoots most.
    torch.testing.assert_close(floats, integers, atol=(2 if resample == 2 else 25) / 255, rtol=0)


@pytest.mark.parametrize("values", [[-1.0, 1.0], [0.0, 256.0], [0.0, float("nan")], [0.0, float("inf")]])
def test_floats_in_another_range(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"floats in \[0, 1\] or in 0\.\.255"):
        pixels(np.resize(values, (4, 4)), num_channels=1)
    if np.isfinite(values).all():
        assert pixels(np.resize(values, (4, 4)), num_channels=1, do_rescale=False)[0, 0, 0].tolist() == values * 2
    else:
        with pytest.raises(ValueError, match="must be finite"):
            pixels(np.resize(values, (4, 4)), num_channels=1, do_rescale=False)


def test_deeper_integers() -> None:
    deep = np.random.randint(0, 2**16, (12, 20), dtype=np.uint16)
    with pytest.raises(ValueError, match=r"integers in 0\.\.255"):
        pixels(deep, num_channels=1)
    expected = torch.from_numpy(deep / np.float32(65535))[None, None]
    for kind in (deep, deep.astype(">u2"), torch.from_numpy(deep.astype(np.int32))):
        ours = pixels(kind, num_channels=1, rescale_factor=1 / 65535)
        torch.testing.assert_close(ours, expected, atol=ATOL, rtol=0)


def test_a_batch_equals_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.randint(0, 256, (5, 3, 12, 20), dtype=torch.uint8)
    processor = SeqViTImageProcessor(size=(12, 20), image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch]
    expected = processor(images, return_tensors="pt").pixel_values

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a batch of tensors needs no PIL image")

    monkeypatch.setattr(Image, "fromarray", refuse)
    calls = []
    process_image = SeqViTImageProcessor.process_image
    monkeypatch.setattr(
        SeqViTImageProcessor, "process_image", lambda *args, **kw: calls.append(1) or process_image(*args, **kw)
    )
    for kind in (batch, batch.numpy(), list(batch), list(batch.numpy()), [batch[:2], batch[2:]]):
        assert torch.equal(processor(kind, return_tensors="pt").pixel_values, expected)
    assert len(calls) == 5  # each of them in one go


@pytest.mark.parametrize("size", [(32, 32), (24, 160), (100, 40), (90, 120), (57, 160), (57, 83)])
@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("noise", [False, True])
def test_tensors_are_resized_as_by_pillow(size: tuple[int, int], resample: int, noise: bool) -> None:
    images = np.random.randint(0, 256, (3, 57, 83, 3), dtype=np.uint8) if noise else smooth(3, 57, 83)
    pillow = np.stack([np.asarray(Image.fromarray(image).resize(size[::-1], resample)) for image in images])
    ours = resize_images(torch.from_numpy(images).permute(0, 3, 1, 2), size, resample).permute(0, 2, 3, 1)
    difference = (ours.int() - torch.from_numpy(pillow).int()).abs()
    assert ours.dtype == torch.uint8
    assert difference.max() <= 2 and difference.float().mean() < 0.05
    if noise and size != (57, 83):  # the control: the other filter differs
        other = resize_images(torch.from_numpy(images).permute(0, 3, 1, 2), size, 5 - resample).permute(0, 2, 3, 1)
        assert (other.int() - torch.from_numpy(pillow).int()).abs().max() > 2


def test_normalize_and_back() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 5), dtype=torch.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    values = normalize_images(images, mean, std)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected.float(), atol=ATOL, rtol=0)
    for dtype in (torch.float32, torch.float64):
        floats = images.to(dtype) / 255
        before = floats.clone()
        torch.testing.assert_close(normalize_images(floats, mean, std), values, atol=ATOL, rtol=0)
        assert torch.equal(floats, before)
    back = denormalize_images(values, mean, std)
    assert torch.equal((back * 255).round().to(torch.uint8), images)
    assert denormalize_images(values * 10, mean, std).aminmax() == (0, 1)
    assert torch.equal(normalize_images(images, 0.5, 0.5), normalize_images(images, [0.5] * 3, [0.5] * 3))
    differentiable = (images / 255).requires_grad_()
    normalize_images(differentiable, 0.5, 0.25).sum().backward()
    assert torch.equal(differentiable.grad, torch.full_like(differentiable, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 4, 4), 0.5, 0.5), r"\(batch, channels, height, width\).*\(3, 4, 4\)"),
        ((torch.zeros(1, 3, 4, 4, dtype=torch.int64), 0.5, 0.5), "of uint8 or floats; got .*int64"),
        ((torch.zeros(1, 3, 4, 4), [0.5], 0.5), "mean=.* has 1 values for num_channels=3"),
        ((torch.zeros(1, 3, 4, 4), 0.5, [0.5] * 4), "std=.* has 4 values for num_channels=3"),
        ((torch.zeros(1, 3, 4, 4), 0.5, 0.0), "std=.* must be greater than 0"),
    ],
)
def test_normalize_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize_images(*arguments)


@pytest.mark.parametrize("return_tensors", ["pt", "np", None])
def test_padding(return_tensors: str | None) -> None:
    sizes = [(8, 6), (4, 9), (8, 9)]
    arrays = [np.random.randint(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    processor = SeqViTImageProcessor(do_resize=False, do_pad=True, patch_size=[4, 3], image_mean=0.1)
    output = processor([arrays[0], Image.fromarray(arrays[1]), arrays[2]], return_tensors=return_tensors)
    values, mask = (torch.as_tensor(np.stack(list(output[key]))) for key in ("pixel_values", "attention_mask"))
    assert values.shape == (3, 3, 8, 9) and values.dtype == torch.float32
    assert mask.tolist() == [[1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1] * 6] and mask.dtype == torch.int64
    for value, array in zip(values, arrays):
        height, width = array.shape[:2]
        alone = processor(array, return_tensors="pt")
        assert torch.equal(value[:, :height, :width], alone.pixel_values[0])
        assert alone.attention_mask.all() and alone.attention_mask.shape == (1, height // 4 * width // 3)
        # After normalising: filling with zeros before it would have given -0.2.
        assert value.count_nonzero() == alone.pixel_values.count_nonzero() <= 3 * height * width


def test_padding_refuses() -> None:
    with pytest.raises(ValueError, match="image size 12×20 is not divisible by patch_size 8×8"):
        SeqViTImageProcessor(do_resize=False, do_pad=True, patch_size=8)([COLOUR, COLOUR[:8, :8]])
    with pytest.raises(ValueError, match="do_pad=True needs patch_size"):
        SeqViTImageProcessor(do_pad=True)
    with pytest.raises(ValueError, match="do_pad=True needs patch_size"):
        SeqViTImageProcessor()(COLOUR, do_pad=True)


def test_images_of_several_sizes() -> None:
    processor = SeqViTImageProcessor(do_resize=False)
    separate = processor([COLOUR, COLOUR[:7]]).pixel_values
    assert [array.shape for array in separate] == [(3, 12, 20), (3, 7, 20)]
    assert "attention_mask" not in processor(COLOUR)
    for return_tensors in ("pt", "np"):
        with pytest.raises(ValueError, match=r"\(3, 7, 20\), \(3, 12, 20\).* don't make one tensor"):
            processor([COLOUR, COLOUR[:7]], return_tensors=return_tensors)
    resized = processor([COLOUR, COLOUR[:7]], do_resize=True, size=SIZE, return_tensors="np").pixel_values
    assert isinstance(resized, np.ndarray) and resized.shape == (2, 3, 8, 16)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 12, 20), np.uint8), r"\(4, 12, 20\) do not have num_channels=3"),
        (torch.zeros(2, 12, 20, 5), r"\(12, 20, 5\) do not have num_channels=3"),
        (np.zeros((64, 28, 28), np.uint8), r"\(64, 28, 28\).*\(batch, 1, height, width\)"),
        (np.zeros(12, np.uint8), r"shape \(12,\) is not supported"),
        (np.zeros((1, 1, 3, 4, 4), np.uint8), r"shape \(1, 1, 3, 4, 4\) is not supported"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\) is not supported"),
        (np.zeros((4, 4), complex), "dtype complex128 is not supported"),
        (torch.zeros(4, 4, dtype=torch.complex64), "dtype torch.complex64 is not supported"),
        (np.full((4, 4), None), "dtype object is not supported"),
        ([], "images is empty"),
        ([[]], "images is empty"),
        (None, "type NoneType is not supported"),
        ([[0, 1], [1, 0]], "type int is not supported"),
        ({"image": COLOUR}, "type dict is not supported"),
        ("no/such/file.png", "Incorrect image source"),
    ],
)
def test_unsupported_images(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeqViTImageProcessor()(image)


def test_corrupt_files(tmp_path: Path) -> None:
    Image.fromarray(smooth(1, 64, 64)[0]).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    assert pixels(Image.open(tmp_path / "whole.jpg")).shape == (1, 3, 64, 64)
    with (
        Image.open(tmp_path / "truncated.jpg") as image,
        pytest.raises(ValueError, match=r"cannot be decoded: .*truncated"),
    ):
        pixels(image)
    for name in ("truncated", "text"):
        with pytest.raises(ValueError, match=rf"{name}.jpg' cannot be read"):
            pixels(str(tmp_path / f"{name}.jpg"))


BAD_SETTINGS = [
    ({"num_channels": 0}, "num_channels=0 must be"),
    ({"resample": 1}, r"resample=1 must be 2 \(bilinear\) or 3 \(bicubic\)"),
    ({"size": {"shortest_edge": 8}}, "size=.*shortest_edge.* must be .*height"),
    ({"size": (8, 0)}, r"size=\(8, 0\) must be"),
    ({"size": (8, 8, 8)}, r"size=\(8, 8, 8\) must be"),
    ({"image_mean": [0.5]}, "image_mean=.* has 1 values for num_channels=3"),
    ({"image_std": [0.5, 0.5, 0.0]}, "image_std=.* must be greater than 0"),
    ({"rescale_factor": 0.0}, "rescale_factor=0.0 must be"),
    ({"patch_size": [4, 4, 4]}, "patch_size=.* must be"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeqViTImageProcessor(**settings)
    with pytest.raises(ValueError, match=message):
        SeqViTImageProcessor()(COLOUR, **settings)


def test_unknown_settings() -> None:
    with pytest.raises(ValueError, match=r"unknown settings \['do_center_crop'\]"):
        SeqViTImageProcessor(do_center_crop=True)
    with pytest.raises(TypeError, match="do_center_crop"):
        SeqViTImageProcessor()(COLOUR, do_center_crop=True)
    with pytest.raises(StrictDataclassFieldValidationError, match="do_resize"):
        SeqViTImageProcessor()(COLOUR, do_resize="yes")
    with pytest.raises(ValueError, match="return_tensors='mlx' must be"):
        SeqViTImageProcessor()(COLOUR, return_tensors="mlx")


def test_none_is_the_default() -> None:
    processor = SeqViTImageProcessor(size=SIZE, image_mean=None, do_center_crop=None)
    assert processor.image_mean == (0.5, 0.5, 0.5)
    assert processor(COLOUR, size=None, return_tensors="np").pixel_values.shape == (1, 3, 8, 16)


class ThrowawayConfig(PreTrainedConfig):
    model_type = "throwaway_vit"


def test_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"size": (8, 16), "num_channels": 5, "resample": 3, "image_mean": 0.25, "patch_size": [4, 8]}
    processor = SeqViTImageProcessor(**settings, do_pad=True)
    processor.save_pretrained(tmp_path)
    monkeypatch.setattr(IMAGE_PROCESSOR_MAPPING, "_extra_content", dict(IMAGE_PROCESSOR_MAPPING._extra_content))
    AutoImageProcessor.register(
        ThrowawayConfig,
        image_processor_classes={"pil": SeqViTImageProcessor, "torchvision": SeqViTImageProcessor},
        exist_ok=True,
    )
    image = np.random.randint(0, 256, (5, 12, 20), dtype=np.uint8)
    expected = processor(image, return_tensors="pt")
    for auto in (SeqViTImageProcessor, AutoImageProcessor):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is SeqViTImageProcessor
        assert loaded.to_dict() == processor.to_dict() | {"patch_size": [4, 8]}
        assert torch.equal(loaded(image, return_tensors="pt").pixel_values, expected.pixel_values)
    assert AutoImageProcessor.from_pretrained(tmp_path, do_pad=False).do_pad is False


@pytest.mark.parametrize("num_channels", [1, 3])
def test_pipeline(num_channels: int, tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=num_channels,
        num_labels=3,
    )
    model = ViTForImageClassification(config).eval()
    processor = SeqViTImageProcessor(size=8, num_channels=num_channels)
    classify = pipeline("image-classification", model=model, image_processor=processor)
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    colour.save(tmp_path / "image.png")
    for image, seen in ((grey, grey), (colour, colour), (str(tmp_path / "image.png"), colour)):
        with torch.no_grad():
            scores = model(**processor(seen, return_tensors="pt")).logits.softmax(-1)[0]
        given = {entry["label"]: entry["score"] for entry in classify(image)}
        assert [given[config.id2label[label]] for label in range(3)] == pytest.approx(scores.tolist(), abs=1e-6)
    assert len(classify([grey, colour], batch_size=2)) == 2
