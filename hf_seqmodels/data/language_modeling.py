"""Text for language models: read as it is, held out at its end, and documents as examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset
from transformers import PreTrainedTokenizerFast

from .corpora import TABLE_BUILDERS, TextSource, load_table
from .embedded import embedded_text
from .errors import CorpusError
from .random import Key
from .readers import check_readable, fault_in

IGNORE_INDEX = -100
SHORTEST_EXAMPLE = 3


def read_documents(source: TextSource) -> list[str]:
    """The documents of a source: lines of text files, rows of tables and datasets, or the embedded corpus's own.

    Raises:
        CorpusError: a file that cannot be read or is not UTF-8 (named, with the line), no such column, no text.
    """
    if _is_text(source):
        documents = [line.removesuffix("\r") for path in source.files for line in _read(path).split("\n")]
    else:
        documents = _rows(source)
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise CorpusError(f"The corpus is empty: {', '.join(source.files) or source.dataset_name} has no text.")
    return documents


def read_text(source: TextSource) -> str:
    """A source as one text: files as they are, line ends included, one behind the other; rows as lines.

    Raises:
        CorpusError: see `read_documents`.
    """
    parts = [_read(path) for path in source.files] if _is_text(source) else _rows(source)
    if not any(part.strip() for part in parts):
        raise CorpusError(f"The corpus is empty: {', '.join(source.files) or source.dataset_name} has no text.")
    if len(parts) == 1:
        return parts[0]
    # WikiText's rows end their lines themselves.
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _is_text(source: TextSource) -> bool:
    kinds = {TABLE_BUILDERS.get(Path(path).suffix, "text") for path in source.files}
    if len(kinds) > 1:
        raise CorpusError(f"{', '.join(source.files)}: files of several kinds; give one kind.")
    return kinds == {"text"}


def _rows(source: TextSource) -> list[str]:
    if not source.files and source.dataset_name is None:
        return [" ".join(sentences) for sentences in embedded_text()]
    table = load_table(source)
    assert not isinstance(table, IterableDataset)
    return [row or "" for row in table[source.text_column]]


def _read(path: str) -> str:
    check_readable(path)
    try:
        return Path(path).read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise CorpusError(fault_in(path) or f"{path}: {error}.") from error


def _check_share(held_out: float) -> None:
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must lie in (0, 1): the share at the end that is evaluated on.")


def split_text(text: str, held_out: float) -> tuple[str, str]:
    """A text and its last share of characters, cut behind a line end where one follows.

    Raises:
        ValueError: `held_out` outside (0, 1).
    """
    _check_share(held_out)
    cut = int(len(text) * (1 - held_out))
    line_end = text.find("\n", cut, -1) + 1
    return text[: line_end or cut], text[line_end or cut :]


def split_documents(documents: list[str], held_out: float) -> tuple[list[str], list[str]]:
    """Documents and their last share, at least one.

    Raises:
        ValueError: `held_out` outside (0, 1), or a single document.
    """
    _check_share(held_out)
    if len(documents) < 2:
        raise ValueError(f"held_out={held_out}: the single document cannot be split; give a validation_file.")
    count = min(max(1, round(held_out * len(documents))), len(documents) - 1)
    return documents[:-count], documents[-count:]


class TextDocuments:
    """Each document an example between the tokens that begin and end it: a `ShardedDataset` of one shard.

    Args:
        documents: `(tokens,)` ids of each.
        bos, eos: ids before and after.
        max_length: longest example; a longer document loses its end, and `eos` with it. `num_cut` counts the tokens
            of documents that are lost.

    Raises:
        ValueError: `max_length` below 3.
        CorpusError: no documents.
    """

    num_shards = 1

    def __init__(self, documents: Sequence[np.ndarray], bos: int, eos: int, max_length: int) -> None:
        if max_length < SHORTEST_EXAMPLE:
            raise ValueError(f"max_length={max_length} must be at least {SHORTEST_EXAMPLE}: begin, a token, end.")
        if not documents:
            raise CorpusError("The corpus is empty: there are no documents.")
        sizes = np.array([len(document) for document in documents])
        # Without `eos` a document that is cut has room for a token more.
        self.kept = np.where(sizes + 2 > max_length, max_length - 1, sizes)
        self.num_cut = int((sizes - self.kept).sum())
        self._lengths = np.minimum(sizes + 2, max_length)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._tokens = np.concatenate(documents)
        self._bos, self._eos = bos, eos

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(documents,)` tokens of each example, the same in every epoch.

        Raises:
            IndexError: `shard` is not 0.
        """
        if shard != 0:
            raise IndexError(f"shard {shard} does not exist: there is 1.")
        return self._lengths

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, Any]:
        """One example, unpadded: `input_ids`, `(length,)` int64.

        Raises:
            IndexError: no such document.
        """
        _, _, index = key
        start, kept = self._starts[index], self.kept[index]
        tokens = [self._bos, *self._tokens[start : start + kept], self._eos]
        return {"input_ids": np.array(tokens[: self._lengths[index]], dtype=np.int64)}


def collate_documents(examples: list[dict[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Examples padded on the right: `input_ids`, `attention_mask` and `labels` (-100 on padding), `(batch, length)`.

    `labels` are the input itself: the model shifts them.
    """
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    input_ids = torch.full((len(examples), int(lengths.max())), pad_token_id)
    for row, example in zip(input_ids, examples):
        row[: len(example["input_ids"])] = torch.from_numpy(example["input_ids"])
    attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": input_ids.masked_fill(attention_mask == 0, IGNORE_INDEX),
    }


def predicted_characters(text: str, tokenizer: PreTrainedTokenizerFast) -> int:
    """Characters of a text whose first token is given and whose others are predicted."""
    offsets = tokenizer(text[:1000], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return len(text) - (offsets[1][0] if len(offsets) > 1 else len(text))


def kept_characters(documents: Sequence[str], kept: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> int:
    """Characters of documents of which the first `kept` tokens are left, all or some."""
    encoded = tokenizer(list(documents), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return sum(
        len(document) if count == len(offsets) else offsets[count - 1][1]
        for document, count, offsets in zip(documents, kept.tolist(), encoded)
    )
