"""Which patches a masked image model predicts: given masks checked, missing ones drawn."""

import torch

from .patches import random_patches

_EVALUATION_SEED = 0


def masked_patches(
    bool_masked_pos: torch.Tensor | None,
    pixel_values: torch.Tensor,
    num_patches: int,
    ratio: float,
    attention_mask: torch.Tensor | None,
    training: bool,
) -> torch.Tensor:
    """The mask given, or a random one; while evaluating, the same one at every call.

    Args:
        bool_masked_pos: `(batch, num_patches)`, or `None` to draw one.
        pixel_values: `(batch, …)`, looked at for batch size and device.
        ratio: share of the patches to mask.
        attention_mask: `(batch, num_patches)`, 0 on padding, which is never masked.
        training: draw from PyTorch's global generator, in place of a fixed one.

    Returns:
        `(batch, num_patches)` boolean.

    Raises:
        ValueError: a mask has another shape, or marks nothing.
    """
    shape = (len(pixel_values), num_patches)
    for name, given in (("bool_masked_pos", bool_masked_pos), ("attention_mask", attention_mask)):
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"{name} of shape {tuple(given.shape)}: (batch, num_patches) = {shape} is expected.")
    real = None if attention_mask is None else attention_mask.bool()
    if bool_masked_pos is None:
        generator = None if training else torch.Generator().manual_seed(_EVALUATION_SEED)
        noise = torch.rand(shape, generator=generator).to(pixel_values.device)
        return random_patches(noise, ratio, real)
    masked = bool_masked_pos.bool() if real is None else bool_masked_pos.bool() & real
    # Looked at on the CPU only: an accelerator would have to be waited for.
    if masked.device.type == "cpu" and not torch.compiler.is_compiling() and not masked.any():
        raise ValueError("bool_masked_pos marks no patch: there is nothing to predict.")
    return masked


__all__ = ["masked_patches"]
