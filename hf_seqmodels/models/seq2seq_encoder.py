"""The encoder of the recurrent encoder–decoders, and the bridge from its last state to the decoder's first."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from .compaction import Compaction
from .configuration_seq2seq import RecurrentSeq2SeqConfig
from .input_checks import check_given, check_ids, check_rows, check_shape
from .recurrent import RecurrentStack, State
from .recurrent_dropout import embed_with_dropout


@dataclass
class RecurrentEncoderOutput(ModelOutput):
    """What the encoder returns. `generate()` repeats its tensors, not tuples of them, for the beams.

    Args:
        last_hidden_state: `(batch, source_len, hidden)`, zero on padding.
        final_hidden: `(batch, layers, hidden)`, the state of each layer after the source, directions side by side.
        final_cell: `(batch, layers, hidden)` of an LSTM.
        hidden_states: on request, the embeddings and each layer's output.
    """

    last_hidden_state: torch.Tensor | None = None
    final_hidden: torch.Tensor | None = None
    final_cell: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class RecurrentEncoder(nn.Module):
    """Reads the source."""

    main_input_name = "input_ids"

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.input_size)
        self.stack = RecurrentStack(config.encoder_config())

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> RecurrentEncoderOutput:
        """`(batch, source_len)` ids, or embeddings in their place, and their mask, 0 on padding on either side.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        given = check_given(input_ids, inputs_embeds, self.config.input_size, "embedding_size")
        check_ids("input_ids", input_ids, "vocab_size", self.config.vocab_size)
        check_shape("attention_mask", attention_mask, (given.shape[0], given.shape[1]))
        if attention_mask is not None:
            check_rows(attention_mask)
        if inputs_embeds is None:
            rate = self.config.embedding_dropout_prob if self.training else 0.0
            inputs_embeds = embed_with_dropout(self.embed_tokens, given, rate)
        wants_states = bool(output_hidden_states)
        compaction = None
        if self.config.reverse_source:
            whole = torch.ones(given.shape[:2], device=given.device)
            compaction = Compaction.from_mask(whole if attention_mask is None else attention_mask)
            inputs_embeds, attention_mask = compaction.flip(compaction.compact(inputs_embeds)), compaction.real
        outputs = self.stack(inputs_embeds, attention_mask, None, wants_states)
        sequences = [outputs.last_hidden_state, *(outputs.hidden_states or ())]
        if compaction is not None:
            sequences = [compaction.restore(compaction.flip(states)) for states in sequences]
        return RecurrentEncoderOutput(
            last_hidden_state=sequences[0],
            final_hidden=torch.stack([hidden.flatten(1) for hidden, _ in outputs.states], dim=1),
            final_cell=_stacked_cells(outputs.states),
            hidden_states=tuple(sequences[1:]) if wants_states else None,
        )


def _stacked_cells(states: list[State]) -> torch.Tensor | None:
    cells = [cell.flatten(1) for _, cell in states if cell is not None]
    return torch.stack(cells, dim=1) if cells else None


class Bridge(nn.Module):
    """The decoder's first state from the encoder's last: a copy, or a layer of its own for each kind of state."""

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__()
        self.squash = config.bridge == "tanh"
        self.hidden: nn.Linear | None = None
        self.cell: nn.Linear | None = None
        if config.bridge != "copy":
            self.hidden = nn.Linear(config.hidden_size, config.hidden_size)
            self.cell = nn.Linear(config.hidden_size, config.hidden_size) if config.cell_type == "lstm" else None

    def forward(self, final_hidden: torch.Tensor, final_cell: torch.Tensor | None) -> list[State]:
        """`(batch, layers, hidden)` each -> the state of each decoder layer."""
        if self.hidden is not None:
            final_hidden = self.hidden(final_hidden)
        if self.cell is not None and final_cell is not None:
            final_cell = self.cell(final_cell)
        if self.squash:
            final_hidden = torch.tanh(final_hidden)
            final_cell = None if final_cell is None else torch.tanh(final_cell)
        layers = final_hidden.shape[1]
        return [
            (final_hidden[:, layer, None], None if final_cell is None else final_cell[:, layer, None])
            for layer in range(layers)
        ]


__all__ = ["Bridge", "RecurrentEncoder", "RecurrentEncoderOutput"]
