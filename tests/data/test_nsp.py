"""Pair planning against a slow, literal implementation of google-research/bert's rule, and its statistics."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hf_seqmodels.data.nsp import (
    PairPlan,
    SentenceTable,
    google_pairs,
    plan_pairs,
    target_length,
    truncate_pairs,
)

Document = list[list[int]]


def corpus(num_documents: int, seed: int = 0, longest: int = 40, most: int = 12) -> list[Document]:
    """Documents of sentences of tokens; every token is a different number, so that it tells its place."""
    rng = np.random.default_rng(seed)
    documents, token = [], 0
    for _ in range(num_documents):
        document = []
        for length in rng.integers(1, longest, size=rng.integers(1, most)).tolist():
            document.append(list(range(token, token + length)))
            token += length
        documents.append(document)
    return documents


def starts(documents: list[Document]) -> tuple[np.ndarray, np.ndarray]:
    sentence_lengths = [len(sentence) for document in documents for sentence in document]
    return np.cumsum([0, *sentence_lengths]), np.cumsum([0, *map(len, documents)])


def plan(documents: list[Document], **settings: object) -> PairPlan:
    defaults: dict[str, object] = {"rule": "google", "max_tokens": 61, "short_seq_prob": 0.1, "seed": 0, "epoch": 0}
    return plan_pairs(*starts(documents), **{**defaults, "shard": 0, **settings})  # type: ignore[arg-type]


def document_of(documents: list[Document], tokens: np.ndarray) -> np.ndarray:
    ends = np.cumsum([sum(map(len, document)) for document in documents])
    return np.searchsorted(ends, tokens, side="right")


class Choices:
    """Uniform numbers given beforehand, as Python's `random.Random` would use them."""

    def __init__(self, numbers: Iterator[float]) -> None:
        self._numbers = numbers

    def random(self) -> float:
        return next(self._numbers)

    def randint(self, low: int, high: int) -> int:
        return low + int(self.random() * (high - low + 1))


def literal_rule(
    documents: list[Document], number: int, most: int, short: float, rng: Choices
) -> list[tuple[list[int], list[int], int]]:
    """The rule sentence by sentence with lists of tokens, as its description reads; without truncation."""
    goal = most
    if rng.random() < short:
        goal = rng.randint(2, most)
    examples, held, size, at = [], [], 0, 0
    document = documents[number]
    while at < len(document):
        held.append(document[at])
        size += len(document[at])
        if at == len(document) - 1 or size >= goal:
            cut = rng.randint(1, len(held) - 1) if len(held) >= 2 else 1
            first = [token for sentence in held[:cut] for token in sentence]
            second: list[int] = []
            label = 0
            if len(held) == 1 or rng.random() < 0.5:
                label = 1
                wanted = goal - len(first)
                for _ in range(10):
                    other = rng.randint(0, len(documents) - 1)
                    if other != number:
                        break
                for sentence in documents[other][rng.randint(0, len(documents[other]) - 1) :]:
                    second.extend(sentence)
                    if len(second) >= wanted:
                        break
                at -= len(held) - cut
            else:
                second = [token for sentence in held[cut:] for token in sentence]
            examples.append((first, second, label))
            held, size = [], 0
        at += 1
    return examples


def literal_truncation(first: list[int], second: list[int], most: int, coin: Callable[[], float]) -> None:
    while len(first) + len(second) > most:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if coin() < 0.5 else -1)


@pytest.mark.parametrize("num_documents", [2, 3, 40])
def test_google_rule_equals_the_literal_one(num_documents: int) -> None:
    documents = corpus(num_documents)
    table = SentenceTable(*starts(documents))
    compared = 0
    for number in range(num_documents):
        for repetition in range(20):
            numbers = np.random.default_rng((number, repetition)).random(5000).tolist()
            expected = literal_rule(documents, number, 61, 0.3, Choices(iter(numbers)))
            draw = iter(numbers).__next__
            pairs = list(google_pairs(table, number, target_length(61, 0.3, draw), draw))
            found = [
                (list(range(table.tokens[a], table.tokens[b])), list(range(table.tokens[c], table.tokens[d])), label)
                for a, b, c, d, label in pairs
            ]
            assert found == expected
            compared += len(found)
    assert compared > 100


def test_truncated_lengths_equal_the_literal_ones() -> None:
    coin = np.random.default_rng(0)
    sizes = np.array([(a, b) for a in range(1, 24) for b in range(1, 24)])
    for most in (2, 3, 10, 11):
        _, a_left, _, b_left = truncate_pairs(sizes[:, 0], sizes[:, 1], most, np.random.default_rng(1))
        for (a, b), a_found, b_found in zip(sizes.tolist(), a_left.tolist(), b_left.tolist()):
            first, second = list(range(a)), list(range(b))
            literal_truncation(first, second, most, coin.random)
            assert (len(first), len(second)) == (a_found, b_found), (a, b, most)


def test_truncation_cuts_heads_and_tails_as_coins_do() -> None:
    a = np.full(4000, 30)
    cut, left, _, _ = truncate_pairs(a, np.full(4000, 5), 15, np.random.default_rng(0))
    assert (left == 10).all()
    coin = np.random.default_rng(1)
    literal = []
    for _ in range(4000):
        first = list(range(30))
        literal_truncation(first, list(range(5)), 15, coin.random)
        literal.append(first[0])
    assert abs(cut.mean() - 10) < 0.2  # Binomial(20, 1/2): standard error 0.035
    assert abs(cut.mean() - np.mean(literal)) < 0.25 and abs(cut.std() - np.std(literal)) < 0.15


def test_google_rule_has_more_random_than_following_pairs() -> None:
    found = plan(corpus(800)).label.mean()
    assert 0.54 < found < 0.70


def test_short_examples_are_as_frequent_as_asked() -> None:
    documents = [[list(range(n * 900 + s * 9, n * 900 + s * 9 + 9)) for s in range(100)] for n in range(400)]
    short = [plan(documents, short_seq_prob=share) for share in (0.0, 1.0)]
    lengths = [found.a_length + found.b_length for found in short]
    assert lengths[0].mean() > 55 and lengths[1].mean() < 45


@pytest.mark.parametrize("rule", ["google", "balanced"])
@pytest.mark.parametrize("max_tokens", [2, 7, 61, 500])
def test_no_pair_is_empty_or_too_long(rule: str, max_tokens: int) -> None:
    found = plan(corpus(60), rule=rule, max_tokens=max_tokens, short_seq_prob=0.5)
    assert found.a_length.min() >= 1 and found.b_length.min() >= 1
    assert (found.a_length + found.b_length).max() <= max_tokens


@pytest.mark.parametrize("rule", ["google", "balanced"])
def test_following_pairs_follow(rule: str) -> None:
    documents = corpus(60)
    found = plan(documents, rule=rule, max_tokens=5000, short_seq_prob=0.0)  # nothing is cut off
    following = found.label == 0
    assert following.sum() > 10
    assert np.array_equal((found.a_start + found.a_length)[following], found.b_start[following])
    same = document_of(documents, found.a_start) == document_of(documents, found.b_start)
    assert same[following].all()


@pytest.mark.parametrize(("num_documents", "seed"), [(2, 0), (3, 1), (50, 2), (201, 3)])
def test_balanced_is_exactly_half_and_random_comes_from_elsewhere(num_documents: int, seed: int) -> None:
    documents = corpus(num_documents, seed=seed)
    for epoch in range(6):
        found = plan(documents, rule="balanced", epoch=epoch)
        assert abs(2 * int(found.label.sum()) - len(found)) <= 1
        same = document_of(documents, found.a_start) == document_of(documents, found.b_start)
        assert not same[found.label == 1].any()


def test_google_rule_draws_some_random_sentences_from_the_same_document() -> None:
    # The negative control of the test above: with two documents ten draws fail once in 1024.
    documents = corpus(2, most=4000, longest=3)
    same = []
    for epoch in range(40):
        found = plan(documents, epoch=epoch, max_tokens=3)
        origin = document_of(documents, found.a_start) == document_of(documents, found.b_start)
        same.append(origin[found.label == 1].any())
    assert any(same)


def test_balanced_serves_documents_of_one_sentence() -> None:
    documents = [[list(range(5 * n, 5 * n + 5))] for n in range(30)]
    documents.append([[150 + n] for n in range(8)])
    found = plan(documents, rule="balanced", max_tokens=4)
    assert abs(2 * int(found.label.sum()) - len(found)) <= 1
    with pytest.raises(ValueError, match="documents of at least two sentences"):
        plan(documents[:30], rule="balanced")


def test_every_sentence_of_a_document_is_used_by_the_google_rule() -> None:
    documents = corpus(30)
    found = plan(documents, max_tokens=10_000, short_seq_prob=0.0)
    used = np.zeros(starts(documents)[0][-1], dtype=bool)
    for start, length, label, b_start, b_length in zip(
        found.a_start, found.a_length, found.label, found.b_start, found.b_length
    ):
        used[start : start + length] = True
        if label == 0:
            used[b_start : b_start + b_length] = True
    assert used.all()


def test_blocks_cover_every_token_once() -> None:
    documents = corpus(50)
    found = plan(documents, rule="none", max_tokens=20, short_seq_prob=0.5)
    covered = np.concatenate([np.arange(s, s + n) for s, n in zip(found.a_start, found.a_length)])
    assert np.array_equal(covered, np.arange(starts(documents)[0][-1]))
    assert not found.b_length.any() and found.a_length.min() >= 1 and found.a_length.max() <= 20
    inside = document_of(documents, found.a_start) == document_of(documents, found.a_start + found.a_length - 1)
    assert inside.all()


@pytest.mark.parametrize("rule", ["google", "balanced", "none"])
def test_plan_depends_on_seed_epoch_and_shard_only(rule: str) -> None:
    documents = corpus(60)
    reference = plan(documents, rule=rule, short_seq_prob=0.5)
    assert all(
        np.array_equal(getattr(reference, name), getattr(plan(documents, rule=rule, short_seq_prob=0.5), name))
        for name in ("a_start", "a_length", "b_start", "b_length", "label")
    )
    for changed in ({"seed": 1}, {"epoch": 1}, {"shard": 1}):
        other = plan(documents, rule=rule, short_seq_prob=0.5, **changed)
        assert len(other) != len(reference) or not np.array_equal(other.a_length, reference.a_length)


@pytest.mark.parametrize("rule", ["google", "balanced"])
def test_one_document_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=rf"nsp='{rule}' needs at least two documents.*has 1"):
        plan(corpus(1), rule=rule)
    assert len(plan(corpus(1), rule="none")) > 0
