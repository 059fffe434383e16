"""The original Transformer (Vaswani et al. 2017): encoder and decoder, modules named as in transformers' Marian."""

import math
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqModelOutput,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import bidirectional_mask
from .configuration_transformer import VanillaTransformerConfig
from .input_checks import check_given, check_ids, check_rows, check_shape
from .layers import Dropout
from .packing import Unpadding
from .saving import SavesOwnNames
from .transformer_layers import (
    TransformerAttention,
    TransformerCache,
    TransformerCrossAttention,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    check_cache,
)


class SinusoidalPositions(nn.Module):
    """Sines in the first half of the features, cosines in the second (section 3.5, in Marian's order)."""

    def __init__(self, num_positions: int, dim: int):
        super().__init__()
        self.weight = nn.Buffer(sinusoids(num_positions, dim), persistent=False)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len)` -> `(batch, seq_len, dim)`."""
        return nn.functional.embedding(position_ids, self.weight)


def sinusoids(num_positions: int, dim: int) -> torch.Tensor:
    """`(num_positions, dim)` in float32."""
    frequencies = 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(num_positions, dtype=torch.float64), frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


class VanillaTransformerPreTrainedModel(SavesOwnNames):
    """What all VanillaTransformer classes share: names, switches, initialisation."""

    config: VanillaTransformerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerEncoderLayer", "TransformerDecoderLayer"]
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Sinusoids are computed, though old Marian checkpoints hold them.
    _keys_to_ignore_on_load_unexpected = [r"embed_positions\.weight"]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The forward makes its own cache, in which beams share their source."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            scaled = self.config.scale_embedding
            init.normal_(module.weight, std=self.config.d_model**-0.5 if scaled else self.config.init_std)
        elif isinstance(module, SinusoidalPositions):
            init.copy_(module.weight, sinusoids(*module.weight.shape))
        else:
            super()._init_weights(module)


class _Stack(VanillaTransformerPreTrainedModel):
    """Embeddings with positions, and what comes after the last layer: alike in encoder and decoder."""

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        positions = SinusoidalPositions if config.position_embedding_type == "sinusoidal" else nn.Embedding
        self.embed_positions = positions(config.max_position_embeddings, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.layer_norm = nn.LayerNorm(config.d_model) if config.normalize_before else None

    def _embed(self, name: str, ids: torch.Tensor | None, embeds: torch.Tensor | None) -> torch.Tensor:
        """Checked ids `(batch, seq_len)`, or embeddings, as `(batch, seq_len, d_model)`, without positions."""
        given = check_given(ids, embeds, self.config.d_model, "d_model")
        check_ids(name, ids, "vocab_size", self.config.vocab_size)
        return (given if ids is None else self.embed_tokens(given)) * self.embed_scale

    def _place(self, embeds: torch.Tensor, mask: torch.Tensor | None, past: int = 0) -> torch.Tensor:
        """Adds positions, counted from each row's first real token; `mask` is `(batch, past + seq_len)`."""
        total = past + embeds.shape[1]
        if total > self.config.max_position_embeddings:
            raise ValueError(
                f"A sequence of {total} tokens is longer than max_position_embeddings="
                f"{self.config.max_position_embeddings}; truncate it or split it."
            )
        positions = torch.arange(past, total, device=embeds.device).unsqueeze(0)
        if mask is not None:
            first = (mask != 0).int().argmax(-1, keepdim=True)
            positions = (positions - first).clamp(min=0)
        return self.dropout(embeds + self.embed_positions(positions).to(embeds.dtype))

    def _unpadding(self, mask: torch.Tensor | None, **kwargs: Any) -> Unpadding | None:
        """How to leave out padding, if there is any and nobody wants to see the layers' outputs."""
        wanted = any(kwargs.get(name) for name in ("output_attentions", "output_hidden_states"))
        if mask is None or wanted or not self.config.unpad_inputs or torch.compiler.is_compiling():
            return None
        return None if bool((mask != 0).all()) else Unpadding.from_mask(mask)

    def _end(self, hidden_states: torch.Tensor, unpadding: Unpadding | None) -> torch.Tensor:
        normalised = hidden_states if self.layer_norm is None else self.layer_norm(hidden_states)
        return normalised if unpadding is None else unpadding.pad(normalised)


class VanillaTransformerEncoder(_Stack):
    """Reads the source."""

    _can_record_outputs = {"hidden_states": TransformerEncoderLayer, "attentions": TransformerAttention}

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.layers = nn.ModuleList(TransformerEncoderLayer(config, index) for index in range(config.encoder_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """`(batch, source_len)` ids, or embeddings in their place, and their mask, 0 on padding on either side.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        embeds = self._embed("input_ids", input_ids, inputs_embeds)
        check_shape("attention_mask", attention_mask, (embeds.shape[0], embeds.shape[1]))
        if attention_mask is not None:
            check_rows(attention_mask)
        hidden_states = self._place(embeds, attention_mask)
        dense = bool(kwargs.get("output_attentions", self.config.output_attentions))
        mask = bidirectional_mask(self.config, hidden_states, hidden_states, attention_mask, dense=dense)
        unpadding = self._unpadding(attention_mask, **kwargs)
        if unpadding is not None:
            hidden_states = unpadding.pack(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, unpadding, **kwargs)
        return BaseModelOutput(last_hidden_state=self._end(hidden_states, unpadding))


class VanillaTransformerDecoder(_Stack):
    """Runs over the target."""

    _can_record_outputs = {
        "hidden_states": TransformerDecoderLayer,
        "attentions": OutputRecorder(TransformerAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(TransformerCrossAttention, index=1, layer_name="encoder_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.layers = nn.ModuleList(TransformerDecoderLayer(config, index) for index in range(config.decoder_layers))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Runs over target tokens.

        Args:
            input_ids: `(batch, target_len)`; or `inputs_embeds`.
            attention_mask: `(batch, past + target_len)`, 0 on padding.
            encoder_hidden_states: `(sources, source_len, d_model)`; `batch` is a multiple of `sources`, and rows next
                to each other share a source, as the beams of `generate()` do.
            encoder_attention_mask: `(sources, source_len)`.
            past_key_values: keys and values to go on from, to which these are added.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        embeds = self._embed("decoder_input_ids", input_ids, inputs_embeds)
        if encoder_hidden_states is None:
            raise ValueError("encoder_hidden_states are missing: a decoder needs a source.")
        batch, target_len = embeds.shape[:2]
        sources, source_len = encoder_hidden_states.shape[:2]
        if batch % sources:
            raise ValueError(f"The decoder's input has batch size {batch}, which is no multiple of {sources} sources.")
        if encoder_hidden_states.shape[2:] != (self.config.d_model,):
            raise ValueError(
                f"encoder_hidden_states of shape {tuple(encoder_hidden_states.shape)} are another model's; "
                f"d_model={self.config.d_model} is expected."
            )
        check_shape("attention_mask", encoder_attention_mask, (sources, source_len))
        if past_key_values is not None:
            check_cache(past_key_values, len(self.layers), batch, sources, source_len)
        if past_key_values is None and use_cache:
            past_key_values = TransformerCache(DynamicCache(), DynamicCache())
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        check_shape("decoder_attention_mask", attention_mask, (batch, past + target_len))
        hidden_states = self._place(embeds, attention_mask, past)
        dense = bool(kwargs.get("output_attentions", self.config.output_attentions))
        own = past_key_values.self_attention_cache if past_key_values is not None else None
        mask = _causal_mask(self.config, hidden_states, attention_mask, own, dense)
        grouped = hidden_states.reshape(sources, -1, hidden_states.shape[-1])
        source_mask = bidirectional_mask(
            self.config, grouped, encoder_hidden_states, encoder_attention_mask, dense=dense
        )
        # With a cache there are few tokens, and the source is seen once.
        unpadding = source_unpadding = None
        if past_key_values is None:
            unpadding = self._unpadding(attention_mask, **kwargs)
            source_unpadding = self._unpadding(encoder_attention_mask, **kwargs)
        if unpadding is not None:
            hidden_states = unpadding.pack(hidden_states)
        if source_unpadding is not None:
            encoder_hidden_states = source_unpadding.pack(encoder_hidden_states)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                mask,
                source_mask,
                unpadding,
                source_unpadding,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self._end(hidden_states, unpadding),
            past_key_values=past_key_values if use_cache else None,
        )


def _causal_mask(
    config: VanillaTransformerConfig,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cache: Any,
    dense: bool,
) -> Any:
    """What every target token may see, in the form that the attention implementation takes; boolean if `dense`."""
    if not dense:
        return create_causal_mask(
            config=config, inputs_embeds=hidden_states, attention_mask=attention_mask, past_key_values=cache
        )
    past = cache.get_seq_length() if cache is not None else 0
    queries = torch.arange(past, past + hidden_states.shape[1], device=hidden_states.device)
    keys = torch.arange(past + hidden_states.shape[1], device=hidden_states.device)
    visible = (keys[None] <= queries[:, None])[None, None]
    return visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]


class VanillaTransformerModel(VanillaTransformerPreTrainedModel):
    """Encoder and decoder."""

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        if config.share_encoder_decoder_embeddings:
            self.shared = nn.Embedding(config.vocab_size, config.d_model)
            self._tied_weights_keys = {
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
            }
        self.encoder = VanillaTransformerEncoder(config)
        self.decoder = VanillaTransformerDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The shared embeddings, or the source's."""
        return self.shared if self.config.share_encoder_decoder_embeddings else self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces them.

        Raises:
            ValueError: source and target have tables of their own.
        """
        if not self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "share_encoder_decoder_embeddings=False: set encoder.embed_tokens and decoder.embed_tokens yourself."
            )
        self.shared = self.encoder.embed_tokens = self.decoder.embed_tokens = value  # type: ignore[assignment]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Reads a source and runs over a target.

        Args:
            input_ids: `(batch, source_len)`; or `inputs_embeds`; or the `encoder_outputs` of an earlier call.
            attention_mask: `(batch, source_len)`, 0 on padding.
            decoder_input_ids: `(batch, target_len)`, the target shifted right; or `decoder_inputs_embeds`.
            decoder_attention_mask: `(batch, past + target_len)`, 0 on padding.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, inputs_embeds, **kwargs)
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            raise ValueError(f"encoder_outputs is a {type(encoder_outputs).__name__}; a BaseModelOutput is needed.")
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            raise ValueError(
                "decoder_input_ids are missing: give the target shifted right, or labels to the model with a head."
            )
        outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs.last_hidden_state,
            attention_mask,
            past_key_values,
            decoder_inputs_embeds,
            use_cache=self.config.use_cache if use_cache is None else use_cache,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


__all__ = [
    "VanillaTransformerDecoder",
    "VanillaTransformerEncoder",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
]
