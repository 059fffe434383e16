"""Spans and their probabilities against every pair of tokens, one by one."""

import math
from collections import defaultdict

import numpy as np
import pytest

from hf_seqmodels.pipelines.answer_spans import AnswerSpan, Window, best_spans, merge_windows

WORDS = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
SIZE = len(WORDS)
# float64 sums in another order
ROUNDING = 1e-12


def cut(start: np.ndarray, end: np.ndarray, length: int, step: int, seed: int = 0) -> list[Window]:
    """Windows of these logits, each with a noise of its own on all but what has most context there."""
    draw = np.random.default_rng(seed)
    windows = []
    for first in range(0, SIZE - length + step, step):
        inside = slice(first, first + length)
        windows.append(Window(first, start[inside] + draw.normal(size=len(start[inside])), end[inside]))
    return windows


def brute_force(
    start: np.ndarray, end: np.ndarray, max_tokens: int, null: tuple[float, float] | None = None
) -> tuple[dict[tuple[int, int], float], float]:
    """Probability of each allowed span of whole words, and of no answer."""
    starts, ends = list(start), list(end)
    if null is not None:
        starts.append(null[0])
        ends.append(null[1])
    start_sum, end_sum = (math.fsum(math.exp(value) for value in values) for values in (starts, ends))
    found: dict[tuple[int, int], float] = defaultdict(float)
    for i in range(SIZE):
        for j in range(SIZE):
            if WORDS[i] > WORDS[j]:
                continue
            first, last = int(np.flatnonzero(WORDS[i] == WORDS)[0]), int(np.flatnonzero(WORDS[j] == WORDS)[-1])
            if WORDS[i] == WORDS[j] or last - first + 1 <= max_tokens:
                found[first, last] += math.exp(starts[i] + ends[j]) / start_sum / end_sum
    return found, 0.0 if null is None else math.exp(sum(null)) / start_sum / end_sum


@pytest.mark.parametrize("max_tokens", [1, 3, 6, 50])
@pytest.mark.parametrize("null", [None, (1.5, 0.5)])
def test_every_span_has_its_probability(max_tokens: int, null: tuple[float, float] | None) -> None:
    start, end = np.random.default_rng(1).normal(size=(2, SIZE)) * 2
    expected, nothing = brute_force(start, end, max_tokens, null)
    found, no_answer = best_spans([Window(0, start, end, null)], WORDS, max_tokens, 1000, null is not None)
    assert {(span.first, span.last) for span in found} == expected.keys() and len(found) == len(expected)
    for span in found:
        assert span.score == pytest.approx(expected[span.first, span.last], abs=ROUNDING)
    assert no_answer == pytest.approx(nothing, abs=ROUNDING)
    assert [span.score for span in found] == sorted((span.score for span in found), reverse=True)
    few, _ = best_spans([Window(0, start, end, null)], WORDS, max_tokens, 2, null is not None)
    assert few == found[:2]


def test_all_spans_together_have_at_most_probability_one() -> None:
    start, end = np.random.default_rng(2).normal(size=(2, SIZE))
    found, no_answer = best_spans([Window(0, start, end, (0.0, 0.0))], np.arange(SIZE), 50, 1000, True)
    assert 0.3 < sum(span.score for span in found) + no_answer < 1


@pytest.mark.parametrize(("length", "step"), [(4, 2), (5, 1), (6, 4), (4, 4)])
def test_each_token_counts_once_where_it_has_most_context(length: int, step: int) -> None:
    start, end = np.random.default_rng(3).normal(size=(2, SIZE))
    windows = cut(start, end, length, step)
    merged = merge_windows(windows)
    for token in range(SIZE):
        having = [window for window in windows if window.first <= token < window.first + len(window.start)]
        context = [min(token - w.first, w.first + len(w.start) - 1 - token) for w in having]
        chosen = having[context.index(max(context))]
        assert merged[0][token] == chosen.start[token - chosen.first]
    np.testing.assert_array_equal(merged[1], end)  # the same in all windows
    expected, _ = brute_force(merged[0], end, 4)
    found, _ = best_spans(windows, WORDS, 4, 1000)
    assert len(found) == len(expected)
    for span in found:
        assert span.score == pytest.approx(expected[span.first, span.last], abs=ROUNDING)


def test_of_several_nulls_the_least_likely_counts() -> None:
    start, end = np.zeros((2, SIZE))
    windows = [Window(0, start[:6], end[:6], (3.0, 3.0)), Window(4, start[4:], end[4:], (1.0, 2.0))]
    _, no_answer = best_spans(windows, WORDS, 4, 1, with_null=True)
    assert no_answer == pytest.approx(math.e / (SIZE + math.e) * math.exp(2) / (SIZE + math.exp(2)), abs=ROUNDING)
    with pytest.raises(ValueError, match="with_null=True: 1 windows have no null logits"):
        best_spans([windows[0], Window(4, start[4:], end[4:])], WORDS, 4, 1, with_null=True)


def test_enormous_logits_are_no_trouble() -> None:
    start, end = np.full((2, SIZE), -3e4)
    start[2] = end[3] = 3e4
    (span,), _ = best_spans([Window(0, start, end)], WORDS, 15, 1)
    assert span == AnswerSpan(1.0, 2, 5)
