"""Images of any kind as batches of pixels, and pixels resized, recoloured, normalised and back: pure functions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from transformers.image_utils import ChannelDimension, PILImageResampling, load_image

from .patches import Size, as_pair

# The filters that Pillow and torch have in common.
FILTERS = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}
# Pillow's own integer luma (ITU-R 601-2), in 65536ths: RGB arrays become exactly as grey as RGB images do.
LUMA = (19595, 38470, 7471)


def per_channel(name: str, value: Any, num_channels: int) -> tuple[float, ...]:
    """One number for each channel of a mean or deviation that may be one number for all."""
    if isinstance(value, int | float):
        return (float(value),) * num_channels
    values = tuple(float(entry) for entry in value)
    if len(values) != num_channels:
        raise ValueError(
            f"{name}={list(values)} has {len(values)} values for num_channels={num_channels}: give one for each "
            "channel, or one number for all."
        )
    return values


def positive_per_channel(name: str, value: Any, num_channels: int) -> tuple[float, ...]:
    """As `per_channel`, for what is divided by. Raises ValueError if a number is not above 0, too."""
    values = per_channel(name, value, num_channels)
    if not min(values) > 0:
        raise ValueError(f"{name}={list(values)} must be greater than 0.")
    return values


def scaled_and_shifted(
    images: torch.Tensor, factor: float, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """`(images * factor - mean) / std` in float32, as one multiplication and one addition."""
    scale = torch.tensor([factor / s for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std)], device=images.device).view(-1, 1, 1)
    if images.is_floating_point():
        images = images.float()
    return torch.mul(images, scale).add_(shift)  # converts bytes while it multiplies: no float copy before


def normalize_images(
    images: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float]
) -> torch.Tensor:
    """Brings a batch of images to a model's scale.

    Args:
        images: `(batch, channels, height, width)`, uint8 in 0..255 or floats in [0, 1], on any device.
        mean, std: of values in [0, 1], one for each channel or one number for all.

    Returns:
        `(batch, channels, height, width)` float32.

    Raises:
        ValueError: images of another rank or dtype, a mean or std of the wrong length, or a std that isn't positive.
    """
    if images.dim() != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            "images must be (batch, channels, height, width) of uint8 or floats; "
            f"got {tuple(images.shape)} of {images.dtype}."
        )
    channels = images.shape[1]
    factor = 1 / 255 if images.dtype == torch.uint8 else 1.0
    return scaled_and_shifted(
        images, factor, per_channel("mean", mean, channels), positive_per_channel("std", std, channels)
    )


def denormalize_images(
    pixel_values: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float]
) -> torch.Tensor:
    """The inverse of `normalize_images`: `(batch, channels, height, width)` floats, clamped to [0, 1].

    Raises:
        ValueError: a mean or std of the wrong length, or a std that isn't positive.
    """
    channels = pixel_values.shape[-3]
    means, stds = per_channel("mean", mean, channels), positive_per_channel("std", std, channels)
    back = [-m / s for m, s in zip(means, stds)], [1 / s for s in stds]
    return scaled_and_shifted(pixel_values, 1.0, *back).clamp_(0, 1)


def resize_images(images: torch.Tensor, size: Size, resample: int = PILImageResampling.BILINEAR) -> torch.Tensor:
    """Resizes a batch as Pillow does, within 2 grey levels of 255, antialiased.

    The pass that leaves fewer pixels comes first, as in Pillow 13. The order matters to bicubic bytes only, which
    both libraries clamp between the passes; earlier versions of Pillow always begin with the width.

    Args:
        images: `(batch, channels, height, width)`, uint8 or floats.
        size: to this height and width.
        resample: Pillow's number of the filter, bilinear (2) or bicubic (3).

    Returns:
        The same dtype and shape but for the size. Floats may overshoot their range under bicubic.
    """
    height, width = as_pair(size)
    old_height, old_width = images.shape[-2:]
    by_height, by_width = (height, old_width), (old_height, width)
    first = by_height if old_width * height < old_height * width else by_width
    for target in (first, (height, width)):
        if target != tuple(images.shape[-2:]):
            images = _interpolate(images, target, FILTERS[PILImageResampling(resample)])
    return images


def _interpolate(images: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    if images.dtype == torch.uint8 and images.device.type != "cpu":  # only the CPU's kernel takes bytes
        resized = torch.nn.functional.interpolate(images.float(), size, mode=mode, antialias=True)
        return resized.round_().clamp_(0, 255).to(torch.uint8)
    return torch.nn.functional.interpolate(images, size, mode=mode, antialias=True)


def flattened(images: Any) -> Iterator[Any]:
    """PIL images, arrays and tensors, in order, out of lists of any depth."""
    if isinstance(images, list | tuple):
        for image in images:
            yield from flattened(image)
    elif isinstance(images, str):
        try:
            yield load_image(images)
        except OSError as error:
            raise ValueError(f"image {images!r} cannot be read: {error}") from error
    elif isinstance(images, Image.Image | np.ndarray | torch.Tensor):
        yield images
    else:
        raise ValueError(
            f"an image of type {type(images).__name__} is not supported: give a PIL image, a numpy array, a torch "
            "tensor, a path or URL, or lists of these."
        )


def decoded(image: Image.Image, num_channels: int) -> Image.Image:
    """A PIL image upright and with `num_channels` bands. Transparency is dropped, as `pipeline()` does."""
    try:
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError) as error:  # what Pillow raises on truncated and on malformed files
        raise ValueError(f"image cannot be decoded: {error}") from error
    if image.mode.startswith("I;16"):  # Pillow's own conversion depends on its version
        image = Image.fromarray(((np.array(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F") and num_channels in (1, 3):
        return image
    if num_channels == 3:
        return image if image.mode == "RGB" else image.convert("RGB")
    if num_channels == 1:
        if image.mode not in ("1", "L", "LA", "RGB"):
            image = image.convert("RGB")
        return image if image.mode == "L" else image.convert("L")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if len(image.getbands()) != num_channels:
        raise ValueError(
            f"an image of mode {image.mode} has {len(image.getbands())} channels, where num_channels={num_channels}."
        )
    return image


def as_batch(image: np.ndarray | torch.Tensor, channels_last: bool) -> torch.Tensor:
    """An array of one image or a batch as a tensor with 4 dimensions, of bytes, int64 or floats."""
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif":
            raise ValueError(f"an image of dtype {image.dtype} is not supported: give bytes, integers or floats.")
        if image.dtype not in (np.uint8, np.bool_):
            image = image.astype(np.float32 if image.dtype.kind == "f" else np.int64)
        if not image.flags.writeable or min(image.strides, default=0) < 0:  # torch takes neither
            image = image.copy()
        image = torch.from_numpy(image)
    elif image.is_complex():
        raise ValueError(f"an image of dtype {image.dtype} is not supported: give bytes, integers or floats.")
    if image.dtype == torch.bool:
        image = image.to(torch.uint8) * 255
    if image.dim() not in (2, 3, 4) or image.numel() == 0:
        raise ValueError(
            f"an image of shape {tuple(image.shape)} is not supported: give (height, width), (channels, height, "
            "width), (height, width, channels) or a batch of the latter two, none of them empty."
        )
    if image.dim() == 2:
        image = image.unsqueeze(-1 if channels_last else 0)
    return image if image.dim() == 4 else image.unsqueeze(0)


def channels_first(images: torch.Tensor, num_channels: int, layout: ChannelDimension | None) -> torch.Tensor:
    """`(n, channels, height, width)` of a batch in either layout; where both fit, the channels come first."""
    allowed = (1, 3) if num_channels in (1, 3) else (num_channels,)
    if layout is None:
        layout = ChannelDimension.FIRST if images.shape[1] in allowed else ChannelDimension.LAST
    first = images.permute(0, 3, 1, 2) if layout == ChannelDimension.LAST else images
    if first.shape[1] not in allowed:
        hint = "; 1 and 3 channels are converted into each other" if len(allowed) > 1 else ""
        raise ValueError(
            f"images of shape {tuple(images.shape[1:])} do not have num_channels={num_channels} where expected"
            f"{hint}. Their layout is found by the number of channels, or given as input_data_format. Grey images "
            "come as (height, width) each, or as (batch, 1, height, width)."
        )
    return first


def rescaled(images: torch.Tensor, rescale_factor: float) -> torch.Tensor:
    """`(n, channels, height, width)` integers or floats -> float32 in [0, 1]; floats already there stay as they are.

    Each image is judged alone, so that it doesn't depend on its neighbours in the batch.
    """
    pixels = images.float()
    low, high = pixels.amin((1, 2, 3)), pixels.amax((1, 2, 3))
    within = (low >= 0) & (high * rescale_factor <= 1 + 1e-6)  # False for NaN
    if not within.all():
        kind = "floats in [0, 1] or" if images.is_floating_point() else "integers"
        raise ValueError(
            f"pixels must be {kind} in 0..{1 / rescale_factor:g} (1 / rescale_factor); got "
            f"{float(low.min()):g}..{float(high.max()):g}. Give do_rescale=False for pixels in another range."
        )
    if not images.is_floating_point():
        return pixels * rescale_factor
    return pixels * torch.where(high <= 1, 1.0, rescale_factor).view(-1, 1, 1, 1)


def with_channels(images: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Grey to colour by repetition and colour to grey by luma; `(n, channels, height, width)`."""
    if images.shape[1] == num_channels:
        return images
    if num_channels == 3:
        return images.expand(-1, 3, -1, -1)
    if images.dtype == torch.uint8:
        red, green, blue = (images[:, c].to(torch.int32) * weight for c, weight in enumerate(LUMA))
        return ((red + green + blue + 0x8000) >> 16).to(torch.uint8).unsqueeze(1)
    weights = torch.tensor(LUMA, device=images.device).view(3, 1, 1) / 65536
    return (images.float() * weights).sum(1, keepdim=True)


__all__ = [
    "FILTERS",
    "as_batch",
    "channels_first",
    "decoded",
    "denormalize_images",
    "flattened",
    "normalize_images",
    "per_channel",
    "positive_per_channel",
    "rescaled",
    "resize_images",
    "scaled_and_shifted",
    "with_channels",
]
