"""Layers of the original Transformer (Vaswani et al. 2017, section 3), with the names of transformers' Marian."""

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import choose_kernel, eager_attention_forward
from .configuration_transformer import VanillaTransformerConfig
from .layers import Dropout
from .packing import Unpadding


class TransformerCache(EncoderDecoderCache):
    """Keys and values of the decoder's own tokens, and of the source.

    Beams of one source share its keys and values: these are kept once for each source, whatever is done to the rows.
    """

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Rows in the order of `beam_idx`, in which rows may repeat, but never leave their source."""
        self.self_attention_cache.reorder_cache(beam_idx)  # type: ignore[arg-type]


def check_cache(cache: Any, num_layers: int, batch: int, sources: int, source_len: int) -> None:
    """Refuses what is no cache of an encoder–decoder, or one of other targets or sources.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(cache, EncoderDecoderCache):
        raise ValueError(
            f"past_key_values is a {type(cache).__name__}; an EncoderDecoderCache is needed, such as an earlier "
            "forward returned."
        )
    for part, name, wanted in (
        (cache.self_attention_cache, "of target tokens has batch size", (batch,)),
        (cache.cross_attention_cache, "of sources has batch size and length", (sources, source_len)),
    ):
        if part.get_seq_length() == 0:
            continue
        layers: list[Any] = part.layers
        if len(layers) != num_layers:
            raise ValueError(f"past_key_values has {len(layers)} layers, the model decoder_layers={num_layers}.")
        keys = layers[0].keys
        held = (keys.shape[0], keys.shape[2])[: len(wanted)]
        if held != wanted:
            raise ValueError(f"past_key_values {name} {held}; {wanted} is expected.")


class TransformerAttention(nn.Module):
    """Multi-head attention (section 3.2.2) through transformers' attention interface."""

    def __init__(self, config: VanillaTransformerConfig, num_heads: int, layer_idx: int, is_causal: bool = False):
        super().__init__()
        self.config = config
        self.is_causal = is_causal
        self.layer_idx = layer_idx
        self.head_dim = config.d_model // num_heads
        self.scaling = self.head_dim**-0.5
        self.k_proj = nn.Linear(config.d_model, config.d_model)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)
        self.dropout_rate = config.attention_dropout

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        past_key_values: EncoderDecoderCache | None = None,
        unpadding: Unpadding | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of a sequence to itself.

        Args:
            hidden_states: `(batch, seq_len, d_model)`; with `unpadding` its real tokens, `(1, num_tokens, d_model)`.
            past_key_values: keys and values of the tokens before, to which these are added.

        Returns:
            The shape of `hidden_states`, and the weights `(batch, heads, seq_len, keys)` if the kernel gives them.
        """
        key, value = (self._heads(linear(hidden_states), unpadding) for linear in (self.k_proj, self.v_proj))
        if past_key_values is not None:
            key, value = past_key_values.self_attention_cache.update(key, value, self.layer_idx)
        query = self._heads(self.q_proj(hidden_states), unpadding)
        context, weights = self.attend(query, key, value, attention_mask, **kwargs)
        return self.out_proj(context if unpadding is None else unpadding.pack(context)), weights

    def _heads(self, states: torch.Tensor, unpadding: Unpadding | None) -> torch.Tensor:
        """`(batch, heads, seq_len, head_dim)`, padded."""
        padded = states if unpadding is None else unpadding.pad(states)
        return padded.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of queries to keys and values, `(batch, heads, length, head_dim)` each -> `(batch, queries, d_model)`."""
        implementation = "eager" if kwargs.get("output_attentions") else self.config._attn_implementation
        interface = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        rate = self.dropout_rate if self.training else 0.0
        kernel = choose_kernel(implementation, interface, query, key, rate)
        context, weights = kernel(
            self, query, key, value, attention_mask, dropout=rate, scaling=self.scaling, **kwargs
        )
        return context.flatten(2), weights


class TransformerCrossAttention(TransformerAttention):
    """Attention to the source."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        source: torch.Tensor,
        attention_mask: Any = None,
        past_key_values: EncoderDecoderCache | None = None,
        unpadding: Unpadding | None = None,
        source_unpadding: Unpadding | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of target tokens to a source. Either may be its real tokens alone, with its `Unpadding`.

        Args:
            hidden_states: `(batch, target_len, d_model)`; a multiple of the sources' batch, when beams share a source.
            source: `(sources, source_len, d_model)`.
            past_key_values: its keys and values, computed once.

        Returns:
            The shape of `hidden_states`, and the weights `(batch, heads, target_len, source_len)` if there are any.
        """
        key: torch.Tensor
        value: torch.Tensor
        if past_key_values is not None and past_key_values.is_updated.get(self.layer_idx, False):
            layer: Any = past_key_values.cross_attention_cache.layers[self.layer_idx]
            key, value = layer.keys, layer.values
        else:
            key, value = (self._heads(linear(source), source_unpadding) for linear in (self.k_proj, self.v_proj))
            if past_key_values is not None:
                past_key_values.cross_attention_cache.update(key, value, self.layer_idx)
                past_key_values.is_updated[self.layer_idx] = True
        query = self._heads(self.q_proj(hidden_states), unpadding)
        batch, target_len, beams = query.shape[0], query.shape[2], query.shape[0] // key.shape[0]
        if beams > 1:
            # Rows of one source are so many queries of it.
            query = query.unflatten(0, (-1, beams)).transpose(1, 2).flatten(2, 3)
        context, weights = self.attend(query, key, value, attention_mask, **kwargs)
        if beams > 1:
            context = context.reshape(batch, target_len, -1)
            weights = None if weights is None else weights.unflatten(2, (beams, -1)).transpose(1, 2).flatten(0, 1)
        return self.out_proj(context if unpadding is None else unpadding.pack(context)), weights


class TransformerEncoderLayer(GradientCheckpointingLayer):
    """Self-attention and feed-forward network, each with a residual and a norm (section 3.1)."""

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__()
        self.pre_norm = config.normalize_before
        self.self_attn = TransformerAttention(config, config.encoder_attention_heads, layer_idx)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.activation = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.activation_dropout = Dropout(config.activation_dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Any = None,
        unpadding: Unpadding | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(batch, seq_len, d_model)`, or its real tokens with `unpadding` -> the same."""
        inputs = self.self_attn_layer_norm(hidden_states) if self.pre_norm else hidden_states
        attended, _ = self.self_attn(inputs, attention_mask, None, unpadding, **kwargs)
        hidden_states = self._joined(hidden_states, attended, self.self_attn_layer_norm)
        return self._feed_forward(hidden_states)

    def _joined(self, hidden_states: torch.Tensor, branch: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
        hidden_states = hidden_states + self.dropout(branch)
        return hidden_states if self.pre_norm else norm(hidden_states)

    def _feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        inputs = self.final_layer_norm(hidden_states) if self.pre_norm else hidden_states
        branch = self.fc2(self.activation_dropout(self.activation(self.fc1(inputs))))
        return self._joined(hidden_states, branch, self.final_layer_norm)


class TransformerDecoderLayer(TransformerEncoderLayer):
    """An encoder layer whose tokens see those before them, with attention to the source in the middle."""

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.self_attn = TransformerAttention(config, config.decoder_attention_heads, layer_idx, is_causal=True)
        self.encoder_attn = TransformerCrossAttention(config, config.decoder_attention_heads, layer_idx)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.decoder_ffn_dim)
        self.fc2 = nn.Linear(config.decoder_ffn_dim, config.d_model)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        source: torch.Tensor,
        attention_mask: Any = None,
        source_mask: Any = None,
        unpadding: Unpadding | None = None,
        source_unpadding: Unpadding | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(batch, target_len, d_model)` and the source `(sources, source_len, d_model)` -> the former's shape.

        Either may be its real tokens alone, with its `Unpadding`.
        """
        inputs = self.self_attn_layer_norm(hidden_states) if self.pre_norm else hidden_states
        attended, _ = self.self_attn(inputs, attention_mask, past_key_values, unpadding, **kwargs)
        hidden_states = self._joined(hidden_states, attended, self.self_attn_layer_norm)
        inputs = self.encoder_attn_layer_norm(hidden_states) if self.pre_norm else hidden_states
        attended, _ = self.encoder_attn(
            inputs, source, source_mask, past_key_values, unpadding, source_unpadding, **kwargs
        )
        hidden_states = self._joined(hidden_states, attended, self.encoder_attn_layer_norm)
        return self._feed_forward(hidden_states)


__all__ = [
    "TransformerAttention",
    "TransformerCache",
    "TransformerCrossAttention",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "check_cache",
]
