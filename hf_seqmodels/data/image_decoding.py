"""One image of any kind -> the bytes a model's images are made of: channels × height × width, all images alike."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# By channel count; other counts have no encoded form that Pillow reads, and come as arrays.
PIL_MODES = {1: "L", 3: "RGB"}
# What Pillow raises on files that are damaged, cut short, or no images at all.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_WIDE_MODES = ("I", "F")


def decode_image(value: Any, image_size: tuple[int, int], num_channels: int) -> bytes:
    """Decodes an image, brings it to the channel count, and fits it to the size.

    An image of another size is cropped in the centre to the aspect ratio of `image_size`, then resized (Pillow's
    bicubic filter): the shorter side fits, nothing is stretched.

    Args:
        value: encoded bytes; a path; `{"bytes": …, "path": …}` of `datasets.Image(decode=False)`, either of them None;
            or an array or nested lists (height, width) or (height, width, num_channels) of integers in 0..255.
        image_size: height and width to reach.
        num_channels: 1 makes grey and 3 makes colour of encoded images; any number goes for arrays that have it.

    Returns:
        num_channels · height · width bytes.

    Raises:
        ValueError: no image, an array of another shape or range, or pixels that are not 8 or 16 bits wide.
        OSError, SyntaxError, EOFError, struct.error, DecompressionBombError: Pillow can't decode it.
    """
    if isinstance(value, dict):
        value = value["path"] if value["bytes"] is None else value["bytes"]
    if value is None:
        raise ValueError("there is no image")
    if isinstance(value, bytes | str):
        planes = _decoded(value, image_size, num_channels)
    else:
        planes = _from_array(np.asarray(value), image_size, num_channels)
    return planes.tobytes()


def _decoded(value: bytes | str, image_size: tuple[int, int], num_channels: int) -> np.ndarray:
    if num_channels not in PIL_MODES:
        raise ValueError(f"an encoded image can't be brought to {num_channels} channels (1 or 3): give arrays")
    content = value if isinstance(value, bytes) else Path(value).read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):
            # Pillow's own conversion clips at 255 in place of scaling.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in _WIDE_MODES:
            raise ValueError(f"pixels of mode {image.mode!r} have no known range: convert them to 8 bits first")
        image = image.convert(PIL_MODES[num_channels])
    pixels = np.asarray(_fitted(image, image_size))
    return pixels[None] if num_channels == 1 else pixels.transpose(2, 0, 1)


def _from_array(array: np.ndarray, image_size: tuple[int, int], num_channels: int) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in {1, num_channels} or 0 in array.shape:
        raise ValueError(
            f"an array of shape {array.shape} is neither (height, width) nor (height, width, {num_channels})"
        )
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise ValueError(f"an array of {array.dtype} must hold integers in 0..255")
    planes = [
        np.asarray(_fitted(Image.fromarray(plane), image_size)) for plane in np.moveaxis(array, 2, 0).astype("B")
    ]
    return np.stack(planes if len(planes) == num_channels else planes * num_channels)


def _fitted(image: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    height, width = image_size
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
