"""Means and spreads of measurements over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from .claim import Row


@dataclass(frozen=True)
class Summary:
    """Measurements that differ by their seed alone.

    Args:
        keys: what they have in common.
        mean: of the values.
        spread: their standard deviation; 0 of a single one.
        count: how many there are.
    """

    keys: dict[str, Any]
    mean: float
    spread: float
    count: int


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(key in row and row[key] == value for key, value in wanted.items())]


def values_of(rows: Sequence[Row], key: str) -> list[Any]:
    """The different values of a key, in the order in which they appear."""
    return list(dict.fromkeys(row[key] for row in rows if key in row))


def summarise(rows: Sequence[Row], value: str, by: Sequence[str]) -> list[Summary]:
    """Joins the rows that agree in `by`, in the order in which they appear; rows without `value` are left out."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row.get(value) is not None:
            groups.setdefault(tuple(row[key] for key in by), []).append(float(row[value]))
    return [
        Summary(dict(zip(by, keys)), mean(values), stdev(values) if len(values) > 1 else 0.0, len(values))
        for keys, values in groups.items()
    ]


def mean_of(rows: Sequence[Row], value: str, **wanted: Any) -> float:
    """The mean of a value over the rows that have `wanted`.

    Raises:
        ValueError: there is none.
    """
    found = [float(row[value]) for row in select(rows, **wanted) if row.get(value) is not None]
    if not found:
        raise ValueError(f"no row has {value} and {wanted}.")
    return mean(found)


__all__ = ["Summary", "mean_of", "select", "summarise", "values_of"]
