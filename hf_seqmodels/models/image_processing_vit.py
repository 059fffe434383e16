"""Image processor of SeqViT: images of any kind and any number of channels -> pixel values, without torchvision."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.utils import TensorType

from .patches import Size, patch_grid
from .pixels import (
    FILTERS,
    as_batch,
    channels_first,
    decoded,
    denormalize_images,
    flattened,
    normalize_images,
    per_channel,
    positive_per_channel,
    rescaled,
    resize_images,
    scaled_and_shifted,
    with_channels,
)

# What a saved processor's file carries beside its settings.
_BOOKKEEPING = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map"}


def _stackable(stacks: Sequence[torch.Tensor]) -> bool:
    return len({(stack.shape[1:], stack.dtype, stack.device) for stack in stacks}) == 1


def _sides(name: str, value: Any, otherwise: str = "") -> tuple[int, int]:
    sides = [value] * 2 if isinstance(value, int) else list(value)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"{name}={value!r} must be {otherwise}one or two positive integers, in pixels.")
    return sides[0], sides[1]


class SeqViTImageProcessorKwargs(TypedDict, total=False):
    """Settings of `SeqViTImageProcessor`, for the object or for one call."""

    num_channels: int | None
    do_resize: bool | None
    size: int | list[int] | tuple[int, ...] | dict[str, int] | SizeDict | None
    resample: int | None
    do_rescale: bool | None
    rescale_factor: float | int | None
    do_normalize: bool | None
    image_mean: float | int | list[float | int] | tuple[float | int, ...] | None
    image_std: float | int | list[float | int] | tuple[float | int, ...] | None
    do_pad: bool | None
    patch_size: int | list[int] | tuple[int, ...] | None
    input_data_format: str | ChannelDimension | None
    return_tensors: str | TensorType | None


class SeqViTImageProcessor(PilBackend):
    r"""Makes `pixel_values` `(batch, num_channels, height, width)` float32 of images with any number of channels.

    Images are PIL images of any mode, arrays or tensors `(height, width)`, `(height, width, channels)` or `(channels,
    height, width)`, batches with a further leading dimension, paths or URLs, and lists of these. PIL images are turned
    upright by their EXIF tag and resized by Pillow. Arrays and tensors are resized by torch (see `resize_images`),
    all of equal shape and dtype at once, and stay on their device. Colour becomes grey and grey becomes colour as the
    model needs it; transparency is dropped, as `pipeline()` does.

    Args:
        num_channels (`int`, *optional*, defaults to 3): The model's.
        do_resize (`bool`, *optional*, defaults to `True`), size (`{"height": …, "width": …}`, defaults to 224 × 224;
            also a pair or one number), resample (`int`, defaults to 2): Pillow's filter, bilinear (2) or bicubic (3).
        do_rescale (`bool`, *optional*, defaults to `True`), rescale_factor (`float`, defaults to 1/255):
            Integers and floats are multiplied by it; an image of floats that all lie in [0, 1] is not.
        do_normalize (`bool`, *optional*, defaults to `True`), image_mean, image_std (defaults to 0.5): After
            rescaling; one number for each channel or one for all.
        do_pad (`bool`, *optional*, defaults to `False`): Adds zeros right and below, after normalising, up to the
            largest height and width in the batch, and returns `attention_mask` `(batch, patches)` int64, row by row,
            with 1 on the patches of the image. For `do_resize=False`: images of one size need no padding.
        patch_size (`int` or pair, *optional*): The model's; with `do_pad`, every image must be divisible by it.
        input_data_format (`str`, *optional*): `"channels_first"` or `"channels_last"` of arrays; by default what fits
            num_channels, and the first where both do.
        return_tensors (`str`, *optional*): `"pt"` or `"np"`; by default a list with an array for each image.

    Raises:
        ValueError: a setting that is unknown or outside its range; an image that can't be decoded, is of another type,
            shape, number of channels or range of values; with `return_tensors`, images of different sizes. Settings of
            a call that have the wrong type raise `huggingface_hub.errors.StrictDataclassFieldValidationError`.
    """

    # Not ImagesKwargs: its fields that mean nothing here would be taken and ignored.
    valid_kwargs = SeqViTImageProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values", "attention_mask"]

    num_channels = 3
    do_resize = True
    size = {"height": 224, "width": 224}
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    do_normalize = True
    image_mean = 0.5
    image_std = 0.5
    do_pad = False
    patch_size = None

    def __init__(self, **kwargs: Any) -> None:
        known = self.valid_kwargs.__annotations__
        unknown = [name for name, value in kwargs.items() if value and name not in known and name not in _BOOKKEEPING]
        if unknown:
            raise ValueError(f"unknown settings {unknown} of {type(self).__name__}; it has {list(known)}.")
        super().__init__(**{name: value for name, value in kwargs.items() if value is not None})

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Brings every setting, the object's and a call's, to one form, or refuses it."""
        kwargs = {name: getattr(self, name, None) if value is None else value for name, value in kwargs.items()}
        num_channels, resample, size = kwargs["num_channels"], kwargs["resample"], kwargs["size"]
        if not isinstance(num_channels, int) or num_channels < 1:
            raise ValueError(f"num_channels={num_channels!r} must be an integer of at least 1.")
        if resample not in list(FILTERS):
            allowed = " or ".join(f"{int(number)} ({name})" for number, name in FILTERS.items())
            raise ValueError(f"resample={resample!r} must be {allowed}.")
        if not kwargs["rescale_factor"] > 0:
            raise ValueError(f"rescale_factor={kwargs['rescale_factor']!r} must be greater than 0.")
        if isinstance(size, dict | SizeDict) and set(dict(size)) == {"height", "width"}:
            size = [size["height"], size["width"]]
        height, width = _sides("size", size, "{'height': …, 'width': …} or ")
        kwargs["size"] = SizeDict(height=height, width=width)
        kwargs["image_mean"] = per_channel("image_mean", kwargs["image_mean"], num_channels)
        kwargs["image_std"] = positive_per_channel("image_std", kwargs["image_std"], num_channels)
        if kwargs["patch_size"] is not None:
            _sides("patch_size", kwargs["patch_size"])
        elif kwargs["do_pad"]:
            raise ValueError("do_pad=True needs patch_size, in whose units the attention_mask counts.")
        return kwargs

    def process_image(  # type: ignore[override]
        self,
        image: Any,
        num_channels: int | None = None,
        input_data_format: str | ChannelDimension | None = None,
        do_resize: bool = False,
        size: SizeDict | None = None,
        resample: int = PILImageResampling.BILINEAR,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Gives one image or a batch the model's number of channels; resizes it while it is a PIL image.

        Returns:
            `(n, num_channels, height, width)`, n = 1 for one image: uint8 in 0..255, or float32 that is rescaled.

        Raises:
            ValueError: see the class.
        """
        num_channels = self.num_channels if num_channels is None else num_channels
        layout = None if input_data_format is None else ChannelDimension(input_data_format)
        if isinstance(image, Image.Image):
            image = decoded(image, num_channels)
            if do_resize and size is not None and image.mode not in ("I", "F"):
                target = (size.width, size.height)
                image = image if image.size == target else image.resize(target, PILImageResampling(resample))
            image, layout = np.array(image), ChannelDimension.LAST
        images = as_batch(image, channels_last=layout == ChannelDimension.LAST)
        # Contiguous while they are single images of bytes: torch.cat is eight times slower on permuted ones.
        images = channels_first(images, num_channels, layout).contiguous()
        if images.dtype != torch.uint8:
            if do_rescale:
                images = rescaled(images, rescale_factor)
            elif not images.float().isfinite().all():
                raise ValueError("pixels must be finite; got NaN or infinite values.")
            images = images.float()
        return with_channels(images, num_channels)

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Stacks of images of one size and dtype, in the order of the images; arrays of one shape are one stack."""
        leaves = list(flattened(images))
        if not leaves:
            raise ValueError("images is empty: give at least one.")
        if not any(isinstance(leaf, Image.Image) for leaf in leaves):
            last = kwargs["input_data_format"] == ChannelDimension.LAST
            stacks = [as_batch(leaf, last) for leaf in leaves]
            leaves = [torch.cat(stacks)] if len(stacks) > 1 and _stackable(stacks) else stacks
        return [self.process_image(leaf, **kwargs) for leaf in leaves]

    def _preprocess(  # type: ignore[override]
        self,
        images: list[torch.Tensor],
        *,
        do_resize: bool,
        size: SizeDict,
        resample: int,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
        do_pad: bool,
        patch_size: Size,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        if do_resize:
            images = [self._resized(stack, [size["height"], size["width"]], resample, do_rescale) for stack in images]
        if len(images) > 1 and _stackable(images):
            images = [torch.cat(images)]
        mean, std = (image_mean, image_std) if do_normalize else ((0.0,), (1.0,))
        pixels = [
            scaled_and_shifted(stack, rescale_factor if do_rescale and stack.dtype == torch.uint8 else 1.0, mean, std)
            for stack in images
        ]
        data = {"pixel_values": pixels}
        if do_pad:
            data = _padded(pixels, patch_size)
        return BatchFeature(data={name: _returned(stacks, return_tensors) for name, stacks in data.items()})

    @staticmethod
    def _resized(images: torch.Tensor, size: Size, resample: int, do_rescale: bool) -> torch.Tensor:
        resized = resize_images(images, size, resample)
        # Bytes can't overshoot; floats that stand for the same colours shouldn't either.
        return resized.clamp(0, 1) if do_rescale and resized.is_floating_point() else resized


def _padded(pixels: list[torch.Tensor], patch_size: Size) -> dict[str, list[torch.Tensor]]:
    """Stacks with zeros right and below up to a common size, and the mask of their patches."""
    grids = [patch_grid(list(stack.shape[-2:]), patch_size) for stack in pixels]
    height, width = (max(stack.shape[side] for stack in pixels) for side in (-2, -1))
    total_rows, total_columns = patch_grid((height, width), patch_size)
    masks = []
    for stack, (rows, columns) in zip(pixels, grids):
        mask = torch.zeros(len(stack), total_rows, total_columns, dtype=torch.int64, device=stack.device)
        mask[:, :rows, :columns] = 1
        masks.append(mask.flatten(1))
    padding = [(0, width - stack.shape[-1], 0, height - stack.shape[-2]) for stack in pixels]
    pixels = [torch.nn.functional.pad(stack, sides) for stack, sides in zip(pixels, padding)]
    return {"pixel_values": pixels, "attention_mask": masks}


def _returned(stacks: list[torch.Tensor], return_tensors: str | TensorType | None) -> Any:
    """Stacks as one tensor, one array, or a list with one array for each image."""
    if return_tensors is None:
        return [image for stack in stacks for image in stack.cpu().numpy()]
    if return_tensors not in ("pt", "np"):
        raise ValueError(f"return_tensors={return_tensors!r} must be 'pt', 'np' or None.")
    sizes = sorted({tuple(stack.shape[1:]) for stack in stacks})
    if len(sizes) > 1:
        raise ValueError(
            f"images of different shapes {sizes} don't make one tensor: give do_resize=True, or do_pad=True with "
            "patch_size, or return_tensors=None."
        )
    tensor = torch.cat(stacks) if len(stacks) > 1 else stacks[0]
    return tensor if return_tensors == "pt" else tensor.cpu().numpy()


__all__ = ["SeqViTImageProcessor", "denormalize_images", "normalize_images", "resize_images"]
