"""Batches of examples of similar length, so that little of them is padding."""

from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class HasParts(Protocol):
    """A dataset whose examples have parts that are padded apart, such as source and target."""

    def part_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_examples, parts)` tokens of each part; IndexError past the last shard."""
        ...


def bucket(lengths: np.ndarray, batch_size: int, token_budget: int | None) -> list[np.ndarray]:
    """Divides a window of examples into batches of similar length.

    The batches are as few as the limit allows when examples are taken from long to short, and then as even as that
    number allows, so that no small rest is left over, whose gradient would count as much as a full batch's.

    Args:
        lengths: `(examples, parts)` tokens of each part of each example.
        batch_size: examples of a batch at most; ignored with `token_budget`.
        token_budget: tokens of a batch at most, padding counted: rows times the sum of the longest of each part. An
            example that is longer makes a batch alone.

    Returns:
        The rows of `lengths` that make up each batch, int64, from long to short.
    """
    order = _from_long_to_short(lengths)
    if token_budget is None:
        return np.array_split(order, -(-len(order) // batch_size))
    rows = lengths[order].tolist()
    fewest = len(_cuts(rows, token_budget))
    low, high = 1, token_budget
    while low < high:
        middle = (low + high) // 2
        if len(_cuts(rows, middle)) == fewest:
            high = middle
        else:
            low = middle + 1
    return np.split(order, _cuts(rows, high)[1:])


def _from_long_to_short(lengths: np.ndarray) -> np.ndarray:
    """An order in which neighbours have all parts of similar length; equals stay in the order they come in.

    It goes by the longest part. Among those of one length it runs from a long first part and short last one to the
    opposite, and back among the next: so both change little at a time. (On Multi30k's pairs, 4096 tokens a batch and
    4096 pairs a window, 7 % are then padding; 9 % with equals ordered by their sum, 17 % by the sum alone.)
    """
    longest = lengths.max(axis=1)
    direction = np.where(longest % 2, 1, -1)
    return np.lexsort(((lengths[:, 0] - lengths[:, -1]) * direction, -longest))


def _cuts(rows: list[list[int]], token_budget: int) -> list[int]:
    """Where each batch begins if rows are taken in turn while they fit."""
    cuts: list[int] = []
    longest: list[int] = []
    for place, row in enumerate(rows):
        grown = [max(pair) for pair in zip(longest, row)] if cuts else row
        if not cuts or (place - cuts[-1] + 1) * sum(grown) > token_budget:
            cuts.append(place)
            grown = row
        longest = grown
    return cuts
