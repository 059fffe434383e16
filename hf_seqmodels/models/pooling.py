"""One vector for an image: what a classifier sees of the encoder's tokens."""

import torch
from torch import nn

from .configuration_vit import SeqViTConfig
from .layers import FeedForward


class ClassTokenPooling(nn.Module):
    """The class token (Dosovitskiy et al. 2020, equation 4)."""

    def forward(self, hidden_states: torch.Tensor, real_tokens: torch.Tensor | None) -> torch.Tensor:
        """`(batch, seq_len, hidden)` -> `(batch, hidden)`."""
        return hidden_states[:, 0]


class _PatchPooling(nn.Module):
    """A weighted mean of the patches alone; padding weighs nothing."""

    def __init__(self, config: SeqViTConfig):
        super().__init__()
        self.num_prefix_tokens = config.num_prefix_tokens

    def patches(
        self, hidden_states: torch.Tensor, real_tokens: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        first = self.num_prefix_tokens
        return hidden_states[:, first:], None if real_tokens is None else real_tokens[:, first:]


class MeanPooling(_PatchPooling):
    """The mean of the patches."""

    def forward(self, hidden_states: torch.Tensor, real_tokens: torch.Tensor | None) -> torch.Tensor:
        """`(batch, seq_len, hidden)` and `(batch, seq_len)` -> `(batch, hidden)`."""
        patches, real = self.patches(hidden_states, real_tokens)
        if real is None:
            return patches.mean(1)
        weights = real.unsqueeze(-1).to(patches.dtype)
        return (patches * weights).sum(1) / weights.sum(1)


class SequencePooling(_PatchPooling):
    """A mean with learned weights (Hassani et al. 2021, section 3.2, SeqPool)."""

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor, real_tokens: torch.Tensor | None) -> torch.Tensor:
        """`(batch, seq_len, hidden)` and `(batch, seq_len)` -> `(batch, hidden)`."""
        patches, real = self.patches(hidden_states, real_tokens)
        scores = self.score(patches).squeeze(-1)
        if real is not None:
            scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        return torch.bmm(scores.softmax(-1).unsqueeze(1), patches).squeeze(1)


class AttentionPooling(_PatchPooling):
    """Multi-head attention of one learned probe, then a feed-forward layer (Zhai et al. 2022, section 3.2, MAP)."""

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        hidden = config.hidden_size
        self.head_dim = hidden // config.num_attention_heads
        self.probe = nn.Parameter(torch.zeros(1, 1, hidden))
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.proj = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.mlp = FeedForward(hidden, config.intermediate_size, config.hidden_act)

    def forward(self, hidden_states: torch.Tensor, real_tokens: torch.Tensor | None) -> torch.Tensor:
        """`(batch, seq_len, hidden)` and `(batch, seq_len)` -> `(batch, hidden)`."""
        patches, real = self.patches(hidden_states, real_tokens)
        query = self.query(self.probe).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        key, value = self.key_value(patches).unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        context = nn.functional.scaled_dot_product_attention(
            query.expand(patches.shape[0], -1, -1, -1), key, value, None if real is None else real[:, None, None, :]
        )
        pooled = self.proj(context.transpose(1, 2).flatten(2)).squeeze(1)
        return pooled + self.mlp(self.norm(pooled))


def build_pooler(config: SeqViTConfig) -> nn.Module:
    """The pooler that `config.pooling` names."""
    if config.pooling == "cls":
        return ClassTokenPooling()
    return {"mean": MeanPooling, "map": AttentionPooling, "seq": SequencePooling}[config.pooling](config)


__all__ = ["build_pooler"]
