"""SeqBert's pretraining heads: masked language model, next sentence prediction, and both (Devlin et al. 2018, 3.1)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput, ModelOutput, NextSentencePredictorOutput
from transformers.utils.generic import can_return_tuple

from .configuration_bert import SeqBertConfig
from .inputs_bert import EncoderInputs
from .losses import IGNORE_INDEX, Count, check_labels, divide, token_cross_entropy
from .modeling_bert import SeqBertModel, SeqBertPreTrainedModel

# What of the arguments of a forward says which tokens there are.
_ENCODER_ARGUMENTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "inputs_embeds",
    "cu_seq_lens",
)


class SeqBertTransform(nn.Module):
    """Linear, activation and LayerNorm before the vocabulary."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(…, hidden)` -> `(…, hidden)`."""
        return self.LayerNorm(self.activation(self.dense(hidden_states)))


class SeqBertPredictionHead(nn.Module):
    """Scores over the vocabulary, with the word embeddings as output weights and a bias of its own."""

    def __init__(self, config: SeqBertConfig):
        super().__init__()
        self.transform = SeqBertTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            # BERT's checkpoints hold the bias under this name; it is tied to the decoder's. Untied, it would be a
            # parameter without a use, over which DistributedDataParallel stumbles.
            self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(…, hidden)` -> `(…, vocab_size)`."""
        return self.decoder(self.transform(hidden_states))


class SeqBertHeads(nn.Module):
    """The heads that a class has, under BERT's names."""

    def __init__(self, config: SeqBertConfig, mlm: bool, nsp: bool):
        super().__init__()
        if mlm:
            self.predictions = SeqBertPredictionHead(config)
        if nsp:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


@dataclass
class SeqBertForPreTrainingOutput(ModelOutput):
    """Output of `SeqBertForPreTraining`.

    Args:
        loss: sum of the losses whose labels were given, a scalar.
        mlm_loss, nsp_loss: each on its own, scalars; `None` without its labels.
        prediction_logits: `(batch, seq_len, vocab_size)`; with sparse prediction `(num_masked, vocab_size)`, in
            row-major order of `labels != -100`.
        seq_relationship_logits: `(num_sequences, 2)`; index 0 says that B follows A, 1 that B is random.
    """

    loss: torch.Tensor | None = None
    mlm_loss: torch.Tensor | None = None
    nsp_loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    seq_relationship_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeqBertMaskedLMBase(SeqBertPreTrainedModel):
    """What the two classes with a vocabulary head share: tying, and prediction at masked positions only."""

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    # In BERT's untied checkpoints, where nothing uses it.
    _keys_to_ignore_on_load_unexpected = [r"^cls\.predictions\.bias$"]
    bert: SeqBertModel
    cls: SeqBertHeads

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary projection."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replaces the vocabulary projection and its bias."""
        self.cls.predictions.decoder = new_embeddings
        if self.config.tie_word_embeddings:
            self.cls.predictions.bias = new_embeddings.bias

    def encode_and_predict(
        self, labels: torch.Tensor | None, sparse_prediction: bool | None, **inputs: Any
    ) -> tuple[Any, torch.Tensor, torch.Tensor | None]:
        """Encoder outputs, scores over the vocabulary, and the labels that belong to the scores.

        Dense: scores `(batch, seq_len, vocab_size)`. Sparse (`sparse_prediction`, by default while training if the
        config says so): `(num_masked, vocab_size)` and labels `(num_masked,)`.
        """
        if labels is not None:
            labels = self._visible_labels(labels, inputs)
        if sparse_prediction is None:
            sparse_prediction = self.training and self.config.sparse_prediction
        if labels is None or not sparse_prediction:
            outputs = self.bert(**inputs)
            return outputs, self.cls.predictions(outputs.last_hidden_state), labels
        flat_labels = labels.flatten()
        if self._needs_all_positions(inputs):
            outputs = self.bert(**inputs)
            states, kept_labels = outputs.last_hidden_state.flatten(0, 1), flat_labels
        else:
            positions = self._kept_positions(flat_labels, inputs)
            outputs = self.bert(**inputs, output_positions=positions)
            states, kept_labels = outputs.last_hidden_state, flat_labels[positions]
        masked = (kept_labels != IGNORE_INDEX).nonzero().squeeze(-1)
        return outputs, self.cls.predictions(states.index_select(0, masked)), kept_labels[masked]

    def _visible_labels(self, labels: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Padding has nothing to predict, whatever its label, so that padded and unpadded agree."""
        given = inputs["input_ids"] if inputs["inputs_embeds"] is None else inputs["inputs_embeds"]
        if given is not None:
            check_labels(labels, self.config.vocab_size, given.shape[:2])
        attention_mask = inputs["attention_mask"]
        # A mask of a wrong shape is the encoder's to refuse.
        if attention_mask is not None and attention_mask.shape == labels.shape:
            labels = labels.masked_fill(attention_mask == 0, IGNORE_INDEX)
        return labels

    def _needs_all_positions(self, inputs: dict[str, Any]) -> bool:
        asked = ("output_hidden_states", "output_attentions")
        return not self.config.sparse_last_layer or any(inputs.get(name, getattr(self.config, name)) for name in asked)

    def _kept_positions(self, flat_labels: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """`(n,)` places in the flattened batch that have a label or are a sequence's first token ([CLS])."""
        first = EncoderInputs.from_arguments(self.config, **{name: inputs[name] for name in _ENCODER_ARGUMENTS})
        return (flat_labels != IGNORE_INDEX).index_fill(0, first.first_positions, True).nonzero().squeeze(-1)


class SeqBertForPreTraining(SeqBertMaskedLMBase):
    """Masked language model and next sentence prediction, as in the paper."""

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config)
        self.cls = SeqBertHeads(config, mlm=True, nsp=True)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.LongTensor | None = None,
        cu_seq_lens: torch.Tensor | None = None,
        sparse_prediction: bool | None = None,
        num_items_in_batch: Count = None,
        num_pairs_in_batch: Count = None,
        **kwargs: Any,
    ) -> SeqBertForPreTrainingOutput:
        r"""Inputs as in `SeqBertModel.forward`, and:

        Args:
            labels: `(batch, seq_len)`, the original token where one is to be predicted, -100 elsewhere.
            next_sentence_label: `(num_sequences,)`, 0 if B follows A, 1 if B is random.
            sparse_prediction: predict at masked positions only; by default while training if the config says so.
            num_items_in_batch: masked tokens in the whole optimiser step, the denominator of the MLM loss.
            num_pairs_in_batch: sentence pairs in the whole step, the denominator of the NSP loss. Where only
                `num_items_in_batch` is known (transformers' Trainer), the NSP loss is this batch's mean, weighted by
                its share of the masked tokens; `hf_seqmodels.training.PretrainingTrainer` knows both.

        Raises:
            ValueError: as in `SeqBertModel.forward`; labels outside their range.
        """
        outputs, prediction_logits, labels = self.encode_and_predict(
            labels,
            sparse_prediction,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            cu_seq_lens=cu_seq_lens,
            **kwargs,
        )
        relationship_logits = self.cls.seq_relationship(outputs.pooler_output)
        mlm_loss = nsp_loss = None
        if labels is not None:
            mlm_loss = token_cross_entropy(prediction_logits, labels, num_items_in_batch)
        if next_sentence_label is not None:
            check_labels(next_sentence_label, 2, relationship_logits.shape[:-1], "next_sentence_label")
            nsp_loss = token_cross_entropy(relationship_logits, next_sentence_label, num_pairs_in_batch)
            if num_pairs_in_batch is None and num_items_in_batch is not None and labels is not None:
                masked = (labels != IGNORE_INDEX).sum()
                nsp_loss = nsp_loss * divide(masked, num_items_in_batch, masked)
        losses = [loss for loss in (mlm_loss, nsp_loss) if loss is not None]
        return SeqBertForPreTrainingOutput(
            loss=sum(losses[1:], losses[0]) if losses else None,
            mlm_loss=mlm_loss,
            nsp_loss=nsp_loss,
            prediction_logits=prediction_logits,
            seq_relationship_logits=relationship_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class SeqBertForMaskedLM(SeqBertMaskedLMBase):
    """Masked language model alone."""

    # A pretraining checkpoint has these, too; leaving them is what this class is for, not worth a report.
    _keys_to_ignore_on_load_unexpected = [
        *SeqBertMaskedLMBase._keys_to_ignore_on_load_unexpected,
        r"^bert\.pooler\.",
        r"^cls\.seq_relationship\.",
    ]

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config, add_pooling_layer=False)
        self.cls = SeqBertHeads(config, mlm=True, nsp=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        cu_seq_lens: torch.Tensor | None = None,
        sparse_prediction: bool | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """As `SeqBertForPreTraining.forward`, without next sentence prediction; the scores are in `logits`."""
        outputs, logits, labels = self.encode_and_predict(
            labels,
            sparse_prediction,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            cu_seq_lens=cu_seq_lens,
            **kwargs,
        )
        loss = token_cross_entropy(logits, labels, num_items_in_batch) if labels is not None else None
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SeqBertForNextSentencePrediction(SeqBertPreTrainedModel):
    """Next sentence prediction alone."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\.predictions\."]

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config)
        self.cls = SeqBertHeads(config, mlm=False, nsp=True)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        cu_seq_lens: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> NextSentencePredictorOutput:
        """Inputs as in `SeqBertModel.forward`; `labels` `(num_sequences,)`, 0 if B follows A, 1 if B is random."""
        outputs = self.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            cu_seq_lens=cu_seq_lens,
            **kwargs,
        )
        logits = self.cls.seq_relationship(outputs.pooler_output)
        loss = None
        if labels is not None:
            check_labels(labels, 2, logits.shape[:-1])
            loss = token_cross_entropy(logits, labels, num_items_in_batch)
        return NextSentencePredictorOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "SeqBertForMaskedLM",
    "SeqBertForNextSentencePrediction",
    "SeqBertForPreTraining",
    "SeqBertForPreTrainingOutput",
]
