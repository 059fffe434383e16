"""Language models: RNN, LSTM and GRU with a softmax over the vocabulary."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig
from .cross_entropy import summed_cross_entropy
from .lm_head import AdaptiveSoftmax, chunked_cross_entropy
from .losses import IGNORE_INDEX, Count, at_least_float32, check_labels, divide
from .modeling_rnn import MODELS, RecurrentModelOutput, RecurrentPreTrainedModel
from .recurrent_cache import RecurrentCache


@dataclass
class RecurrentCausalLMOutput(ModelOutput):
    """What the language models return.

    Args:
        loss: cross-entropy in nats a target, and while training the penalties.
        logits: `(batch, seq_len or logits_to_keep, vocab_size)`; none while training on labels with a chunked or
            adaptive softmax. Those of an adaptive softmax are log-probabilities.
        past_key_values: the state after the sequence.
        hidden_states: on request, the embeddings and each layer's output.
        ar_loss: activation regularisation, in the loss already.
        tar_loss: temporal activation regularisation, in the loss already.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    ar_loss: torch.Tensor | None = None
    tar_loss: torch.Tensor | None = None


class RecurrentForCausalLM(RecurrentPreTrainedModel, GenerationMixin):
    """The next token after each; the base of `RNNForCausalLM`, `LSTMForCausalLM` and `GRUForCausalLM`."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        if config.bidirectional:
            raise ValueError(
                f"bidirectional=True: {type(self).__name__} predicts the next token and must not see it; use False."
            )
        self.model = MODELS[config.cell_type](config)
        width = config.output_size
        self.dense: nn.Linear | None = None
        if config.tie_word_embeddings and width != config.input_size:
            self.dense = nn.Linear(width, config.input_size)
            width = config.input_size
        self.adaptive_softmax: AdaptiveSoftmax | None = None
        self.lm_head: nn.Linear | None = None
        if config.softmax == "adaptive":
            assert config.adaptive_cutoffs is not None
            self.adaptive_softmax = AdaptiveSoftmax(
                width, config.vocab_size, config.adaptive_cutoffs, config.adaptive_div_value
            )
        else:
            self.lm_head = nn.Linear(width, config.vocab_size)
        self.post_init()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As transformers'.

        Raises:
            ValueError: the softmax is adaptive, whose clusters belong to one vocabulary.
        """
        if self.adaptive_softmax is not None:
            raise ValueError("softmax='adaptive': its clusters belong to one vocabulary, which cannot be resized.")
        return super().resize_token_embeddings(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        use_cache: bool | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> RecurrentCausalLMOutput:
        """Inputs as in `RecurrentModel.forward`.

        Args:
            labels: `(batch, seq_len)`, the input itself, -100 where nothing is to be predicted; shifted here. Or, as
                `shift_labels`, each position's target, shifted already: that of a chunk's last token lies in the next.
            logits_to_keep: positions from the end (or their indices) to compute logits for; 0 is all.
            num_items_in_batch: targets in the whole optimiser step.

        Raises:
            ValueError: both `labels` and `shift_labels` are given, or they do not fit.
        """
        shift_labels = kwargs.pop("shift_labels", None)
        outputs: RecurrentModelOutput = self.model(
            input_ids, attention_mask, inputs_embeds, past_key_values, use_cache, **kwargs
        )
        assert outputs.last_hidden_state is not None
        hidden_states: torch.Tensor = outputs.last_hidden_state
        targets = _targets(labels, shift_labels, attention_mask, self.config.vocab_size, hidden_states)
        projected = hidden_states if self.dense is None else self.dense(hidden_states)
        logits = None
        if targets is None or self.config.softmax == "full" or not self.training:
            logits = self._logits(slice_logits_to_keep(projected, logits_to_keep))
        loss = ar_loss = tar_loss = None
        if targets is not None:
            own_items = (targets != IGNORE_INDEX).sum()
            loss = divide(self._summed_loss(projected, logits, targets), num_items_in_batch, own_items)
            ar_loss, tar_loss = (
                None if penalty is None else divide(penalty, num_items_in_batch, own_items)
                for penalty in self._penalties(outputs, attention_mask)
            )
            loss = sum((part for part in (ar_loss, tar_loss) if part is not None), loss)
        return RecurrentCausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            ar_loss=ar_loss,
            tar_loss=tar_loss,
        )

    def _logits(self, projected: torch.Tensor) -> torch.Tensor:
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax.log_probabilities(projected)
        assert self.lm_head is not None
        return self.lm_head(projected)

    def _summed_loss(
        self, projected: torch.Tensor, logits: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy over all targets, from the logits if all of them are there."""
        rows, labels = projected.flatten(0, 1), targets.flatten()
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax.summed_loss(rows, labels)
        smoothing = self.config.label_smoothing if self.training else 0.0
        if logits is not None and logits.shape[:2] == targets.shape:
            return summed_cross_entropy(logits.flatten(0, 1), labels, smoothing)
        assert self.lm_head is not None
        if type(self.lm_head) is not nn.Linear:
            # What has taken the layer's place (LoRA) is more than its weight, and has to be called.
            return summed_cross_entropy(self.lm_head(rows), labels, smoothing)
        return chunked_cross_entropy(rows, self.lm_head.weight, self.lm_head.bias, labels, smoothing)

    def _penalties(
        self, outputs: RecurrentModelOutput, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """AR and TAR while training: means over features, summed over tokens as the loss (Merity et al. 2017, 4.4)."""
        alpha, beta = self.config.activation_regularization, self.config.temporal_activation_regularization
        ar = tar = None
        if alpha and self.training:
            assert outputs.last_hidden_state is not None  # zero on padding, which so costs nothing
            ar = alpha * at_least_float32(outputs.last_hidden_state).square().mean(-1).sum()
        if beta and self.training:
            assert outputs.undropped_hidden_state is not None
            squares = at_least_float32(outputs.undropped_hidden_state).diff(dim=1).square().mean(-1)
            if attention_mask is not None:
                real = attention_mask[:, -outputs.undropped_hidden_state.shape[1] :] != 0
                squares = squares * (real[:, 1:] & real[:, :-1])
            tar = beta * squares.sum()
        return ar, tar


def _targets(
    labels: torch.Tensor | None,
    shift_labels: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    vocab_size: int,
    hidden_states: torch.Tensor,
) -> torch.Tensor | None:
    """`(batch, seq_len)`: the token that each position is to predict, or -100."""
    if labels is None and shift_labels is None:
        return None
    if labels is not None and shift_labels is not None:
        raise ValueError("labels and shift_labels are both given; give one of the two.")
    name, given = ("labels", labels) if labels is not None else ("shift_labels", shift_labels)
    assert given is not None
    check_labels(given, vocab_size, hidden_states.shape[:2], name)
    if labels is None:
        return given
    targets = nn.functional.pad(given[:, 1:], (0, 1), value=IGNORE_INDEX)
    if attention_mask is None:
        return targets
    # Padding predicts nothing, not even the first token of a row that is padded on the left.
    return targets.masked_fill(attention_mask[:, -targets.shape[1] :] == 0, IGNORE_INDEX)


class RNNForCausalLM(RecurrentForCausalLM, GenerationMixin):
    """The language model of Mikolov et al. 2010."""

    config: RNNConfig


class LSTMForCausalLM(RecurrentForCausalLM, GenerationMixin):
    """The language model of Zaremba et al. 2014; with its regularisation, that of Merity et al. 2017 (AWD-LSTM)."""

    config: LSTMConfig


class GRUForCausalLM(RecurrentForCausalLM, GenerationMixin):
    """The language model on gated recurrent units."""

    config: GRUConfig


__all__ = [
    "GRUForCausalLM",
    "LSTMForCausalLM",
    "RNNForCausalLM",
    "RecurrentCausalLMOutput",
    "RecurrentForCausalLM",
]
