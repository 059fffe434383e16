"""A sequence of symbols and one answer to it: what every architecture of the comparison can be asked in the same way.

Classifiers read the symbols and give a class; encoder–decoders give a target of one token.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_seqmodels.tasks.model_sizes import nearest_width

from .training import Batch

PAD, BEGIN = 0, 1
FIRST_SYMBOL = 2
RECURRENT = ("rnn", "lstm", "gru")
ENCODER_DECODERS = ("seq2seq", "attention_seq2seq", "vanilla_transformer")
# What the claims ask models of one size for, and how each learns it best.
NUM_SYMBOLS = 8
PARAMETERS = 10_750
LEARNING_RATES = {
    **dict.fromkeys((*RECURRENT, *ENCODER_DECODERS, "mlp"), 1e-2),
    "rnn": 2e-3,
    "vanilla_transformer": 5e-3,
    "seq_bert": 5e-3,
}
_HEADS = 1
_SINES_AND_COSINES = 2


class FlattenedMLP(nn.Module):
    """A multilayer perceptron on the flattened sequence: weights of its own for each step, so none are shared.

    Args:
        width: of the embeddings and of the hidden layer.
        vocab_size: ids lie below it.
        num_labels: classes.
        max_length: steps that it has weights for; what a shorter sequence lacks is padding.
    """

    def __init__(self, width: int, vocab_size: int, num_labels: int, max_length: int):
        super().__init__()
        self.max_length = max_length
        self.embeddings = nn.Embedding(vocab_size, width, padding_idx=PAD)
        self.hidden = nn.Linear(width * max_length, width)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """`(batch, seq_len)` ids, and classes `(batch,)` -> `logits` `(batch, num_labels)`, and the loss."""
        padded = nn.functional.pad(input_ids, (0, self.max_length - input_ids.shape[1]), value=PAD)
        logits = self.classifier(self.hidden(self.embeddings(padded).flatten(1)).relu())
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def vocab_size(num_symbols: int) -> int:
    """Padding, the begin of a target, and each symbol twice: plain and marked."""
    return FIRST_SYMBOL + 2 * num_symbols


def build_answerer(
    kind: str, width: int, num_symbols: int, max_length: int, fields: dict[str, Any] | None = None
) -> nn.Module:
    """A new model of one layer (BERT: two), unidirectional where it is recurrent.

    Args:
        kind: a `model_type` of the registry, or `mlp`.
        width: of its layers.
        num_symbols: different symbols; as many answers.
        max_length: longest sequence that it must take. Position tables and `mlp` are as long.
        fields: of its configuration, in place of what is chosen here.
    """
    if kind == "mlp":
        return FlattenedMLP(width, vocab_size(num_symbols), num_symbols, max_length)
    given: dict[str, Any] = {"vocab_size": vocab_size(num_symbols), "hidden_size": width, "pad_token_id": PAD}
    if kind in ENCODER_DECODERS:
        given |= {"bos_token_id": BEGIN, "decoder_start_token_id": BEGIN, "eos_token_id": None}
    else:
        given["num_labels"] = num_symbols
    if kind == "vanilla_transformer":
        given["d_model"] = given.pop("hidden_size")
        given |= {"dropout": 0.0, "normalize_before": True, "max_position_embeddings": max_length}
        for side in ("encoder", "decoder"):
            given |= {f"{side}_layers": 1, f"{side}_attention_heads": _HEADS, f"{side}_ffn_dim": 2 * width}
    elif kind == "seq_bert":
        given |= {
            "num_hidden_layers": 2,
            "num_attention_heads": _HEADS,
            "intermediate_size": 2 * width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": max_length,
            "type_vocab_size": 1,
            # For so small a width the published deviation of 0.02 starts too near zero.
            "initializer_range": width**-0.5,
        }
    else:
        given |= {"num_hidden_layers": 1, "bidirectional": False}
    config = AutoConfig.for_model(kind, **{**given, **(fields or {})})
    factory = AutoModelForSeq2SeqLM if kind in ENCODER_DECODERS else AutoModelForSequenceClassification
    return factory.from_config(config)


def matched_width(
    kind: str, budget: int, num_symbols: int, max_length: int, fields: dict[str, Any] | None = None
) -> int:
    """The width at which `build_answerer` gives a model whose number of parameters is nearest to `budget`."""
    multiple = _SINES_AND_COSINES if kind == "vanilla_transformer" else 1
    return nearest_width(
        lambda width: build_answerer(kind, width, num_symbols, max_length, fields), budget, multiple=multiple
    )


def matched_answerer(
    kind: str, budget: int, num_symbols: int, max_length: int, fields: dict[str, Any] | None = None
) -> nn.Module:
    """A new model of that width."""
    width = matched_width(kind, budget, num_symbols, max_length, fields)
    return build_answerer(kind, width, num_symbols, max_length, fields)


def as_batch(kind: str, symbols: np.ndarray, answers: np.ndarray) -> Batch:
    """Symbols `(batch, seq_len)` and answers `(batch,)`, both from 0, as a model's keyword arguments."""
    labels = torch.from_numpy(answers)
    if kind in ENCODER_DECODERS:
        labels = (labels + FIRST_SYMBOL).unsqueeze(1)
    return {"input_ids": torch.from_numpy(symbols + FIRST_SYMBOL), "labels": labels}


def answers_of(kind: str, model: nn.Module, batch: Batch, num_symbols: int) -> np.ndarray:
    """`(batch,)` the symbol that a model in evaluation mode answers, from 0."""
    with torch.inference_mode():
        logits = model(**batch).logits
    if kind in ENCODER_DECODERS:
        logits = logits[:, 0, FIRST_SYMBOL : FIRST_SYMBOL + num_symbols]
    return logits.argmax(-1).numpy()


def random_symbols(rng: np.random.Generator, batch_size: int, length: int, num_symbols: int) -> np.ndarray:
    """`(batch_size, length)` plain symbols, each as likely as another."""
    return rng.integers(num_symbols, size=(batch_size, length))


def marked_symbols(
    rng: np.random.Generator, batch_size: int, length: int, num_symbols: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plain symbols of which one, at a random place, is marked: it is the answer.

    Returns:
        `(batch_size, length)` symbols, the marked one's id higher by `num_symbols`; `(batch_size,)` answers.
    """
    symbols = random_symbols(rng, batch_size, length, num_symbols)
    rows, places = np.arange(batch_size), rng.integers(length, size=batch_size)
    answers = symbols[rows, places]
    symbols[rows, places] += num_symbols
    return symbols, answers


__all__ = [
    "ENCODER_DECODERS",
    "LEARNING_RATES",
    "NUM_SYMBOLS",
    "PARAMETERS",
    "RECURRENT",
    "FlattenedMLP",
    "answers_of",
    "as_batch",
    "build_answerer",
    "marked_symbols",
    "matched_answerer",
    "matched_width",
    "random_symbols",
]
