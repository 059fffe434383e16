"""What the recurrent encoder–decoders return."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput

from .recurrent_cache import RecurrentCache


@dataclass
class Seq2SeqOutput(Seq2SeqLMOutput):
    """transformers' output of encoder–decoders, and the part of the loss that coverage adds.

    Args:
        coverage_loss: in the loss already.
    """

    coverage_loss: torch.Tensor | None = None


@dataclass
class RecurrentSeq2SeqModelOutput(ModelOutput):
    """What the bare encoder–decoders return.

    Args:
        last_hidden_state: `(batch, target_len, hidden)`, what an output layer sees.
        past_key_values: the decoder's state, unless `use_cache` is off.
        decoder_hidden_states: on request, the decoder stack's input and each layer's output.
        cross_attentions: on request, `(batch, 1, target_len, source_len)`, of attention models.
        encoder_last_hidden_state: `(batch, source_len, hidden)`.
        encoder_hidden_states: on request, the encoder's.
        repeated_attention: `(batch, target_len)`, with coverage.
    """

    last_hidden_state: torch.Tensor | None = None
    past_key_values: RecurrentCache | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    repeated_attention: torch.Tensor | None = None


__all__ = ["RecurrentSeq2SeqModelOutput", "Seq2SeqOutput"]
