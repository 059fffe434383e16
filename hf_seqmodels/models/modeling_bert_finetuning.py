"""SeqBert's fine-tuning heads (Devlin et al. 2018, section 4): sequences, tokens, answer spans, multiple choice."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .configuration_bert import SeqBertConfig
from .layers import Dropout
from .losses import IGNORE_INDEX, Count, check_labels, sequence_classification_loss, token_cross_entropy
from .modeling_bert import SeqBertModel, SeqBertPreTrainedModel


def _classifier_dropout(config: SeqBertConfig) -> Dropout:
    rate = config.classifier_dropout
    return Dropout(config.hidden_dropout_prob if rate is None else rate)


def _classifier(config: SeqBertConfig) -> nn.Linear:
    if not config.id2label:
        raise ValueError(f"id2label={config.id2label}: a classifier needs num_labels of at least 1.")
    return nn.Linear(config.hidden_size, len(config.id2label))


class SeqBertForSequenceClassification(SeqBertPreTrainedModel):
    """A label (or a value) for the whole sequence or pair, from the pooled [CLS]."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\."]

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = _classifier(config)
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
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Inputs as in `SeqBertModel.forward`; `labels` and loss as in `sequence_classification_loss`.

        Returns `logits` `(batch, num_labels)`.
        """
        outputs: BaseModelOutputWithPooling = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None
        if labels is not None:
            loss = sequence_classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SeqBertForTokenClassification(SeqBertPreTrainedModel):
    """A label for every token."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\.", r"^bert\.pooler\."]

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config, add_pooling_layer=False)
        self.dropout = _classifier_dropout(config)
        self.classifier = _classifier(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Inputs as in `SeqBertModel.forward`; `labels` `(batch, seq_len)`, -100 where there is none.

        Returns `logits` `(batch, seq_len, num_labels)`.
        """
        outputs = self.bert(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            check_labels(labels, logits.shape[-1], logits.shape[:-1])
            loss = token_cross_entropy(logits, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SeqBertForQuestionAnswering(SeqBertPreTrainedModel):
    """The first and last token of the answer in the passage."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\.", r"^bert\.pooler\."]

    # Trainer counts items in `labels`, which this head does not have: the loss is a mean, and Trainer averages means.
    accepts_loss_kwargs = False

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.LongTensor | None = None,
        end_positions: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Inputs as in `SeqBertModel.forward`; `start_positions` and `end_positions` `(batch,)`.

        A position beyond the row's own tokens (an answer lost to truncation) is left out of the loss, and padding is
        no candidate for one. The loss is the mean over the batch. Returns `start_logits` and `end_logits`
        `(batch, seq_len)`.
        """
        outputs = self.bert(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        if (start_positions is None) != (end_positions is None):
            raise ValueError("start_positions and end_positions must be given together, or neither.")
        loss = None
        if start_positions is not None and end_positions is not None:
            start_loss = _position_loss(start_logits, start_positions, attention_mask, "start_positions")
            end_loss = _position_loss(end_logits, end_positions, attention_mask, "end_positions")
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _position_loss(
    logits: torch.Tensor, positions: torch.Tensor, attention_mask: torch.Tensor | None, name: str
) -> torch.Tensor:
    """Cross-entropy of `positions` `(batch,)` under `logits` `(batch, seq_len)`, over each row's real tokens only."""
    seq_len = logits.shape[1]
    positions = positions.view(-1)
    positions = positions.masked_fill(positions >= seq_len, IGNORE_INDEX)
    check_labels(positions, seq_len, logits.shape[:1], name)
    if attention_mask is not None and attention_mask.dim() == 2:
        # Else the loss of a row would depend on how far the others of its batch make it be padded.
        padding = attention_mask == 0
        on_padding = padding.gather(1, positions.clamp(min=0)[:, None])[:, 0]
        positions = positions.masked_fill(on_padding, IGNORE_INDEX)
        logits = logits.masked_fill(padding, torch.finfo(logits.dtype).min)
    return token_cross_entropy(logits, positions)


class SeqBertForMultipleChoice(SeqBertPreTrainedModel):
    """The best of several continuations: one score for each, a softmax over the choices."""

    _keys_to_ignore_on_load_unexpected = [r"^cls\."]

    def __init__(self, config: SeqBertConfig):
        super().__init__(config)
        self.bert = SeqBertModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Inputs as in `SeqBertModel.forward` but `(batch, num_choices, seq_len)`; `labels` `(batch,)`.

        Returns `logits` `(batch, num_choices)`.

        Raises:
            ValueError: neither `input_ids` nor `inputs_embeds` is given.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("Exactly one of input_ids and inputs_embeds must be given.")
        num_choices = given.shape[1]
        flat = (
            None if values is None else values.flatten(0, 1)
            for values in (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        )
        outputs = self.bert(*flat, **kwargs)
        logits = self.classifier(self.dropout(outputs.pooler_output)).view(-1, num_choices)
        loss = None
        if labels is not None:
            check_labels(labels, num_choices, logits.shape[:1])
            loss = token_cross_entropy(logits, labels, num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "SeqBertForMultipleChoice",
    "SeqBertForQuestionAnswering",
    "SeqBertForSequenceClassification",
    "SeqBertForTokenClassification",
]
