"""Sentence pairs for next-sentence prediction, planned from sentence lengths alone.

A plan says for every example of a shard which tokens make A and B; the tokens themselves are not touched. Sentences of
a document lie one behind the other, so A and B are each one slice.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .random import generator

RULES = ("google", "balanced", "none")
IS_NEXT = 0
IS_RANDOM = 1
RANDOM_SHARE = 0.5
MAX_DOCUMENT_DRAWS = 10

# First and past-the-last sentence of A, the same of B, and the label.
Pair = tuple[int, int, int, int, int]
Draw = Callable[[], float]


@dataclass(frozen=True)
class PairPlan:
    """The examples of one shard in one epoch, as slices of its tokens; all arrays `(examples,)`.

    Args:
        a_start: where A begins (int64).
        a_length: tokens of A, at least 1 (int32).
        b_start: where B begins (int64).
        b_length: tokens of B (int32); 0 everywhere without sentence pairs.
        label: 0 if B follows A, 1 if it is random (int8).
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.a_start)


class SentenceTable:
    """Where sentences and documents begin, as Python integers: the walk below looks at them one by one.

    Args:
        sentence_starts: `(sentences + 1,)` first token of each sentence, and the end.
        document_starts: `(documents + 1,)` first sentence of each document, and the end.
    """

    def __init__(self, sentence_starts: np.ndarray, document_starts: np.ndarray) -> None:
        self.tokens: list[int] = sentence_starts.tolist()
        self.documents: list[int] = document_starts.tolist()

    @property
    def num_documents(self) -> int:
        """Documents in the table."""
        return len(self.documents) - 1

    def run_end(self, first: int, num_tokens: int, document_end: int) -> int:
        """Past the last sentence of the shortest run from `first` with `num_tokens` tokens, or of the document."""
        return bisect_left(self.tokens, self.tokens[first] + num_tokens, first + 1, document_end)

    def length(self, first: int, end: int) -> int:
        """Tokens of sentences [first, end)."""
        return self.tokens[end] - self.tokens[first]


def _uniform_numbers(rng: np.random.Generator) -> Draw:
    def numbers() -> Iterator[float]:
        while True:
            yield from rng.random(64).tolist()

    return numbers().__next__


def _between(low: int, high: int, draw: Draw) -> int:
    """Uniform integer, both ends included."""
    return low + int(draw() * (high - low + 1))


def target_length(max_tokens: int, short_seq_prob: float, draw: Draw) -> int:
    """Tokens that the pairs of one document aim at in one pass: all that fit, or with `short_seq_prob` any from 2."""
    return _between(2, max_tokens, draw) if draw() < short_seq_prob else max_tokens


def _random_run(table: SentenceTable, document: int, num_tokens: int, draw: Draw) -> tuple[int, int]:
    first, end = table.documents[document], table.documents[document + 1]
    start = _between(first, end - 1, draw)
    return start, table.run_end(start, num_tokens, end)


def google_pairs(table: SentenceTable, document: int, target: int, draw: Draw) -> Iterator[Pair]:
    """Pairs of one document by the rule of google-research/bert (create_pretraining_data.py), before truncation.

    Sentences accumulate to a chunk until it has `target` tokens or the document ends. A chunk of several sentences is
    split at a random place into A and B; with one half probability, and always when the chunk is one sentence, B is
    instead a run from a random place of a random document (drawn up to ten times to be another one), and the sentences
    after A go back to the document. So more than half of all pairs are random, and with few documents some "random" B
    come from the same one.

    Args:
        table: the shard's sentences.
        document: which of its documents.
        target: tokens to aim at.
        draw: uniform numbers in [0, 1).
    """
    position, end = table.documents[document], table.documents[document + 1]
    while position < end:
        chunk_end = table.run_end(position, target, end)
        a_end = position + 1
        if chunk_end - position > 1:
            a_end = position + _between(1, chunk_end - position - 1, draw)
        if chunk_end - position == 1 or draw() < RANDOM_SHARE:
            for _ in range(MAX_DOCUMENT_DRAWS):
                other = _between(0, table.num_documents - 1, draw)
                if other != document:
                    break
            yield position, a_end, *_random_run(table, other, target - table.length(position, a_end), draw), IS_RANDOM
            position = a_end
        else:
            yield position, a_end, a_end, chunk_end, IS_NEXT
            position = chunk_end


def balanced_labels(draw: Draw) -> Iterator[int]:
    """Labels of which any first 2n hold n of each kind: one of each in random order, again and again."""
    while True:
        first = int(draw() < RANDOM_SHARE)
        yield first
        yield 1 - first


class _Labels:
    """`balanced_labels` with a look at the next one, which may have to wait for a document that can serve it."""

    def __init__(self, draw: Draw) -> None:
        self._labels = balanced_labels(draw)
        self.next = next(self._labels)

    def use(self) -> int:
        used, self.next = self.next, next(self._labels)
        return used


def balanced_pairs(table: SentenceTable, document: int, target: int, draw: Draw, labels: _Labels) -> Iterator[Pair]:
    """Pairs of one document with labels given beforehand, before truncation.

    As `google_pairs`, but the label comes from `labels` and a random B always from another document. Where B is to
    follow and the chunk is one sentence, a neighbour is taken along: the sentence before it becomes A, or, at the
    document's head, the sentence after it B. A document of one sentence has no neighbour: it makes a pair only when a
    random B is due.

    Args:
        table: the shard's sentences; at least two documents.
        document: which of its documents.
        target: tokens to aim at.
        draw: uniform numbers in [0, 1).
        labels: the shard's labels.
    """
    head, end = table.documents[document], table.documents[document + 1]
    position = head
    while position < end:
        chunk_end = table.run_end(position, target, end)
        several = chunk_end - position > 1
        a_end = position + (_between(1, chunk_end - position - 1, draw) if several else 1)
        if labels.next == IS_RANDOM:
            other = _between(0, table.num_documents - 2, draw)
            other += other >= document
            run = _random_run(table, other, target - table.length(position, a_end), draw)
            yield position, a_end, *run, labels.use()
            position = a_end
            continue
        if several:
            yield position, a_end, a_end, chunk_end, labels.use()
        elif position > head:
            yield position - 1, position, position, chunk_end, labels.use()
        elif end - head > 1:
            chunk_end = head + 2
            yield head, head + 1, head + 1, chunk_end, labels.use()
        position = chunk_end


def truncate_pairs(
    a: np.ndarray, b: np.ndarray, max_tokens: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shortens pairs to `max_tokens`: token by token off the longer (B if equal), at its head or tail by a coin.

    In closed form: where both are too long they end as halves, else the longer one gives all; of the tokens that go, a
    Binomial(n, 1/2) number goes from the head.

    Args:
        a: `(pairs,)` tokens of A.
        b: `(pairs,)` tokens of B.
        max_tokens: what A and B together may have, at least 2.
        rng: where the coins come from.

    Returns:
        Tokens cut from A's head, those left of A, tokens cut from B's head, those left of B; each `(pairs,)`.
    """
    half_b = max_tokens // 2
    half_a = max_tokens - half_b
    a_left = np.where(a <= half_a, a, np.maximum(half_a, max_tokens - b))
    b_left = np.where(b <= half_b, b, np.maximum(half_b, max_tokens - a))
    fits = a + b <= max_tokens
    a_left, b_left = np.where(fits, a, a_left), np.where(fits, b, b_left)
    return rng.binomial(a - a_left, 0.5), a_left, rng.binomial(b - b_left, 0.5), b_left


def _plan_of(table_starts: np.ndarray, pairs: list[Pair], max_tokens: int, rng: np.random.Generator) -> PairPlan:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 5).T
    a_first, a_end, b_first, b_end = (table_starts[column] for column in columns[:4])
    a_cut, a_length, b_cut, b_length = truncate_pairs(a_end - a_first, b_end - b_first, max_tokens, rng)
    return PairPlan(
        a_first + a_cut,
        a_length.astype(np.int32),
        b_first + b_cut,
        b_length.astype(np.int32),
        columns[4].astype(np.int8),
    )


def plan_blocks(
    sentence_starts: np.ndarray,
    document_starts: np.ndarray,
    *,
    max_tokens: int,
    short_seq_prob: float,
    seed: int,
    epoch: int,
    shard: int,
) -> PairPlan:
    """Without sentence pairs: every document cut into blocks of its target length, the last one shorter.

    The target is drawn for each document as for pairs: `max_tokens`, or with `short_seq_prob` any from 2.
    """
    bounds = sentence_starts[document_starts]
    lengths = np.diff(bounds)
    rng = generator(seed, "pairs", epoch, shard)
    short = rng.random(len(lengths)) < short_seq_prob
    target = np.where(short, rng.integers(2, max_tokens, size=len(lengths), endpoint=True), max_tokens)
    blocks = -(-lengths // target)
    document = np.repeat(np.arange(len(lengths)), blocks)
    number = np.arange(len(document)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    start = bounds[document] + number * target[document]
    nothing = np.zeros(len(document), dtype=np.int32)
    length = np.minimum(target[document], bounds[document + 1] - start).astype(np.int32)
    return PairPlan(start, length, nothing.astype(np.int64), nothing, nothing.astype(np.int8))


def plan_pairs(
    sentence_starts: np.ndarray,
    document_starts: np.ndarray,
    *,
    rule: str,
    max_tokens: int,
    short_seq_prob: float,
    seed: int,
    epoch: int,
    shard: int,
) -> PairPlan:
    """The examples of one shard in one epoch.

    Args:
        sentence_starts: `(sentences + 1,)` first token of each sentence, and the end.
        document_starts: `(documents + 1,)` first sentence of each document, and the end.
        rule: `google` (see `google_pairs`), `balanced` (see `balanced_pairs`: as many random as following pairs, to
            one, in every shard and epoch), or `none` (see `plan_blocks`).
        max_tokens: tokens that A and B together may have, special ones not counted; at least 2.
        short_seq_prob: share of documents that make shorter examples, of a length drawn once for the document.
        seed: names the random stream, as do the next two.
        epoch: pass over the data.
        shard: number of the shard.

    Raises:
        ValueError: a single document and a rule that pairs, or `balanced` and no document of two sentences.
    """
    if rule == "none":
        return plan_blocks(
            sentence_starts,
            document_starts,
            max_tokens=max_tokens,
            short_seq_prob=short_seq_prob,
            seed=seed,
            epoch=epoch,
            shard=shard,
        )
    table = SentenceTable(sentence_starts, document_starts)
    check_documents(table.num_documents, rule)
    if rule == "balanced" and int(np.diff(document_starts).max()) < 2:
        raise ValueError(
            f"nsp='balanced' needs documents of at least two sentences, but all {table.num_documents} of shard "
            f"{shard} have one. Put one sentence on a line and a blank line between documents, or use nsp='google' or "
            "'none'."
        )
    labels = _Labels(_uniform_numbers(generator(seed, "labels", epoch, shard)))
    pairs: list[Pair] = []
    for document in range(table.num_documents):
        draw = _uniform_numbers(generator(seed, "pairs", epoch, shard, document))
        target = target_length(max_tokens, short_seq_prob, draw)
        if rule == "google":
            pairs.extend(google_pairs(table, document, target, draw))
        else:
            pairs.extend(balanced_pairs(table, document, target, draw, labels))
    return _plan_of(sentence_starts, pairs, max_tokens, generator(seed, "truncate", epoch, shard))


def check_documents(num_documents: int, rule: str) -> None:
    """Refuses to pair sentences of a single document.

    Raises:
        ValueError: `rule` pairs and there are fewer than two documents.
    """
    if rule != "none" and num_documents < 2:
        raise ValueError(
            f"nsp={rule!r} needs at least two documents to draw random sentences from, but the corpus has "
            f"{num_documents}. Separate documents by blank lines, or switch sentence pairs off with nsp='none'."
        )
