"""One vector for a text: what a classifier sees of a recurrent model's states. Padding on any side weighs nothing."""

import torch
from torch import nn


class LastPooling(nn.Module):
    """The state that has read all: at the last token; of a backward recurrence, at the first.

    Args:
        width: of the states; a bidirectional model's hold the forward half first.
        bidirectional: whether the second half comes from a backward recurrence.
    """

    def __init__(self, width: int, bidirectional: bool):
        super().__init__()
        self.forward_width = width // 2 if bidirectional else width

    def forward(self, hidden_states: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, width)` and `(batch, seq_len)` bool, true on real tokens -> `(batch, width)`."""
        first = kept.int().argmax(-1)
        last = kept.shape[1] - 1 - kept.int().flip(-1).argmax(-1)
        rows = torch.arange(kept.shape[0], device=kept.device)
        forward = hidden_states[rows, last, : self.forward_width]
        return torch.cat([forward, hidden_states[rows, first, self.forward_width :]], dim=-1)


class MeanPooling(nn.Module):
    """The mean over the real tokens."""

    def forward(self, hidden_states: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, width)` and `(batch, seq_len)` bool, true on real tokens -> `(batch, width)`."""
        total = hidden_states.masked_fill(~kept.unsqueeze(-1), 0).sum(1)
        return total / kept.sum(-1, keepdim=True).clamp(min=1).to(total.dtype)


class MaxPooling(nn.Module):
    """The largest value of each unit over the real tokens (Conneau et al. 2017, section 3.2)."""

    def forward(self, hidden_states: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, width)` and `(batch, seq_len)` bool, true on real tokens -> `(batch, width)`."""
        return hidden_states.masked_fill(~kept.unsqueeze(-1), torch.finfo(hidden_states.dtype).min).amax(1)


class AttentionPooling(nn.Module):
    """A mean with learned weights: softmax over the tokens of `u · tanh(W h + b)` (Yang et al. 2016, section 2.2).

    Args:
        width: of the states.
    """

    def __init__(self, width: int):
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.context = nn.Linear(width, 1, bias=False)

    def forward(self, hidden_states: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, width)` and `(batch, seq_len)` bool, true on real tokens -> `(batch, width)`."""
        scores = self.context(torch.tanh(self.projection(hidden_states))).squeeze(-1)
        weights = scores.masked_fill(~kept, torch.finfo(scores.dtype).min).softmax(-1)
        real_states = hidden_states.masked_fill(~kept.unsqueeze(-1), 0)
        return (weights.unsqueeze(-1).to(real_states.dtype) * real_states).sum(1)


def build_pooler(pooling: str, width: int, bidirectional: bool) -> nn.Module:
    """The pooler of that name: `(batch, seq_len, width)` states and `(batch, seq_len)` tokens -> `(batch, width)`.

    Args:
        pooling: `last`, `mean`, `max` or `attention`.
        width: of the states, both directions together.
        bidirectional: whether the states' second half comes from a backward recurrence.

    Raises:
        ValueError: another name.
    """
    if pooling == "last":
        return LastPooling(width, bidirectional)
    if pooling == "attention":
        return AttentionPooling(width)
    if pooling == "mean":
        return MeanPooling()
    if pooling == "max":
        return MaxPooling()
    raise ValueError(f"pooling={pooling!r} is not known; choose one of last, mean, max, attention.")


__all__ = ["build_pooler"]
