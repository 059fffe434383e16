"""Drawing from labelled data so that every class has its part."""

import numpy as np


def class_order(labels: np.ndarray, rng: np.random.Generator, equal: bool) -> np.ndarray:
    """A random order of examples whose every beginning has all classes in the wanted numbers, to within one.

    Hence a smaller draw is part of a larger one.

    Args:
        labels: `(num_examples,)` class ids.
        rng: where the order comes from.
        equal: take every class equally often while it lasts, not as often as it occurs.

    Returns:
        `(num_examples,)` positions.
    """
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    due = rank.astype(np.float64) if equal else (rank + 0.5) / np.repeat(counts, counts)
    return by_class[np.lexsort((rng.random(len(labels)), due))]
