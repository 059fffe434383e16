"""From what an encoder–decoder is to say to what its decoder is given."""

import torch
from torch import nn

from .losses import IGNORE_INDEX


def shift_right(labels: torch.Tensor, start_token_id: int | None, pad_token_id: int | None) -> torch.Tensor:
    """Targets `(batch, target_len)` behind the start token, without the last; -100 becomes padding.

    Raises:
        ValueError: there is no start or padding token.
    """
    if start_token_id is None or pad_token_id is None:
        raise ValueError(
            f"decoder_start_token_id={start_token_id} and pad_token_id={pad_token_id}: labels need both to be shifted."
        )
    shifted = nn.functional.pad(labels[:, :-1], (1, 0), value=start_token_id)
    return shifted.masked_fill(shifted == IGNORE_INDEX, pad_token_id)


def up_to_last_label(labels: torch.Tensor) -> torch.Tensor:
    """`(batch, target_len)` mask of the positions that some prediction depends on; at least the first of each row."""
    needed = (labels != IGNORE_INDEX).flip(1).cumsum(1).flip(1) > 0
    needed[:, 0] = True
    return needed.to(labels.dtype)


__all__ = ["shift_right", "up_to_last_label"]
