"""What the cells of a claim have in common, in short: settings, sizes of models, seeds."""

import json
from collections.abc import Sequence
from typing import Any

from .claim import Cell, Row
from .rows import values_of

_SHOWN_VALUES = 6  # more numbers than these are a range
_SHOWN_LETTERS = 60


def settings_of(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Every setting but the seed, by name: its value, or the values that it takes among the cells.

    What a setting holds by name is told by name, such as `config.hidden_size`.
    """
    flat = [_flat(cell.settings) for cell in cells]
    names = dict.fromkeys(name for settings in flat for name in settings if name != "seed")
    return [(name, _values([settings[name] for settings in flat if name in settings])) for name in names]


def seeds_of(cells: Sequence[Cell], rows: Sequence[Row]) -> int:
    """How many seeds there are; 0 if nothing depends on one."""
    found = values_of(rows, "seed") or values_of([cell.settings for cell in cells], "seed")
    return len(found)


def parameters_of(rows: Sequence[Row]) -> dict[str, str]:
    """Model -> how many parameters it has, as a range if it is built in several sizes; "" is what has no name."""
    sizes: dict[str, list[int]] = {}
    for row in rows:
        if row.get("num_parameters") is not None:
            sizes.setdefault(str(row.get("model", "")), []).append(row["num_parameters"])
    return {model: _range(found) for model, found in sizes.items()}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        parts = {f"{name}.{key}": part for key, part in _flat(value).items()} if isinstance(value, dict) else {}
        flat |= parts or {name: value}
    return flat


def _values(values: Sequence[Any]) -> str:
    different = list({json.dumps(value): value for value in values}.values())
    if len(different) > _SHOWN_VALUES and all(_is_number(value) for value in different):
        return _range(different)
    text = ", ".join(_text(value) for value in different)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS].rstrip(' ,')} …"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return _text(low) if low == high else f"{_text(low)}–{_text(high)}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


__all__ = ["parameters_of", "seeds_of", "settings_of"]
