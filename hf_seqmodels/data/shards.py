"""Tokenised documents, one shard in memory at a time: from an Arrow table on disk, or from a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerFast

from .errors import CorpusError
from .recent import Recent
from .tokenization import tokenize_batch

DEFAULT_SHARD_DOCUMENTS = 10_000


@dataclass(frozen=True)
class Shard:
    """Documents as flat arrays.

    Args:
        tokens: `(tokens,)` int32 ids of all documents, one behind the other, without special tokens.
        sentence_starts: `(sentences + 1,)` int64, where in `tokens` each sentence begins; the last entry is the end.
        document_starts: `(documents + 1,)` int64, the first sentence of each document; the last entry is the end.
    """

    tokens: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray

    @property
    def num_documents(self) -> int:
        """Documents in this shard."""
        return len(self.document_starts) - 1


class DocumentShards(Protocol):
    """Where a dataset gets its shards from."""

    @property
    def num_shards(self) -> int | None:
        """None for a stream, whose end is not known beforehand."""

    @property
    def num_documents(self) -> int | None:
        """None for a stream."""

    def load(self, shard: int) -> Shard:
        """Shard number `shard`; IndexError past the last one."""


def _check_shard_documents(shard_documents: int) -> None:
    if shard_documents < 2:
        raise ValueError(f"shard_documents={shard_documents} must be at least 2: sentence pairs need two documents.")


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists -> its values in one array, and where each list begins (with the end as last entry)."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten().to_numpy(), offsets - offsets[0]


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


class ArrowShards:
    """Shards of a tokenised, memory-mapped dataset: shard k is documents [k·S, (k+1)·S).

    A last shard of a single document joins the one before, so that every shard can make sentence pairs.

    Args:
        documents: what `tokenize_documents` returns.
        shard_documents: documents in a shard, S.

    Raises:
        ValueError: `shard_documents` below 2.
        CorpusError: no documents.
    """

    def __init__(self, documents: Dataset, shard_documents: int = DEFAULT_SHARD_DOCUMENTS) -> None:
        _check_shard_documents(shard_documents)
        if len(documents) == 0:
            raise CorpusError("The corpus is empty: no document has any token.")
        self._documents = documents.with_format("arrow")
        self._shard_documents = shard_documents
        self._recent: Recent[int, Shard] = Recent()

    @property
    def num_documents(self) -> int:
        """Documents in all shards together."""
        return len(self._documents)

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        full, rest = divmod(self.num_documents, self._shard_documents)
        return max(1, full + (rest > 1))

    def load(self, shard: int) -> Shard:
        """Shard number `shard`.

        Raises:
            IndexError: there is no such shard.
        """
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} does not exist: there are {self.num_shards}.")
        return self._recent.get(shard, self._read)

    def _read(self, shard: int) -> Shard:
        first = shard * self._shard_documents
        last = self.num_documents if shard == self.num_shards - 1 else first + self._shard_documents
        table = self._documents[first:last]
        tokens, _ = _flat(table.column("tokens"))
        sentence_lengths, document_starts = _flat(table.column("sentence_lengths"))
        return Shard(tokens, _starts(sentence_lengths), document_starts)


class StreamShards:
    """Shards of a stream of untokenised documents: shard k is documents [k·S, (k+1)·S), tokenised when asked for.

    Every process that loads shards reads the stream itself, in order and once an epoch; a resumed run skips the
    documents before its shard without tokenising them.

    Args:
        documents: a stream with a column `sentences` (`load_documents` with `streaming=True`).
        tokenizer: a fast tokenizer.
        shard_documents: documents in a shard, S.

    Raises:
        ValueError: `shard_documents` below 2.
    """

    num_shards: None = None
    num_documents: None = None

    def __init__(
        self,
        documents: IterableDataset,
        tokenizer: PreTrainedTokenizerFast,
        shard_documents: int = DEFAULT_SHARD_DOCUMENTS,
    ) -> None:
        _check_shard_documents(shard_documents)
        self._documents = documents
        self._tokenizer = tokenizer
        self._shard_documents = shard_documents
        self._recent: Recent[int, Shard] = Recent()
        self._reader: Iterator[list[str]] | None = None
        self._ahead: list[list[str]] = []
        self._next_shard = 0

    def __getstate__(self) -> dict[str, Any]:
        # An open stream does not travel to worker processes; they open their own.
        return {**self.__dict__, "_reader": None, "_ahead": [], "_next_shard": 0}

    def load(self, shard: int) -> Shard:
        """Shard number `shard`.

        Raises:
            IndexError: the stream ends before it.
            CorpusError: the stream has no documents at all, or a shard none with any token.
        """
        if shard < 0:
            raise IndexError(f"shard {shard} does not exist: shards are numbered from 0.")
        return self._recent.get(shard, self._read)

    def _read(self, shard: int) -> Shard:
        rows = self._rows(shard)
        if not rows and shard == 0:
            raise CorpusError("The corpus is empty: the stream has no documents.")
        if not rows:
            raise IndexError(
                f"shard {shard} does not exist: the stream ends before document {shard * self._shard_documents}."
            )
        columns = tokenize_batch({"sentences": rows}, self._tokenizer)
        if not columns["tokens"]:
            raise CorpusError(f"No document of shard {shard} has any token: is this text in the tokenizer's script?")
        return Shard(
            np.concatenate(columns["tokens"]).astype(np.int32, copy=False),
            _starts(np.concatenate(columns["sentence_lengths"])),
            _starts(np.array([len(lengths) for lengths in columns["sentence_lengths"]])),
        )

    def _rows(self, shard: int) -> list[list[str]]:
        """The sentences of each document of a shard; empty past the end."""
        first = shard * self._shard_documents
        if self._reader is None or shard != self._next_shard:
            self._reader, self._ahead = self._open(first), []
        # Two documents more tell whether a single one would remain, which then joins this shard.
        rows = [*self._ahead, *islice(self._reader, self._shard_documents + 2 - len(self._ahead))]
        size = len(rows) if len(rows) <= self._shard_documents + 1 else self._shard_documents
        self._ahead, self._next_shard = rows[size:], shard + 1
        joined_the_shard_before = shard > 0 and len(rows) == 1
        return [] if joined_the_shard_before else rows[:size]

    def _open(self, first: int) -> Iterator[list[str]]:
        # `iter` and not the stream's own `__iter__`, which inside a DataLoader worker yields that worker's part.
        for batch in self._documents.skip(first).iter(batch_size=64):
            yield from batch["sentences"]
