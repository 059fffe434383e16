"""SeqBert's encoder (Devlin et al. 2018): post-LN, learned positions, token types, tanh pooler.

Module names are BERT's own, so that every BERT checkpoint loads without a conversion.
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import is_flash_attention_requested, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import attend_in_segments, bidirectional_mask, choose_kernel, eager_attention_forward
from .configuration_bert import SeqBertConfig
from .inputs_bert import EncoderInputs
from .layers import Dropout
from .packing import RowSelection, Segments
from .saving import SavesOwnNames


class SeqBertEmbeddings(nn.Module):
    """Sum of word, position and token type embeddings, normalised (Devlin et al. 2018, figure 2)."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, inputs: EncoderInputs) -> torch.Tensor:
        """Ids `(batch, seq_len)`, or embeddings in place of the words -> `(batch, seq_len, hidden)`."""
        words = self.word_embeddings(inputs.input_ids) if inputs.inputs_embeds is None else inputs.inputs_embeds
        if inputs.token_type_ids is None:
            # Called, not read: an adapter may have taken the table's place.
            token_types = self.token_type_embeddings(torch.zeros((1, 1), dtype=torch.long, device=words.device))
        else:
            token_types = self.token_type_embeddings(inputs.token_type_ids)
        embeddings = words + token_types + self.position_embeddings(inputs.position_ids)
        return self.dropout(self.LayerNorm(embeddings))


class SeqBertSelfAttention(nn.Module):
    """Multi-head self-attention through transformers' attention interface."""

    is_causal = False

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        query_states: torch.Tensor | None = None,
        segments: tuple[Segments, Segments] | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of `query_states` (all of `hidden_states` if `None`) to `hidden_states`.

        Args:
            hidden_states: `(batch, seq_len, hidden)`.
            attention_mask: as `bidirectional_mask` made it.
            query_states: `(batch, num_queries, hidden)`.
            segments: of queries and keys in one packed row.

        Returns:
            `(batch, num_queries, hidden)`, and the weights `(batch, heads, num_queries, seq_len)` if the kernel gives
            them.
        """
        query_states = hidden_states if query_states is None else query_states
        query, key, value = (
            linear(states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for linear, states in (
                (self.query, query_states),
                (self.key, hidden_states),
                (self.value, hidden_states),
            )
        )
        implementation = "eager" if kwargs.get("output_attentions") else self.config._attn_implementation
        interface = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        arguments = {"scaling": self.scaling, "dropout": self.dropout.p if self.training else 0.0, **kwargs}
        kernel = choose_kernel(implementation, interface, query, key, arguments["dropout"])
        weights = None
        if segments is not None and attention_mask is None:
            if is_flash_attention_requested(requested_attention_implementation=implementation):
                context, _ = kernel(self, query, key, value, None, **arguments, **_flash_arguments(*segments))
            else:
                context = attend_in_segments(kernel, self, query, key, value, *segments, **arguments)
        else:
            context, weights = kernel(self, query, key, value, attention_mask, **arguments)
        return context.flatten(2), weights


def _flash_arguments(queries: Segments, keys: Segments) -> dict[str, Any]:
    return {
        "cu_seq_lens_q": queries.cu_seq_lens,
        "cu_seq_lens_k": keys.cu_seq_lens,
        "max_length_q": max(queries.lengths),
        "max_length_k": max(keys.lengths),
    }


class SeqBertResidual(nn.Module):
    """Linear, dropout, residual, LayerNorm: the end of both halves of a post-LN layer."""

    def __init__(self, config: SeqBertConfig, in_features: int):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """`(…, in_features)` and `(…, hidden)` -> `(…, hidden)`."""
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class SeqBertAttention(nn.Module):
    """Self-attention and its residual."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.self = SeqBertSelfAttention(config)
        self.output = SeqBertResidual(config, config.hidden_size)


class SeqBertIntermediate(nn.Module):
    """The first half of the feed-forward network."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(…, hidden)` -> `(…, intermediate)`."""
        return self.activation(self.dense(hidden_states))


class SeqBertLayer(GradientCheckpointingLayer):
    """One post-LN encoder layer."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.attention = SeqBertAttention(config)
        self.intermediate = SeqBertIntermediate(config)
        self.output = SeqBertResidual(config, config.intermediate_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        query_states: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(batch, seq_len, hidden)` -> `(batch, num_queries, hidden)`; the queries are all positions by default."""
        context, _ = self.attention.self(hidden_states, attention_mask, query_states, **kwargs)
        residual = hidden_states if query_states is None else query_states
        attended = self.attention.output(context, residual)
        return self.output(self.intermediate(attended), attended)


class SeqBertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.layer = nn.ModuleList(SeqBertLayer(config) for _ in range(config.num_hidden_layers))


class SeqBertPooler(nn.Module):
    """tanh of a linear layer on [CLS] (Devlin et al. 2018, section 3.1)."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, cls_states: torch.Tensor) -> torch.Tensor:
        """`(num_sequences, hidden)` -> the same."""
        return torch.tanh(self.dense(cls_states))


class SeqBertPreTrainedModel(SavesOwnNames):
    """What all SeqBert classes share: names, switches, initialisation."""

    config: SeqBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SeqBertLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SeqBertLayer, "attentions": SeqBertSelfAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # The vocabulary's own bias is a bare parameter, which the base class does not know.
        bias = getattr(module, "bias", None)
        if module.__class__.__name__ == "SeqBertPredictionHead" and isinstance(bias, nn.Parameter):
            init.zeros_(bias)


class SeqBertModel(SeqBertPreTrainedModel):
    """The encoder, with or without the pooler."""

    def __init__(self, config: SeqBertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = SeqBertEmbeddings(config)
        self.encoder = SeqBertEncoder(config)
        self.pooler = SeqBertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the word embeddings."""
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cu_seq_lens: torch.Tensor | None = None,
        output_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        r"""Encodes a padded batch, or one packed row.

        Args:
            input_ids: `(batch, seq_len)`; or `inputs_embeds` `(batch, seq_len, hidden)` in its place.
            attention_mask: `(batch, seq_len)`, 0 on padding (left or right); or a ready 4-D mask.
            token_type_ids: `(batch, seq_len)`, 0 for the first sentence, 1 for the second; zeros by default.
            position_ids: `(batch, seq_len)`; by default counted from each sequence's first real token.
            cu_seq_lens: `(num_segments + 1,)` cumulative lengths of the segments of one packed row (batch is 1, no
                attention_mask). Segments don't see each other, and positions restart in each.
            output_positions: `(n,)` rising places in the flattened `(batch * seq_len)` at which the last layer is
                computed; they must include each sequence's first real token if there is a pooler.

        Returns:
            `last_hidden_state` `(batch, seq_len, hidden)`, or `(n, hidden)` with `output_positions`; `pooler_output`
            `(num_sequences, hidden)` from each sequence's first real token ([CLS]).

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        inputs = EncoderInputs.from_arguments(
            self.config, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, cu_seq_lens
        )
        wants_attentions = bool(kwargs.get("output_attentions", self.config.output_attentions))
        wants_states = bool(kwargs.get("output_hidden_states", self.config.output_hidden_states))
        unpads = self.config.unpad_inputs or is_flash_attention_requested(self.config)
        if unpads and inputs.can_unpad and not (wants_attentions or wants_states):
            inputs = inputs.unpadded()
        unpadding = inputs.unpadding
        if output_positions is not None and unpadding is not None:
            output_positions = unpadding.to_packed_index(output_positions)

        hidden_states = self._encode(self.embeddings(inputs), inputs, output_positions, wants_attentions, **kwargs)
        pooled = None
        if self.pooler is not None:
            first = inputs.first_positions
            if output_positions is None:
                pooled = self.pooler(hidden_states.flatten(0, 1).index_select(0, first))
            else:
                pooled = self.pooler(hidden_states.index_select(0, torch.searchsorted(output_positions, first)))
        if output_positions is None and unpadding is not None:
            hidden_states = unpadding.pad(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _encode(
        self,
        hidden_states: torch.Tensor,
        inputs: EncoderInputs,
        output_positions: torch.Tensor | None,
        wants_attentions: bool,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The layers; the last one at `output_positions` only, if given: `(n, hidden)` then."""
        *layers, last = self.encoder.layer
        mask, segments = self._visibility(hidden_states, hidden_states, inputs, inputs.segments, wants_attentions)
        for layer in layers:
            hidden_states = layer(hidden_states, mask, segments=segments, **kwargs)
        if output_positions is None:
            return last(hidden_states, mask, segments=segments, **kwargs)
        selection = RowSelection.from_positions(output_positions, hidden_states.shape[:2])
        queries = selection.take(hidden_states)
        query_segments = inputs.segments.select(output_positions) if inputs.segments is not None else None
        mask, segments = self._visibility(queries, hidden_states, inputs, query_segments, wants_attentions)
        return selection.flatten(last(hidden_states, mask, queries, segments=segments, **kwargs))

    def _visibility(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        inputs: EncoderInputs,
        query_segments: Segments | None,
        wants_attentions: bool,
    ) -> tuple[Any, tuple[Segments, Segments] | None]:
        """The mask that the kernel takes; or none, and the segments within which it runs."""
        if inputs.segments is not None and query_segments is not None:
            implementation = self.config._attn_implementation
            by_segment = implementation in ("eager", "sdpa") or is_flash_attention_requested(self.config)
            if by_segment and not wants_attentions:
                return None, (query_segments, inputs.segments)
        mask = bidirectional_mask(
            self.config, queries, keys, inputs.attention_mask, query_segments, inputs.segments, dense=wants_attentions
        )
        return mask, None


__all__ = ["SeqBertModel", "SeqBertPreTrainedModel"]
