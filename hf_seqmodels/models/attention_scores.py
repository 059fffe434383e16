"""Attention of a recurrent decoder to a source: dot, scaled dot, general and additive scores, and coverage."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from .configuration_seq2seq import AttentionSeq2SeqConfig


@dataclass(frozen=True)
class Memory:
    """A source to attend to.

    Args:
        states: `(batch, source_len, hidden)`.
        real: `(batch, source_len)`, false on padding; `None` if there is none.
        keys: `(batch, source_len, hidden)`, what queries are compared with.
    """

    states: torch.Tensor
    real: torch.Tensor | None
    keys: torch.Tensor


class SourceAttention(nn.Module):
    """One attention head over a source (Luong et al. 2015, section 3.1; Bahdanau et al. 2015, section 3.1)."""

    def __init__(self, config: AttentionSeq2SeqConfig):
        super().__init__()
        hidden = config.hidden_size
        self.score = config.score
        self.scale = 1 / math.sqrt(hidden) if config.score == "scaled_dot" else 1.0
        self.query: nn.Linear | None = None
        self.key: nn.Linear | None = None
        if config.score in ("general", "additive"):
            self.query = nn.Linear(hidden, hidden, bias=config.score == "additive")
        if config.score == "additive":
            self.key = nn.Linear(hidden, hidden, bias=False)
            self.energy = nn.Linear(hidden, 1, bias=False)
        self.coverage = nn.Linear(1, hidden, bias=False) if config.coverage else None

    def memory(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> Memory:
        """What every step needs of a source `(batch, source_len, hidden)`, computed once."""
        real = None if attention_mask is None else attention_mask != 0
        return Memory(states, real, states if self.key is None else self.key(states))

    def forward(
        self, queries: torch.Tensor, memory: Memory, coverage: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends.

        Args:
            queries: `(batch, target_len, hidden)`.
            coverage: `(batch, source_len)`, the weights of all steps so far, for one step at a time.

        Returns:
            Contexts `(batch, target_len, hidden)` and weights `(batch, target_len, source_len)`, zero on padding.
        """
        projected = queries if self.query is None else self.query(queries)
        if self.score == "additive":
            features = projected.unsqueeze(2) + memory.keys.unsqueeze(1)
            if self.coverage is not None and coverage is not None:
                features = features + self.coverage(coverage.unsqueeze(-1)).unsqueeze(1)
            scores = self.energy(torch.tanh(features)).squeeze(-1)
        else:
            scores = torch.bmm(projected, memory.keys.transpose(1, 2)) * self.scale
        if memory.real is not None:
            scores = scores.masked_fill(~memory.real.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        return torch.bmm(weights.to(memory.states.dtype), memory.states), weights


__all__ = ["Memory", "SourceAttention"]
