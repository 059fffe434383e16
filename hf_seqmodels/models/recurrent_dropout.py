"""Dropout for recurrent models: of words, of features, the same in all steps or not."""

import torch
from torch import nn

from .layers import dropout


class FeatureDropout(nn.Module):
    """Dropout between the layers of a recurrent model.

    Args:
        rate: share of the features that are zeroed; the others are scaled up.
        locked: a row loses the same features in all steps (Gal & Ghahramani 2016, section 3.2), else others in each.
    """

    def __init__(self, rate: float, locked: bool):
        super().__init__()
        self.rate = rate
        self.locked = locked

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, width)` -> the same, zeroed at random while training."""
        if not self.training or self.rate == 0.0:
            return hidden_states
        if not self.locked:
            return dropout(hidden_states, self.rate, training=True)
        batch, _, width = hidden_states.shape
        return hidden_states * dropout(hidden_states.new_ones(batch, 1, width), self.rate, training=True)

    def extra_repr(self) -> str:
        """Rate and kind."""
        return f"rate={self.rate}, locked={self.locked}"


def embed_with_dropout(embedding: nn.Embedding, input_ids: torch.Tensor, rate: float) -> torch.Tensor:
    """Embeddings without some words of the vocabulary, wherever they occur (Gal & Ghahramani 2016, section 4.2).

    Args:
        input_ids: `(batch, seq_len)`.
        rate: share of the words that are dropped; zero outside training.

    Returns:
        `(batch, seq_len, width)`.
    """
    embedded = embedding(input_ids)
    if rate == 0.0:
        return embedded
    words = dropout(embedded.new_ones(embedding.num_embeddings), rate, training=True)
    return embedded * words[input_ids].unsqueeze(-1)


__all__ = ["FeatureDropout", "embed_with_dropout"]
