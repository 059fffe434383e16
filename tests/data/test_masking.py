"""Masking: counts, whole words, spans, 80/10/10 and special tokens."""

from collections import Counter

import numpy as np
import pytest

from hf_seqmodels.data.masking import (
    MaskingRule,
    MaskingVocabulary,
    choose_spans,
    choose_targets,
    mask_tokens,
)
from hf_seqmodels.data.random import generator

MASK = 4
VOCABULARY_SIZE = 200
CONTINUATION = np.arange(VOCABULARY_SIZE) >= 140
VOCABULARY = MaskingVocabulary(MASK, np.arange(VOCABULARY_SIZE) < 5, CONTINUATION)
STRATEGIES = ("token", "whole_word", "span")


def row(index: int, length: int = 100) -> np.ndarray:
    """[CLS] a [SEP] b [SEP] of random pieces, about a third of which continue a word."""
    ids = generator(0, "rows", index).integers(5, VOCABULARY_SIZE, size=length)
    ids[[0, length // 2, length - 1]] = (2, 3, 3)
    return ids


def words(ids: np.ndarray) -> list[list[int]]:
    """Positions of each word, found one by one."""
    found: list[list[int]] = []
    for position, token in enumerate(ids.tolist()):
        if token < 5:
            continue
        if CONTINUATION[token] and found and found[-1][-1] == position - 1:
            found[-1].append(position)
        else:
            found.append([position])
    return found


def masked_rows(rule: MaskingRule, number: int = 400) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(row(i), *mask_tokens(row(i), rule, VOCABULARY, generator(0, "mask", i))) for i in range(number)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", ["exact", "bernoulli"])
def test_eighty_ten_ten_and_specials(strategy: str, count: str) -> None:
    rows = masked_rows(MaskingRule(strategy, count=count))
    original, seen = (np.concatenate([parts[i][parts[2] != -100] for parts in rows]) for i in (0, 1))
    labels = np.concatenate([labels[labels != -100] for _, _, labels in rows])
    assert np.array_equal(labels, original)
    assert (original >= 5).all(), "a special token was to be predicted"
    assert ((seen == MASK) | (seen >= 5)).all(), "a special token was drawn"
    share = Counter(np.where(seen == MASK, "mask", np.where(seen == original, "kept", "random")).tolist())
    # About 5800 decisions: standard errors 0.005 and 0.004; a random token is the original once in 195.
    assert abs(share["mask"] / len(seen) - 0.8) < 0.025
    assert abs(share["random"] / len(seen) - 0.1) < 0.02
    assert abs(share["kept"] / len(seen) - 0.1) < 0.02
    for ids, masked, labels in rows:
        assert np.array_equal(ids[labels == -100], masked[labels == -100])


def test_fate_is_decided_for_each_token_alone() -> None:
    mixed = 0
    for ids, masked, labels in masked_rows(MaskingRule("whole_word")):
        for word in words(ids):
            if len(word) > 1 and labels[word[0]] != -100:
                mixed += len({bool(masked[position] == MASK) for position in word}) == 2
    assert mixed > 20


def test_exact_count() -> None:
    for ids, _, labels in masked_rows(MaskingRule(probability=0.15), 50):
        assert (labels != -100).sum() == round(0.15 * (ids >= 5).sum())
    short = np.array([2, 9, 3])
    assert (mask_tokens(short, MaskingRule(), VOCABULARY, generator(0, "mask"))[1] != -100).tolist() == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cap(strategy: str) -> None:
    counts = [(labels != -100).sum() for _, _, labels in masked_rows(MaskingRule(strategy, max_predictions=7), 60)]
    assert max(counts) == 7


@pytest.mark.parametrize(("count", "variance"), [("exact", 0.0), ("bernoulli", 97 * 0.15 * 0.85)])
def test_number_of_predictions(count: str, variance: float) -> None:
    counts = np.array([(labels != -100).sum() for _, _, labels in masked_rows(MaskingRule(count=count), 1000)])
    assert abs(counts.mean() - 0.15 * 97) < 0.6
    assert abs(counts.var() - variance) < 2


def test_tokens_are_chosen_evenly() -> None:
    hits = np.zeros(100)
    for index in range(3000):
        hits[choose_targets(row(0), MaskingRule(), VOCABULARY, generator(0, "mask", index))] += 1
    ordinary = row(0) >= 5
    assert not hits[~ordinary].any()
    assert np.abs(hits[ordinary] / 3000 - 15 / 97).max() < 0.035  # standard error 0.0066


@pytest.mark.parametrize("strategy", ["whole_word", "span"])
def test_words_are_whole(strategy: str) -> None:
    rule = MaskingRule(strategy)
    totals = []
    for index in range(200):
        ids = row(index)
        targets = set(choose_targets(ids, rule, VOCABULARY, generator(0, "mask", index)).tolist())
        for word in words(ids):
            assert len(targets & set(word)) in (0, len(word))
        totals.append(len(targets))
    assert max(totals) <= 15 and np.mean(totals) > 14


def test_single_tokens_split_words() -> None:
    # The negative control of the test above.
    targets = set(choose_targets(row(0), MaskingRule(), VOCABULARY, generator(0, "mask", 0)).tolist())
    assert any(0 < len(targets & set(word)) < len(word) for word in words(row(0)))


def test_continuation_after_a_special_token_begins_a_word() -> None:
    ids = np.array([2, 150, 151, 3, 152, 3])
    for index in range(20):
        targets = choose_targets(ids, MaskingRule("whole_word", 0.5), VOCABULARY, generator(0, "mask", index))
        assert set(targets.tolist()) in ({1, 2}, {4})


def test_a_word_longer_than_the_count_is_taken_whole() -> None:
    ids = np.array([2, 50, 150, 151, 60, 152, 3])
    targets = choose_targets(ids, MaskingRule("whole_word"), VOCABULARY, generator(0, "mask"))
    assert sorted(targets.tolist()) == [4, 5]  # the shorter of the two words


def test_span_lengths_are_truncated_geometric() -> None:
    # One span in a text of many words of one token each: the count never binds.
    lengths, joined = [1] * 400, [True] * 400
    spans = []
    for index in range(1500):
        chosen = choose_spans(lengths, joined, 10, generator(0, "mask", index))
        run = next((i for i in range(1, len(chosen)) if chosen[i] != chosen[i - 1] + 1), len(chosen))
        if chosen[0] < 390:
            spans.append(run)
    assert max(spans) == 10
    assert abs(np.mean(spans) - 3.8) < 0.25  # Joshi et al. 2020; standard error 0.07
    assert abs(np.mean(np.array(spans) == 1) - 0.2 / (1 - 0.8**10)) < 0.04


def test_spans_end_at_special_tokens() -> None:
    joined = [word != 4 for word in range(8)]  # a special token stands between words 3 and 4
    crossed = Counter()  # type: Counter[bool]
    for index in range(400):
        for gap in (True, False):
            first, second = choose_spans([1] * 8, joined if gap else [True] * 8, 2, generator(0, "mask", index))[:2]
            crossed[gap] += (first, second) == (3, 4)
    # Across the gap (3, 4) comes about only as two spans: the second start is 4 in one of seven cases.
    assert crossed[True] < 0.5 * crossed[False]


def test_masks_belong_to_their_counters() -> None:
    ids = row(0)
    draws = [mask_tokens(ids, MaskingRule(), VOCABULARY, generator(0, "mask", *c)) for c in [(0,), (0,), (1,)]]
    assert np.array_equal(draws[0][0], draws[1][0]) and not np.array_equal(draws[0][1], draws[2][1])
    assert np.array_equal(ids, row(0)), "the input was changed"


def test_nothing_to_mask() -> None:
    masked, labels = mask_tokens(np.array([2, 1, 3]), MaskingRule(), VOCABULARY, generator(0, "mask"))
    assert masked.tolist() == [2, 1, 3] and labels.tolist() == [-100] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("strategy", "words"), ("count", "all"), ("probability", 0.0), ("probability", 1.0), ("max_predictions", 0)],
)
def test_bad_rules_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        MaskingRule(**{field: value})  # type: ignore[arg-type]


def test_vocabulary_of_specials_only_is_refused() -> None:
    with pytest.raises(ValueError, match="All 5 tokens"):
        MaskingVocabulary(MASK, np.ones(5, dtype=bool), np.zeros(5, dtype=bool))
