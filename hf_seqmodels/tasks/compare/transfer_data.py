"""What the claims about BERT train on: text without labels, and two tasks whose labels are facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.docstrings import docstring_documents, embedded_classification
from hf_seqmodels.data.embedded import embedded_text
from hf_seqmodels.data.random import generator
from hf_seqmodels.data.shards import ArrowShards
from hf_seqmodels.data.stratification import class_order
from hf_seqmodels.data.tokenization import TOKEN_FEATURES, tokenize_batch
from hf_seqmodels.data.tokenizers import train_wordpiece

from .training import Batch

Document = tuple[str, ...]

_HELD_OUT = 5  # one document of the language reference in five


@dataclass(frozen=True)
class Examples:
    """Tokenised texts or pairs with their labels.

    Args:
        input_ids: of each, unpadded, special tokens included.
        token_type_ids: of each, 1 on the second text of a pair.
        labels: `(examples,)` int64, 0 or 1.
    """

    input_ids: list[torch.Tensor]
    token_type_ids: list[torch.Tensor]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Those examples, padded on the right: `input_ids`, `token_type_ids`, `attention_mask`, and `labels`."""
        ids = [self.input_ids[index] for index in indices]
        return {
            "input_ids": pad_sequence(ids, batch_first=True),
            "token_type_ids": pad_sequence([self.token_type_ids[index] for index in indices], batch_first=True),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": torch.from_numpy(self.labels[list(indices)]),
        }

    def order(self, seed: int, draw: int) -> np.ndarray:
        """`(examples,)` a random order whose every beginning has both labels equally often, to within one."""
        return class_order(self.labels, generator(seed, "labelled", draw), equal=True)


@dataclass(frozen=True)
class TransferData:
    """All that a cell needs.

    Args:
        tokenizer: of the training text.
        text: tokenised documents to pretrain on.
        tasks: name -> examples to train on, and to test on. Those to test on come of files and documents that neither
            pretraining nor training sees.
    """

    tokenizer: PreTrainedTokenizerFast
    text: ArrowShards
    tasks: dict[str, tuple[Examples, Examples]]


@lru_cache(maxsize=1)
def transfer_data(vocab_size: int, max_length: int) -> TransferData:
    """The data of the claims, the same for all seeds; kept, since reading the library takes seconds.

    `docstrings`: does a docstring document a class or a function? `pairs`: does the second of two sentences follow the
    first, or is it of another document? The text is CPython's language reference, of which one document in five is
    held out, and all docstrings of the standard library, of which the files of the validation split are.

    Args:
        vocab_size: word pieces at most.
        max_length: longest example of a task in tokens, special ones included.
    """
    reference = embedded_text()
    train = [document for number, document in enumerate(reference) if number % _HELD_OUT]
    held_out = list(reference[::_HELD_OUT])
    train += docstring_documents("train")
    held_out += docstring_documents("validation")
    tokenizer = train_wordpiece([" ".join(document) for document in train], vocab_size, model_max_length=max_length)
    docstrings = embedded_classification()
    return TransferData(
        tokenizer=tokenizer,
        text=_shards(train, tokenizer),
        tasks={
            "docstrings": (
                _encode(tokenizer, list(docstrings["train"]["text"]), None, docstrings["train"]["label"]),
                _encode(tokenizer, list(docstrings["validation"]["text"]), None, docstrings["validation"]["label"]),
            ),
            "pairs": (_encode(tokenizer, *sentence_pairs(train)), _encode(tokenizer, *sentence_pairs(held_out))),
        },
    )


def sentence_pairs(documents: Sequence[Document]) -> tuple[list[str], list[str], list[int]]:
    """Neighbouring sentences, each used once; in every second pair the second sentence is of another document.

    Second sentences only change places, so they alone tell nothing of the label.

    Args:
        documents: sentences of each.

    Returns:
        First sentences, second sentences, and labels: 0 where B follows A, 1 where it does not.
    """
    pairs = [
        (number, document[first], document[first + 1])
        for number, document in enumerate(documents)
        for first in range(0, len(document) - 1, 2)
    ]
    following, moved = pairs[::2], pairs[1::2]
    # Half the list away is another document, unless one is longer than all the rest.
    exchanged = [*moved[len(moved) // 2 :], *moved[: len(moved) // 2]]
    rows = [(a, b, 0) for _, a, b in following]
    rows += [(a, b, 1) for (here, a, _), (there, _, b) in zip(moved, exchanged) if here != there]
    return [a for a, _, _ in rows], [b for _, b, _ in rows], [label for _, _, label in rows]


def _encode(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], seconds: list[str] | None, labels: Sequence[int]
) -> Examples:
    encoded = tokenizer(texts, seconds, truncation=True)
    return Examples(
        [torch.tensor(ids) for ids in encoded["input_ids"]],
        [torch.tensor(ids) for ids in encoded["token_type_ids"]],
        np.array(labels, dtype=np.int64),
    )


def _shards(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> ArrowShards:
    columns = tokenize_batch({"sentences": [list(document) for document in documents]}, tokenizer)
    return ArrowShards(Dataset.from_dict(columns, features=TOKEN_FEATURES))


__all__ = ["Document", "Examples", "TransferData", "sentence_pairs", "transfer_data"]
