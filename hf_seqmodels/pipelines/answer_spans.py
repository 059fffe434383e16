"""The most probable answer spans of a passage that was read in overlapping windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """What a model says of the passage's tokens `first`, `first + 1`, … that one of its windows holds.

    Args:
        first: place in the passage of the window's first token.
        start: `(n,)` logits of the answer's first token.
        end: `(n,)` logits of the answer's last token.
        null: start and end logit of there being no answer.
    """

    first: int
    start: np.ndarray
    end: np.ndarray
    null: tuple[float, float] | None = None


@dataclass(frozen=True)
class AnswerSpan:
    """Tokens `first` to `last` of the passage, both included, and their probability."""

    score: float
    first: int
    last: int


def merge_windows(windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits `(num_tokens,)` of a passage, each token judged once.

    Of the windows that a token is in, that one counts in which it has most context, the lesser of what is to its left
    and right (as Devlin et al. 2018's run_squad.py does); of equal ones the earlier.
    """
    size = max(window.first + len(window.start) for window in windows)
    logits = np.zeros((2, size))
    context = np.full(size, -1)
    for window in windows:
        length = len(window.start)
        places = np.arange(length)
        own = np.minimum(places, length - 1 - places)
        inside = slice(window.first, window.first + length)
        better = own > context[inside]
        context[inside][better] = own[better]
        logits[0, inside][better] = window.start[better]
        logits[1, inside][better] = window.end[better]
    return logits[0], logits[1]


def best_spans(
    windows: Sequence[Window], words: np.ndarray, max_tokens: int, count: int, with_null: bool = False
) -> tuple[list[AnswerSpan], float]:
    """The most probable spans of whole words, the best first, and the probability that there is no answer.

    The starts' distribution is the softmax over all tokens of the passage, and the ends' likewise; that of a word is
    the sum of its tokens'. The probability of a span is the product of its first word's as a start and its last
    word's as an end.

    Args:
        windows: which cover the passage.
        words: `(num_tokens,)` the word of each token, in order.
        max_tokens: of an answer; a single word may have more.
        count: spans at most.
        with_null: there may be no answer, with the logits of the window that deems this least likely; they join the
            softmax.

    Raises:
        ValueError: `with_null`, and a window has no logits for it.
    """
    start, end = merge_windows(windows)
    null = (-np.inf, -np.inf)
    if with_null:
        known = [window.null for window in windows if window.null is not None]
        if len(known) < len(windows):
            raise ValueError(f"with_null={with_null}: {len(windows) - len(known)} windows have no null logits.")
        null = min(known, key=sum)
    first = np.flatnonzero(np.r_[True, words[1:] != words[:-1]])
    last = np.r_[first[1:], len(words)] - 1
    starts, no_start = _word_probabilities(start, first, null[0])
    ends, no_end = _word_probabilities(end, first, null[1])
    # Row i, column j: from word i to word i + j.
    width = min(max_tokens, len(first))
    to = np.arange(len(first))[:, None] + np.arange(width)
    inside = to < len(first)
    to = np.minimum(to, len(first) - 1)
    short = (last[to] - first[:, None] < max_tokens) | (np.arange(width) == 0)
    scores = np.where(inside & short, starts[:, None] * ends[to], -1.0).ravel()
    order = np.argsort(-scores, kind="stable")[:count]
    spans = [
        AnswerSpan(float(scores[place]), int(first[place // width]), int(last[to.ravel()[place]]))
        for place in order
        if scores[place] >= 0
    ]
    return spans, float(no_start * no_end)


def _word_probabilities(logits: np.ndarray, first: np.ndarray, null: float) -> tuple[np.ndarray, float]:
    """Softmax over tokens and null, summed by word."""
    largest = max(float(logits.max()), null)
    weights, no_answer = np.exp(logits - largest), float(np.exp(null - largest))
    total = weights.sum() + no_answer
    return np.add.reduceat(weights, first) / total, no_answer / total


__all__ = ["AnswerSpan", "Window", "best_spans", "merge_windows"]
