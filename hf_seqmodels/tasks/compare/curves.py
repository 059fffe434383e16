"""What growing curves say: their exponent, and where two of them cross."""

from collections.abc import Sequence
from itertools import pairwise
from math import log2


def exponent(x: Sequence[float], y: Sequence[float], octaves: float = 2) -> float:
    """The k of y ~ x^k at the end of a curve: the slope of the least-squares line through its logarithms.

    Args:
        x, y: positive, of any order.
        octaves: doublings of x, counted back from the longest, that the line goes through.

    Raises:
        ValueError: fewer than two different x lie there.
    """
    points = [(log2(a), log2(b)) for a, b in zip(x, y, strict=True) if a >= max(x) / 2**octaves]
    if len({a for a, _ in points}) < 2:
        raise ValueError(f"octaves={octaves}: the last ones of x={list(x)} have fewer than two points.")
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in points)
    return covariance / sum((a - mean_x) ** 2 for a, _ in points)


def crossings(x: Sequence[float], first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Where two curves cross, each a straight line between its points if both axes are logarithmic.

    Args:
        x: positive and rising; so are the curves' values positive.

    Returns:
        Every crossing, in order; where curves only touch is none.
    """
    gaps = [(log2(place), log2(a / b)) for place, a, b in zip(x, first, second, strict=True) if a != b]
    return [
        2 ** (left + (right - left) * gap / (gap - next_gap))
        for (left, gap), (right, next_gap) in pairwise(gaps)
        if (gap < 0) != (next_gap < 0)
    ]


def worded_crossings(x: Sequence[float], first: Sequence[float], second: Sequence[float]) -> str:
    """The crossings as a text has them, or the label `no_crossing`."""
    return ", ".join(f"{place:.0f}" for place in crossings(x, first, second)) or "no_crossing"


__all__ = ["crossings", "exponent", "worded_crossings"]
