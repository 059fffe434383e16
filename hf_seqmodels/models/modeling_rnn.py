"""The bare RNN, LSTM and GRU: embeddings and the recurrent stack, with its state as a cache."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig
from .crf import LinearChainCRF
from .input_checks import check_given, check_ids, check_rows
from .recurrent import RecurrentLayer, RecurrentStack, State
from .recurrent_cache import RecurrentCache
from .recurrent_dropout import embed_with_dropout
from .recurrent_initialization import initialize_recurrence
from .recurrent_layernorm import LayerNormRecurrence
from .saving import SavesOwnNames


@dataclass
class RecurrentModelOutput(ModelOutput):
    """What the bare models return.

    Args:
        last_hidden_state: `(batch, seq_len, output)`, zero on padding.
        past_key_values: the state after the sequence, unless `use_cache` is off.
        hidden_states: on request, the embeddings and each layer's output.
        undropped_hidden_state: `last_hidden_state` before dropout, while training with a penalty on it.
    """

    last_hidden_state: torch.Tensor | None = None
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    undropped_hidden_state: torch.Tensor | None = None


class RecurrentPreTrainedModel(SavesOwnNames):
    """What all recurrent models share: names, switches, initialisation."""

    config: RecurrentConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["RecurrentLayer"]
    # Speculative decoding would have to go back, which a state cannot.
    _is_stateful = True

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The forward makes its own cache: a state, no keys and values."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.RNNBase, LayerNormRecurrence)):
            initialize_recurrence(module, self.config)
        elif isinstance(module, RecurrentLayer):
            for parameter in module.parameters(recurse=False):
                init.zeros_(parameter)
        elif isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -self.config.initializer_range, self.config.initializer_range)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LinearChainCRF):
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -0.1, 0.1)
        else:
            super()._init_weights(module)


class RecurrentModel(RecurrentPreTrainedModel):
    """Embeddings and recurrent layers; the base of `RNNModel`, `LSTMModel` and `GRUModel`."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        # No padding_idx: padding is never seen, and a tokenizer may pad with its end-of-text token, which must learn.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.input_size)
        self.stack = RecurrentStack(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> RecurrentModelOutput:
        """Runs over a batch of sequences.

        Args:
            input_ids: `(batch, seq_len)`; or `inputs_embeds` `(batch, seq_len, embedding)` in its place.
            attention_mask: `(batch, seq_len)`, or `(batch, past + seq_len)` with a cache; 0 on padding, which may lie
                on either side, or between tokens. Given a cache, a row may be padding alone.
            past_key_values: the state to go on from, or an empty cache to begin in chunks; it is updated in place.
            use_cache: return the state; by default as the configuration says.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        given = check_given(input_ids, inputs_embeds, self.config.input_size, "embedding_size")
        check_ids("input_ids", input_ids, "vocab_size", self.config.vocab_size)
        if kwargs.get("output_attentions", self.config.output_attentions):
            raise ValueError("output_attentions=True: a recurrent model has no attentions; leave it off.")
        states = self._check_cache(past_key_values, given.shape[0])
        mask = _current_mask(attention_mask, past_key_values, given.shape[0], given.shape[1])
        if mask is not None and past_key_values is None:
            check_rows(mask)
        if inputs_embeds is None:
            rate = self.config.embedding_dropout_prob if self.training else 0.0
            inputs_embeds = embed_with_dropout(self.embed_tokens, given, rate)
        wants_states = bool(kwargs.get("output_hidden_states", self.config.output_hidden_states))
        outputs = self.stack(inputs_embeds, mask, states, wants_states)
        cache = None
        if self.config.use_cache if use_cache is None else use_cache:
            cache = past_key_values if past_key_values is not None else RecurrentCache(self.config.num_hidden_layers)
            for layer, (hidden, cell) in zip(cache.layers, outputs.states):
                layer.set_state(hidden, cell, given.shape[1])
        penalised = self.training and self.config.temporal_activation_regularization > 0
        return RecurrentModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=cache,
            hidden_states=outputs.hidden_states,
            undropped_hidden_state=outputs.undropped if penalised else None,
        )

    def _check_cache(self, cache: RecurrentCache | None, batch_size: int) -> list[State] | None:
        """The states to go on from, if there are any."""
        if cache is None:
            return None
        if not isinstance(cache, RecurrentCache):
            raise ValueError(
                f"past_key_values is a {type(cache).__name__}; {type(self).__name__} needs the RecurrentCache that an "
                "earlier forward returned."
            )
        layers = self.config.num_hidden_layers
        if len(cache.layers) != layers:
            raise ValueError(f"past_key_values has {len(cache.layers)} layers, the model num_hidden_layers={layers}.")
        if cache.batch_size == 0:
            return None
        if self.config.bidirectional:
            raise ValueError(
                "past_key_values holds a state, but bidirectional=True: from right to left there is nothing to go on "
                "from. Give whole sequences."
            )
        if cache.batch_size != batch_size:
            raise ValueError(f"past_key_values has batch size {cache.batch_size}, the input {batch_size}.")
        states: list[State] = []
        sizes = [self.config.state_size, *([self.config.hidden_size] if self.config.cell_type == "lstm" else [])]
        wanted = [(batch_size, self.config.num_directions, size) for size in sizes]
        for number, layer in enumerate(cache.layers):
            shapes = [tuple(state.shape) for state in (layer.hidden, layer.cell) if state is not None]
            if layer.hidden is None or shapes != wanted:
                raise ValueError(
                    f"past_key_values, layer {number}: a state of shapes {shapes} is another model's; "
                    f"{self.config.cell_type} expects {wanted}."
                )
            device = self.embed_tokens.weight.device
            states.append((layer.hidden.to(device), None if layer.cell is None else layer.cell.to(device)))
        return states


def _current_mask(
    attention_mask: torch.Tensor | None, cache: RecurrentCache | None, batch_size: int, seq_len: int
) -> torch.Tensor | None:
    """The part of the mask `(batch, seq_len)` that belongs to the current tokens."""
    if attention_mask is None:
        return None
    past = cache.get_seq_length() if cache is not None else 0
    allowed = ((batch_size, seq_len), (batch_size, past + seq_len))
    if tuple(attention_mask.shape) not in allowed:
        raise ValueError(
            f"attention_mask of shape {tuple(attention_mask.shape)} does not fit the input {(batch_size, seq_len)}"
            + (f" after {past} tokens." if past else ".")
        )
    return attention_mask[:, -seq_len:]


class RNNModel(RecurrentModel):
    """The plain recurrent network (Elman 1990)."""

    config: RNNConfig


class LSTMModel(RecurrentModel):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    config: LSTMConfig


class GRUModel(RecurrentModel):
    """Gated recurrent units (Cho et al. 2014)."""

    config: GRUConfig


# What the heads are built around, by the configuration's cell_type.
MODELS: dict[str, type[RecurrentModel]] = {"rnn": RNNModel, "lstm": LSTMModel, "gru": GRUModel}


__all__ = [
    "MODELS",
    "GRUModel",
    "LSTMModel",
    "RNNModel",
    "RecurrentModel",
    "RecurrentModelOutput",
    "RecurrentPreTrainedModel",
]
