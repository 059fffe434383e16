"""What a run found: rows and verdict of each claim, and the files of numbers behind the page."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_seqmodels.tasks.kept_runs import write_json

from .claim import BudgetName, Cell, Claim, Row, Verdict
from .machine import Machine
from .store import Store, write_csv
from .texts import claim_texts


@dataclass(frozen=True)
class Result:
    """One claim.

    Args:
        claim: what was measured.
        cells: of the budget.
        seconds: name of a cell -> how long it took.
        rows: of all cells, in their order.
        verdict: what they say.
    """

    claim: Claim
    cells: list[Cell]
    seconds: dict[str, float]
    rows: list[Row]
    verdict: Verdict


@dataclass(frozen=True)
class Run:
    """How the results came about.

    Args:
        budget: of all claims.
        command: which makes this report again.
        machines: on which it was measured.
        days: on which it was measured, as ISO dates.
    """

    budget: BudgetName
    command: str
    machines: list[Machine]
    days: list[str]


def cells_of(claims: Sequence[Claim], budget: BudgetName) -> list[Cell]:
    """What to measure: cells that several claims share once.

    Raises:
        ValueError: two cells of one name differ.
    """
    cells: dict[str, Cell] = {}
    for claim in claims:
        for cell in claim.cells(budget):
            if cells.setdefault(cell.name, cell) != cell:
                raise ValueError(f"claim {claim.name}: cell {cell.name} has other settings than another claim's.")
    return list(cells.values())


def collect(claim: Claim, budget: BudgetName, store: Store) -> Result:
    """Reads the finished cells of a claim, and judges them."""
    cells = claim.cells(budget)
    rows = [row for cell in cells for row in store.read(cell)]
    return Result(claim, cells, {cell.name: store.seconds(cell) for cell in cells}, rows, claim.judge(rows))


def computing_seconds(results: Sequence[Result]) -> float:
    """Time of all cells, of which several may have run at once; shared ones count once."""
    return sum({name: seconds for result in results for name, seconds in result.seconds.items()}.values())


def write_data(folder: Path, results: Sequence[Result], run: Run) -> None:
    """Writes `results.json` (all of it; numbers that are not finite are null) and `data/<claim>.csv` (the rows)."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for result in results:
        write_csv(folder / "data" / f"{result.claim.name}.csv", result.rows)
    claims = [
        {
            "name": result.claim.name,
            "title": claim_texts(result.claim.name, "en").title,
            "holds": result.verdict.holds,
            "numbers": result.verdict.numbers,
            "cells": [
                {"name": cell.name, "settings": cell.settings, "seconds": result.seconds[cell.name]}
                for cell in result.cells
            ],
            "rows": result.rows,
        }
        for result in results
    ]
    values = {**vars(run), "computing_seconds": computing_seconds(results), "claims": claims}
    write_json(folder / "results.json", _finite(values))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    aside = path.with_suffix(".writing")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["Result", "Run", "cells_of", "collect", "computing_seconds", "write_data", "write_text"]
