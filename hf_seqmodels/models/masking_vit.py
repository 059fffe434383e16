"""Which patches a masked image model predicts: given masks checked, missing ones drawn."""

import torch

from .configuration_vit import SeqViTConfig
from .patches import patch_grid, random_patches
from .positions import Grid

_EVALUATION_SEED = 0


def masked_patches(
    config: SeqViTConfig,
    pixel_values: torch.Tensor,
    bool_masked_pos: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    training: bool,
) -> tuple[Grid, torch.Tensor]:
    """The mask given, or one that hides `config.mask_ratio` at random; while evaluating, the same one at every call.

    Args:
        pixel_values: `(batch, num_channels, height, width)`.
        bool_masked_pos: `(batch, num_patches)`, or `None` to draw one.
        attention_mask: `(batch, num_patches)`, 0 on padding, which is never masked.
        training: draw from PyTorch's global generator, in place of a fixed one.

    Returns:
        The images' patches `(rows, columns)`, and `(batch, num_patches)` boolean.

    Raises:
        ValueError: patches that do not divide the images; a mask has another shape, or marks nothing.
    """
    grid = patch_grid((pixel_values.shape[-2], pixel_values.shape[-1]), config.patch_size)
    shape = (pixel_values.shape[0], grid[0] * grid[1])
    for name, given in (("bool_masked_pos", bool_masked_pos), ("attention_mask", attention_mask)):
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"{name} of shape {tuple(given.shape)}: (batch, num_patches) = {shape} is expected.")
    real = None if attention_mask is None else attention_mask.bool()
    if bool_masked_pos is None:
        generator = None if training else torch.Generator().manual_seed(_EVALUATION_SEED)
        noise = torch.rand(shape, generator=generator).to(pixel_values.device)
        return grid, random_patches(noise, config.mask_ratio, real)
    masked = bool_masked_pos.bool() if real is None else bool_masked_pos.bool() & real
    # Looked at on the CPU only: an accelerator would have to be waited for.
    if masked.device.type == "cpu" and not torch.compiler.is_compiling() and not masked.any():
        raise ValueError("bool_masked_pos marks no patch: there is nothing to predict.")
    return grid, masked


__all__ = ["masked_patches"]
