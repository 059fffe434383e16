"""Seq2Seq and AttentionSeq2Seq: recurrent encoder–decoders for translation."""

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from .attention_scores import Memory
from .configuration_seq2seq import AttentionSeq2SeqConfig, RecurrentSeq2SeqConfig, Seq2SeqConfig
from .input_checks import check_given, check_ids, check_shape
from .losses import IGNORE_INDEX, Count, at_least_float32, check_labels, divide, token_cross_entropy
from .recurrent_cache import RecurrentCache
from .recurrent_dropout import embed_with_dropout
from .recurrent_initialization import initialize_recurrence
from .saving import SavesOwnNames
from .seq2seq_decoder import DecoderOutput, DecoderState, build_decoder
from .seq2seq_encoder import Bridge, RecurrentEncoder, RecurrentEncoderOutput
from .seq2seq_outputs import RecurrentSeq2SeqModelOutput, Seq2SeqOutput
from .target_shift import shift_right


class RecurrentSeq2SeqPreTrainedModel(SavesOwnNames):
    """What the recurrent encoder–decoders share: names, switches, initialisation."""

    config: RecurrentSeq2SeqConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["RecurrentLayer"]
    _is_stateful = True

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """The forward makes its own cache: a state, no keys and values."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.RNNBase):
            initialize_recurrence(module, self.config)
        elif isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -self.config.initializer_range, self.config.initializer_range)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class RecurrentSeq2SeqModel(RecurrentSeq2SeqPreTrainedModel):
    """Encoder, bridge and decoder; the base of `Seq2SeqModel` and `AttentionSeq2SeqModel`."""

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__(config)
        self.encoder = RecurrentEncoder(config)
        self.bridge = Bridge(config)
        self.decoder = build_decoder(config)
        if config.share_embeddings:
            # The source of a tie is the first in the model, under whose name checkpoints hold the weight.
            self._tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's embeddings, which the encoder shares by default."""
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces them.

        Raises:
            ValueError: source and target have tables of their own.
        """
        if not self.config.share_embeddings:
            raise ValueError("share_embeddings=False: set encoder.embed_tokens and decoder.embed_tokens yourself.")
        self.encoder.embed_tokens = self.decoder.embed_tokens = value  # type: ignore[assignment]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: RecurrentEncoderOutput | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> RecurrentSeq2SeqModelOutput:
        """Reads a source and runs over a target.

        Args:
            input_ids: `(batch, source_len)`; or `inputs_embeds`; or the `encoder_outputs` of an earlier call.
            attention_mask: `(batch, source_len)`, 0 on padding on either side.
            decoder_input_ids: `(batch, target_len)`, the target shifted right; or `decoder_inputs_embeds`.
            decoder_attention_mask: `(batch, target_len)`, or with the past before it; 0 on padding.
            past_key_values: the decoder's state to go on from; it is updated in place.
            use_cache: return the state; by default as the configuration says.
            stepwise: (keyword) run an attention decoder step by step though it need not; the numbers are the same.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        wants_states = bool(kwargs.get("output_hidden_states", self.config.output_hidden_states))
        encoded = self.encode(input_ids, attention_mask, inputs_embeds, encoder_outputs, wants_states)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            raise ValueError(
                "decoder_input_ids are missing: give the target shifted right, or labels to the model with a head."
            )
        inputs = self.embed_target(decoder_input_ids, decoder_inputs_embeds)
        memory = self.remember(encoded, attention_mask)
        if inputs.shape[0] != memory.states.shape[0]:
            raise ValueError(
                f"The decoder's input has batch size {inputs.shape[0]}, the source {memory.states.shape[0]}."
            )
        state = self.begin(encoded, memory, past_key_values)
        mask = self._own_mask(decoder_attention_mask, inputs.shape[:2], past_key_values)
        outputs = self.decoder(inputs, state, memory, mask, wants_states, bool(kwargs.get("stepwise", False)))
        wants_weights = kwargs.get("output_attentions", self.config.output_attentions)
        cache = None
        if self.config.use_cache if use_cache is None else use_cache:
            cache = past_key_values if past_key_values is not None else outputs.state.new_cache()
            outputs.state.store(cache, inputs.shape[1])
        return RecurrentSeq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=cache,
            decoder_hidden_states=outputs.hidden_states,
            cross_attentions=_cross_attentions(outputs) if wants_weights else None,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            repeated_attention=outputs.repeated,
        )

    def encode(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        encoder_outputs: RecurrentEncoderOutput | None,
        output_hidden_states: bool = False,
    ) -> RecurrentEncoderOutput:
        """The source read, unless it has been."""
        if encoder_outputs is None:
            return self.encoder(input_ids, attention_mask, inputs_embeds, output_hidden_states)
        if not isinstance(encoder_outputs, RecurrentEncoderOutput):
            raise ValueError(
                f"encoder_outputs is a {type(encoder_outputs).__name__}; the output of this model's own encoder is "
                "needed, which has its last state, too."
            )
        states, final = encoder_outputs.last_hidden_state, encoder_outputs.final_hidden
        assert states is not None and final is not None
        wanted = (states.shape[0], self.config.num_hidden_layers, self.config.hidden_size)
        has_cell = encoder_outputs.final_cell is not None
        if tuple(final.shape) != wanted or has_cell != (self.config.cell_type == "lstm"):
            raise ValueError(
                f"encoder_outputs.final_hidden of shape {tuple(final.shape)}, {'with' if has_cell else 'without'} "
                f"final_cell, is another model's; {wanted} of cell_type={self.config.cell_type!r} is expected."
            )
        check_shape("attention_mask", attention_mask, (states.shape[0], states.shape[1]))
        return encoder_outputs

    def _own_mask(
        self, mask: torch.Tensor | None, shape: torch.Size, cache: RecurrentCache | None
    ) -> torch.Tensor | None:
        """The decoder's mask of the new tokens alone; it may be given with the past before them."""
        if mask is None:
            return None
        batch, length = shape
        past = 0 if cache is None else cache.get_seq_length()
        if tuple(mask.shape) not in ((batch, length), (batch, past + length)):
            raise ValueError(
                f"decoder_attention_mask of shape {tuple(mask.shape)} does not fit the decoder's input "
                f"{(batch, length)} after {past} tokens."
            )
        return mask[:, -length:]

    def embed_target(self, ids: torch.Tensor | None, embeds: torch.Tensor | None) -> torch.Tensor:
        """`(batch, target_len)` -> `(batch, target_len, embedding)`."""
        given = check_given(ids, embeds, self.config.input_size, "embedding_size")
        check_ids("decoder_input_ids", ids, "vocab_size", self.config.vocab_size)
        if ids is None:
            return given
        rate = self.config.embedding_dropout_prob if self.training else 0.0
        return embed_with_dropout(self.decoder.embed_tokens, ids, rate)

    def remember(self, encoded: RecurrentEncoderOutput, attention_mask: torch.Tensor | None) -> Memory:
        """What the decoder sees of the source at every step."""
        assert encoded.last_hidden_state is not None and encoded.final_hidden is not None
        return self.decoder.memory(encoded.last_hidden_state, attention_mask, encoded.final_hidden[:, -1])

    def begin(self, encoded: RecurrentEncoderOutput, memory: Memory, cache: RecurrentCache | None) -> DecoderState:
        """The decoder's state before the first token, or as it lies in a cache."""
        assert encoded.final_hidden is not None
        state = self.decoder.begin(self.bridge(encoded.final_hidden, encoded.final_cell), memory)
        if cache is None:
            return state
        if not isinstance(cache, RecurrentCache):
            raise ValueError(
                f"past_key_values is a {type(cache).__name__}; {type(self).__name__} needs the RecurrentCache that an "
                "earlier forward returned."
            )
        return state.resumed(cache)


def _cross_attentions(outputs: DecoderOutput) -> tuple[torch.Tensor, ...]:
    if outputs.weights is None:
        raise ValueError("output_attentions=True: Seq2Seq has no attention, only a fixed-size context; leave it off.")
    return (outputs.weights.unsqueeze(1),)


class RecurrentSeq2SeqForConditionalGeneration(RecurrentSeq2SeqPreTrainedModel, GenerationMixin):
    """A translation model; the base of `Seq2SeqForConditionalGeneration` and the attention model's.

    Attributes:
        teacher_forcing_ratio: share of the decoder's inputs that are the true target's tokens while training; the
            others are what the model itself gave (Bengio et al. 2015). Set it as training goes (see
            `hf_seqmodels.training.scheduled_sampling`); below 1 the decoder runs step by step.
    """

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__(config)
        self.model = RecurrentSeq2SeqModel(config)
        self.teacher_forcing_ratio = 1.0
        self.dense: nn.Linear | None = None
        if config.tie_word_embeddings and config.hidden_size != config.input_size:
            self.dense = nn.Linear(config.hidden_size, config.input_size)
        width = config.hidden_size if self.dense is None else config.input_size
        self.lm_head = nn.Linear(width, config.vocab_size)
        self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
        if config.share_embeddings:
            self._tied_weights_keys = {
                "lm_head.weight": "model.encoder.embed_tokens.weight",
                "model.decoder.embed_tokens.weight": "model.encoder.embed_tokens.weight",
            }
        self.post_init()

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        """What `generate()` runs once."""
        return self.model.encoder

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """As `shift_right`, by the configuration's start and padding token."""
        return shift_right(labels, self.config.decoder_start_token_id, self.config.pad_token_id)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: RecurrentEncoderOutput | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> Seq2SeqOutput:
        """Inputs as in `RecurrentSeq2SeqModel.forward`.

        Args:
            labels: `(batch, target_len)` target tokens, -100 where there is none; without decoder inputs they are
                shifted right to be these.
            num_items_in_batch: targets in the whole optimiser step.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            check_labels(labels, self.config.vocab_size, labels.shape)
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)  # type: ignore[assignment]
        sampled = self.training and labels is not None and self.teacher_forcing_ratio < 1.0
        if sampled and decoder_input_ids is not None:
            encoder_outputs = self.model.encode(input_ids, attention_mask, inputs_embeds, encoder_outputs)
            decoder_input_ids = self._sampled_inputs(decoder_input_ids, encoder_outputs, attention_mask)  # type: ignore[assignment]
        outputs: RecurrentSeq2SeqModelOutput = self.model(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache if labels is None else False,
            **kwargs,
        )
        assert outputs.last_hidden_state is not None
        hidden_states: torch.Tensor = outputs.last_hidden_state
        targets = labels
        if labels is not None:
            check_labels(labels, self.config.vocab_size, hidden_states.shape[:2])
            if self.training and self.config.sparse_prediction:
                hidden_states, targets = hidden_states[labels != IGNORE_INDEX], labels[labels != IGNORE_INDEX]  # type: ignore[assignment]
        logits = self._logits(hidden_states)
        loss = coverage_loss = None
        if labels is not None and targets is not None:
            smoothing = self.config.label_smoothing if self.training else 0.0
            loss = token_cross_entropy(logits, targets, num_items_in_batch, smoothing)
            coverage_loss = self._coverage_loss(outputs, labels, num_items_in_batch)
            loss = loss if coverage_loss is None else loss + coverage_loss
        return Seq2SeqOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,  # type: ignore[arg-type]
            decoder_hidden_states=outputs.decoder_hidden_states,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            coverage_loss=coverage_loss,
        )

    def _logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.lm_head(hidden_states if self.dense is None else self.dense(hidden_states))

    def _coverage_loss(
        self, outputs: RecurrentSeq2SeqModelOutput, labels: torch.Tensor, num_items: Count
    ) -> torch.Tensor | None:
        """The cost of attending twice, while training (See et al. 2017, equation 12)."""
        weight = getattr(self.config, "coverage_weight", 0.0)
        if not (weight and self.training):
            return None
        assert outputs.repeated_attention is not None
        counted = labels != IGNORE_INDEX
        repeated = (at_least_float32(outputs.repeated_attention) * counted).sum()
        return weight * divide(repeated, num_items, counted.sum())

    @torch.no_grad()
    def _sampled_inputs(
        self, decoder_input_ids: torch.Tensor, encoded: RecurrentEncoderOutput, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """The decoder's inputs with some true tokens replaced by the model's own (Bengio et al. 2015, section 2.4).

        The choice of a token has no gradient, so the inputs are found in a pass of their own, and the loss is computed
        on them as on any others.
        """
        batch, length = decoder_input_ids.shape
        coins = torch.rand(
            batch if self.config.sampling_unit == "token" else 1, length, device=decoder_input_ids.device
        )
        true = (coins < self.teacher_forcing_ratio).expand(batch, -1)
        memory = self.model.remember(encoded, attention_mask)
        state = self.model.begin(encoded, memory, None)
        chosen = [decoder_input_ids[:, 0]]
        for step in range(1, length):
            inputs = self.model.embed_target(chosen[-1].unsqueeze(1), None)
            outputs = self.model.decoder(inputs, state, memory)
            state = outputs.state
            guess = self._logits(outputs.last_hidden_state)[:, -1].argmax(-1)
            chosen.append(torch.where(true[:, step], decoder_input_ids[:, step], guess))
        return torch.stack(chosen, dim=1)


class Seq2SeqModel(RecurrentSeq2SeqModel):
    """Encoder and decoder with a fixed-size context between them."""

    config: Seq2SeqConfig


class AttentionSeq2SeqModel(RecurrentSeq2SeqModel):
    """Encoder and decoder with attention between them."""

    config: AttentionSeq2SeqConfig


class Seq2SeqForConditionalGeneration(RecurrentSeq2SeqForConditionalGeneration, GenerationMixin):
    """Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks"; Cho et al. 2014."""

    config: Seq2SeqConfig


class AttentionSeq2SeqForConditionalGeneration(RecurrentSeq2SeqForConditionalGeneration, GenerationMixin):
    """Bahdanau et al. 2015, Luong et al. 2015."""

    config: AttentionSeq2SeqConfig


__all__ = [
    "AttentionSeq2SeqForConditionalGeneration",
    "AttentionSeq2SeqModel",
    "Seq2SeqForConditionalGeneration",
    "Seq2SeqModel",
]
