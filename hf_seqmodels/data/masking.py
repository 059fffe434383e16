"""Masked language modelling: which tokens to predict, and what the model sees in their place.

Pure functions of their arguments and a generator. Every strategy keeps the 80/10/10 of Devlin et al. 2018, decided for
each token alone: 80 % become [MASK], 10 % a random ordinary token, 10 % stay. Special tokens are never predicted and
never drawn.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .packing import IGNORED_LABEL

STRATEGIES = ("token", "whole_word", "span")
COUNTS = ("exact", "bernoulli")
MASK_SHARE = 0.8
RANDOM_SHARE = 0.1
SPAN_STOP_PROBABILITY = 0.2
MAX_SPAN_WORDS = 10


@dataclass(frozen=True)
class MaskingRule:
    """How to choose the tokens to predict.

    Args:
        strategy: `token` (Devlin et al. 2018), `whole_word` (all pieces of a word or none; BERT's later releases), or
            `span` (runs of whole words of truncated geometric length, at most 10, mean 3.8; Joshi et al. 2020).
        probability: share of an example's ordinary tokens to predict.
        count: `exact`, max(1, round(probability · n)) of n ordinary tokens; or `bernoulli`, a Binomial(n, probability)
            number, which with `token` is each token alone with that probability, and may be none.
        max_predictions: never predict more than that; None is no limit.

    `whole_word` and `span` take whole words only, in random order while they fit the count, so they may stay below it.
    Where no word fits (a short text of long words) the shortest is taken: the one case of exceeding the count.

    Raises:
        ValueError: a field outside what is allowed.
    """

    strategy: str = "token"
    probability: float = 0.15
    count: str = "exact"
    max_predictions: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} must be one of {', '.join(STRATEGIES)}.")
        if self.count not in COUNTS:
            raise ValueError(f"count={self.count!r} must be one of {', '.join(COUNTS)}.")
        if not 0 < self.probability < 1:
            raise ValueError(f"probability={self.probability} must be above 0 and below 1.")
        if self.max_predictions is not None and self.max_predictions < 1:
            raise ValueError(f"max_predictions={self.max_predictions} must be at least 1, or None for no limit.")


@dataclass(frozen=True)
class MaskingVocabulary:
    """What masking must know of a vocabulary.

    Args:
        mask_token_id: id of [MASK].
        special: `(vocabulary,)` bool, true where an id is special.
        continuation: `(vocabulary,)` bool, true where an id continues the word before it.
    """

    mask_token_id: int
    special: np.ndarray
    continuation: np.ndarray

    def __post_init__(self) -> None:
        if self.special.all():
            raise ValueError(f"All {len(self.special)} tokens of the vocabulary are special: nothing can be masked.")

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """The ids a random replacement is drawn from."""
        return np.flatnonzero(~self.special)


def prediction_count(num_tokens: int, rule: MaskingRule, rng: np.random.Generator) -> int:
    """How many of `num_tokens` ordinary tokens to predict."""
    if rule.count == "exact":
        count = min(num_tokens, max(1, round(rule.probability * num_tokens)))
    else:
        count = int(rng.binomial(num_tokens, rule.probability))
    return count if rule.max_predictions is None else min(count, rule.max_predictions)


def choose_words(lengths: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Words in random order, each taken if it still fits.

    Args:
        lengths: tokens of each word.
        count: tokens to reach and not to exceed.
        rng: where the order comes from.

    Returns:
        Indices of the words taken.
    """
    chosen = []
    for word in rng.permutation(len(lengths)).tolist():
        if lengths[word] <= count:
            chosen.append(word)
            count -= lengths[word]
            if count == 0:
                break
    return chosen


@lru_cache(maxsize=1)
def _span_length_distribution() -> np.ndarray:
    lengths = np.arange(MAX_SPAN_WORDS)
    weights = (1 - SPAN_STOP_PROBABILITY) ** lengths
    return np.cumsum(weights / weights.sum())


def choose_spans(lengths: list[int], joined: list[bool], count: int, rng: np.random.Generator) -> list[int]:
    """Runs of words from random starts, of truncated geometric length (Joshi et al. 2020, section 3.1).

    A run ends early at a special token, at a word already taken, and at a word that no longer fits.

    Args:
        lengths: tokens of each word.
        joined: for each word, whether the word before it stands directly before it (no special token between).
        count: tokens to reach and not to exceed.
        rng: where starts and lengths come from.

    Returns:
        Indices of the words taken, in the order taken.
    """
    starts = rng.permutation(len(lengths)).tolist()
    spans = (np.searchsorted(_span_length_distribution(), rng.random(len(lengths)), side="right") + 1).tolist()
    chosen: dict[int, None] = {}
    for start, span in zip(starts, spans):
        for word in range(start, min(start + span, len(lengths))):
            if word in chosen or lengths[word] > count or (word > start and not joined[word]):
                break
            chosen[word] = None
            count -= lengths[word]
        if count == 0:
            break
    return list(chosen)


def choose_targets(
    input_ids: np.ndarray, rule: MaskingRule, vocabulary: MaskingVocabulary, rng: np.random.Generator
) -> np.ndarray:
    """Positions to predict.

    Args:
        input_ids: `(length,)` unmasked ids, specials included.
        rule: how to choose.
        vocabulary: which ids are special or continue a word.
        rng: where the choice comes from.

    Returns:
        `(predictions,)` positions, in no particular order.
    """
    candidates = np.flatnonzero(~vocabulary.special[input_ids])
    count = prediction_count(len(candidates), rule, rng)
    if count == 0:
        return candidates[:0]
    if rule.strategy == "token":
        return rng.choice(candidates, count, replace=False, shuffle=False)

    adjacent = np.diff(candidates, prepend=-2) == 1
    begins = ~(vocabulary.continuation[input_ids[candidates]] & adjacent)
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=len(candidates)).tolist()
    if rule.strategy == "whole_word":
        chosen = choose_words(lengths, count, rng)
    else:
        chosen = choose_spans(lengths, adjacent[first].tolist(), count, rng)
    if not chosen:
        chosen = [int(np.argmin(lengths))]
    taken = np.zeros(len(lengths), dtype=bool)
    taken[chosen] = True
    return candidates[taken[np.cumsum(begins) - 1]]


def mask_tokens(
    input_ids: np.ndarray, rule: MaskingRule, vocabulary: MaskingVocabulary, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Masks one example.

    Args:
        input_ids: `(length,)` unmasked ids, specials included; left as they are.
        rule: how to choose the tokens to predict.
        vocabulary: which ids are special or continue a word.
        rng: where every choice comes from.

    Returns:
        What the model sees `(length,)`, and labels `(length,)`: the original id where it is to be predicted, or -100.
    """
    targets = choose_targets(input_ids, rule, vocabulary, rng)
    labels = np.full(input_ids.shape, IGNORED_LABEL, dtype=np.int64)
    labels[targets] = input_ids[targets]
    fate = rng.random(len(targets))
    random_ids = vocabulary.ordinary_ids[rng.integers(len(vocabulary.ordinary_ids), size=len(targets))]
    kept_or_random = np.where(fate < MASK_SHARE + RANDOM_SHARE, random_ids, input_ids[targets])
    masked = input_ids.copy()
    masked[targets] = np.where(fate < MASK_SHARE, vocabulary.mask_token_id, kept_or_random)
    return masked, labels
