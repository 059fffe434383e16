"""RNN, LSTM and GRU as classifiers of sequences and as taggers of tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig
from .crf import LinearChainCRF
from .input_checks import check_shape
from .layers import Dropout
from .losses import IGNORE_INDEX, Count, check_labels, divide, sequence_classification_loss, token_cross_entropy
from .modeling_rnn import MODELS, RecurrentModelOutput, RecurrentPreTrainedModel
from .recurrent_cache import RecurrentCache
from .recurrent_pooling import build_pooler


@dataclass
class RecurrentSequenceClassifierOutput(ModelOutput):
    """What the classifiers return.

    Args:
        loss: on labels.
        logits: `(batch, num_labels)`.
        past_key_values: the state after the sequence.
        hidden_states: on request, the embeddings and each layer's output.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class RecurrentTokenClassifierOutput(ModelOutput):
    """What the taggers return.

    Args:
        loss: on labels: the mean cross-entropy of a token; with a CRF its negative log-likelihood for each token.
        logits: `(batch, seq_len, num_labels)`; with a CRF, in eval mode, the log-probability of each tag given the
            whole sequence.
        predictions: with a CRF, in eval mode, `(batch, seq_len)` the most probable sequence of tags (Viterbi); -100
            where there is none.
        past_key_values: the state after the sequence.
        hidden_states: on request, the embeddings and each layer's output.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    predictions: torch.Tensor | None = None
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


def _classifier(config: RecurrentConfig) -> nn.Linear:
    if not config.id2label:
        raise ValueError(f"id2label={config.id2label}: a classifier needs num_labels of at least 1.")
    return nn.Linear(config.output_size, len(config.id2label))


def _classifier_dropout(config: RecurrentConfig) -> Dropout:
    rate = config.classifier_dropout
    return Dropout(config.hidden_dropout_prob if rate is None else rate)


def _real_tokens(attention_mask: torch.Tensor | None, hidden_states: torch.Tensor) -> torch.Tensor:
    """`(batch, seq_len)` of the current tokens: which are no padding."""
    if attention_mask is None:
        return torch.ones(hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device)
    return attention_mask[:, -hidden_states.shape[1] :] != 0


class RecurrentForSequenceClassification(RecurrentPreTrainedModel):
    """A label (or a value) for the whole sequence, from its pooled states."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.model = MODELS[config.cell_type](config)
        self.pooler = build_pooler(config.pooling, config.output_size, config.bidirectional)
        self.dropout = _classifier_dropout(config)
        self.classifier = _classifier(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> RecurrentSequenceClassifierOutput:
        """Inputs as in `RecurrentModel.forward`; `labels` and loss as in `sequence_classification_loss`.

        Returns `logits` `(batch, num_labels)`.
        """
        outputs: RecurrentModelOutput = self.model(input_ids, attention_mask, inputs_embeds, **kwargs)
        assert outputs.last_hidden_state is not None
        pooled = self.pooler(outputs.last_hidden_state, _real_tokens(attention_mask, outputs.last_hidden_state))
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            loss = sequence_classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return RecurrentSequenceClassifierOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )


class RecurrentForTokenClassification(RecurrentPreTrainedModel):
    """A label for every token, each by itself or, with `use_crf`, the likeliest sequence (Lample et al. 2016).

    With `use_crf` leave Trainer's `label_smoothing_factor` at 0: it keeps the labels to itself, and without them only
    the scores of single tags, not those of transitions, would be trained.
    """

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.model = MODELS[config.cell_type](config)
        self.dropout = _classifier_dropout(config)
        self.classifier = _classifier(config)
        self.crf = LinearChainCRF(self.classifier.out_features) if config.use_crf else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        tag_positions: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> RecurrentTokenClassifierOutput:
        """Inputs as in `RecurrentModel.forward`.

        Args:
            labels: `(batch, seq_len)`, -100 where there is none.
            tag_positions: `(batch, seq_len)`, for a CRF: the tokens that its chain runs over, such as the first piece
                of each word. By default those with a label, or, without labels, all real tokens.
            num_items_in_batch: labels in the whole optimiser step.

        Raises:
            ValueError: a label outside `[0, num_labels)`, or shapes that do not fit.
        """
        outputs: RecurrentModelOutput = self.model(input_ids, attention_mask, inputs_embeds, **kwargs)
        assert outputs.last_hidden_state is not None
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        check_shape("tag_positions", tag_positions, (logits.shape[0], logits.shape[1]))
        if labels is not None:
            check_labels(labels, logits.shape[-1], logits.shape[:-1])
        loss = predictions = None
        if self.crf is None:
            if labels is not None:
                loss = token_cross_entropy(logits, labels, num_items_in_batch)
        else:
            if labels is not None:
                labelled = labels != IGNORE_INDEX
                total = -self.crf.log_likelihood(logits, labels, labelled).sum()
                loss = divide(total, num_items_in_batch, labelled.sum())
            if not self.training:
                kept = _tag_positions(tag_positions, labels, attention_mask, logits)
                logits, predictions = self.crf.marginals(logits, kept), self.crf.viterbi(logits, kept)
        return RecurrentTokenClassifierOutput(
            loss=loss,
            logits=logits,
            predictions=predictions,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )


def _tag_positions(
    tag_positions: torch.Tensor | None,
    labels: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    logits: torch.Tensor,
) -> torch.Tensor:
    """`(batch, seq_len)`: the tokens that a chain runs over."""
    if tag_positions is None:
        return _real_tokens(attention_mask, logits) if labels is None else labels != IGNORE_INDEX
    return tag_positions != 0


class RNNForSequenceClassification(RecurrentForSequenceClassification):
    """A classifier on the plain recurrent network."""

    config: RNNConfig


class LSTMForSequenceClassification(RecurrentForSequenceClassification):
    """A classifier on an LSTM."""

    config: LSTMConfig


class GRUForSequenceClassification(RecurrentForSequenceClassification):
    """A classifier on gated recurrent units."""

    config: GRUConfig


class RNNForTokenClassification(RecurrentForTokenClassification):
    """A tagger on the plain recurrent network."""

    config: RNNConfig


class LSTMForTokenClassification(RecurrentForTokenClassification):
    """A tagger on an LSTM; bidirectional and with a CRF, that of Huang et al. 2015."""

    config: LSTMConfig


class GRUForTokenClassification(RecurrentForTokenClassification):
    """A tagger on gated recurrent units."""

    config: GRUConfig


__all__ = [
    "GRUForSequenceClassification",
    "GRUForTokenClassification",
    "LSTMForSequenceClassification",
    "LSTMForTokenClassification",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RecurrentForSequenceClassification",
    "RecurrentForTokenClassification",
    "RecurrentSequenceClassifierOutput",
    "RecurrentTokenClassifierOutput",
]
