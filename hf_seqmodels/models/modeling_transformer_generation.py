"""The original Transformer as a translation model."""

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers import initialization as init
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .configuration_transformer import VanillaTransformerConfig
from .losses import IGNORE_INDEX, Count, check_labels, token_cross_entropy
from .modeling_transformer import VanillaTransformerModel, VanillaTransformerPreTrainedModel
from .target_shift import shift_right, up_to_last_label


class VanillaTransformerForConditionalGeneration(VanillaTransformerPreTrainedModel, GenerationMixin):
    """Vaswani et al. 2017; MarianMT checkpoints load as they are."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.model = VanillaTransformerModel(config)
        if config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {
                "lm_head.weight": "model.shared.weight",
                "model.encoder.embed_tokens.weight": "model.shared.weight",
                "model.decoder.embed_tokens.weight": "model.shared.weight",
            }
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        # Marian's bias of the output layer, which is not trained.
        self.final_logits_bias = nn.Buffer(torch.zeros(1, config.vocab_size))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VanillaTransformerForConditionalGeneration):
            init.zeros_(module.final_logits_bias)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As transformers'; the fixed bias of new entries is zero."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        missing = embeddings.num_embeddings - self.final_logits_bias.shape[-1]
        self.final_logits_bias = nn.Buffer(nn.functional.pad(self.final_logits_bias, (0, missing)))
        return embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """As `shift_right`, by the configuration's start and padding token."""
        return shift_right(labels, self.config.decoder_start_token_id, self.config.pad_token_id)

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.LongTensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[torch.LongTensor, dict[str, Any]]:
        """Repeats the target for beams, but not the source: the decoder's attention sees all beams of one at once."""
        names = ("encoder_outputs", "attention_mask")
        of_the_source = {name: model_kwargs.pop(name) for name in names if name in model_kwargs}
        expanded, model_kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size, False, input_ids, **model_kwargs
        )
        return expanded, {**model_kwargs, **of_the_source}

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
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Inputs as in `VanillaTransformerModel.forward`.

        Args:
            labels: `(batch, target_len)` target tokens, -100 where there is none; without decoder inputs they are
                shifted right to be these.
            num_items_in_batch: targets in the whole optimiser step.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                check_labels(labels, self.config.vocab_size, labels.shape)
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)  # type: ignore[assignment]
                if self.training and decoder_attention_mask is None:
                    decoder_attention_mask = up_to_last_label(labels)
        outputs = self.model(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        if labels is not None:
            check_labels(labels, self.config.vocab_size, hidden_states.shape[:2])
            if self.training and self.config.sparse_prediction:
                hidden_states, labels = hidden_states[labels != IGNORE_INDEX], labels[labels != IGNORE_INDEX]  # type: ignore[assignment]
        logits = self.lm_head(hidden_states)
        logits = logits + self.final_logits_bias.to(logits.dtype)
        loss = None
        if labels is not None:
            smoothing = self.config.label_smoothing if self.training else 0.0
            loss = token_cross_entropy(logits, labels, num_items_in_batch, smoothing)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )


__all__ = ["VanillaTransformerForConditionalGeneration"]
