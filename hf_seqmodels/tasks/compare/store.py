"""Finished cells on disk: one file each, whole or not there, so that a run goes on where it stopped."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_seqmodels.tasks.kept_runs import write_json

from .claim import Cell, Row


class Store:
    """Cells of one budget in `<folder>/cells/<budget>/<name>.json`.

    Args:
        folder: of the report.
        budget: of the run; each has cells of its own.
    """

    def __init__(self, folder: Path, budget: str):
        self.folder = folder / "cells" / budget

    def path(self, cell: Cell) -> Path:
        """Where the cell's rows are, once it is finished."""
        return self.folder / f"{cell.name}.json"

    def has(self, cell: Cell) -> bool:
        """Whether it is finished.

        Raises:
            ValueError: it was measured with other settings.
        """
        path = self.path(cell)
        if not path.is_file():
            return False
        saved = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if saved != (own := json.loads(json.dumps(cell.settings))):
            name = next(key for key in sorted({*saved, *own}) if saved.get(key) != own.get(key))
            raise ValueError(
                f"{path} was measured with {name}={saved.get(name)!r}, not {own.get(name)!r}: choose another --out, "
                "or remove it."
            )
        return True

    def write(self, cell: Cell, rows: list[Row], seconds: float) -> None:
        """Keeps the rows of a finished cell, and how long it took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(cell), {"settings": cell.settings, "seconds": seconds, "rows": rows})

    def read(self, cell: Cell) -> list[Row]:
        """Its rows."""
        return json.loads(self.path(cell).read_text(encoding="utf-8"))["rows"]

    def seconds(self, cell: Cell) -> float:
        """How long it took."""
        return json.loads(self.path(cell).read_text(encoding="utf-8"))["seconds"]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a row; a column for every key that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows({key: _flat(value) for key, value in row.items()} for row in rows)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


__all__ = ["Store", "write_csv"]
