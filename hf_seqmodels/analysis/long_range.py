"""Results of training on long-range problems: one record for each run, tables over all of them."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from .gradient_flow import GradientFlow

_BOTH_DIRECTIONS = "seq_bert attends to the whole input at once; the others read it from left to right."
_LOSS_NAMES = {
    "adding": "mean squared error",
    "copy": "cross-entropy (nats a step)",
    "recall": "cross-entropy (nats an answer)",
}


@dataclass(frozen=True)
class LongRangeRun:
    """One model, trained on one length with one seed.

    Args:
        problem: `adding`, `copy` or `recall`.
        length: T.
        model: its `model_type`.
        seed: of weights and examples.
        hidden_size: units of a layer.
        num_parameters: trained ones.
        baseline: loss without any memory.
        metrics: on held-out examples: `loss`, and `recall_accuracy` of the remembered symbols.
        history: the engine's log.
        initial, trained: gradients before and after training.
    """

    problem: str
    length: int
    model: str
    seed: int
    hidden_size: int
    num_parameters: int
    baseline: float
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    initial: GradientFlow
    trained: GradientFlow

    @property
    def training_curve(self) -> tuple[list[int], list[float]]:
        """Steps, and the training loss up to each; on new examples, so it is no better than on held-out ones."""
        entries = [entry for entry in self.history if "loss" in entry]
        return [entry["step"] for entry in entries], [entry["loss"] for entry in entries]

    def row(self) -> dict[str, Any]:
        """A line of a table: everything but arrays. `*_gradient_factor` is exp(log slope) of the first layer."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("metrics", "history", "initial", "trained")
        }
        factors = {
            f"{name}_gradient_factor": float(np.exp(flow.log_slopes[0]))
            for name, flow in (("initial", self.initial), ("trained", self.trained))
        }
        return {**values, **self.metrics, **factors}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        flows = {
            name: {"hidden": flow.hidden.tolist(), "cell": None if flow.cell is None else flow.cell.tolist()}
            for name, flow in (("initial", self.initial), ("trained", self.trained))
        }
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, **flows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LongRangeRun":
        """From `to_dict`."""
        flows = {name: _flow(**values[name]) for name in ("initial", "trained")}
        return cls(**{**values, **flows})


def _flow(hidden: list[list[float]], cell: list[list[float]] | None) -> GradientFlow:
    return GradientFlow(np.array(hidden), None if cell is None else np.array(cell))


@dataclass(frozen=True)
class LongRangeSummary:
    """A model at one length, over all seeds.

    Args:
        loss, loss_deviation: mean and standard deviation (0 of one seed).
        recall_accuracy: mean, `None` where nothing is recalled.
    """

    model: str
    length: int
    num_seeds: int
    hidden_size: int
    num_parameters: int
    baseline: float
    loss: float
    loss_deviation: float
    recall_accuracy: float | None


def summarise(runs: Sequence[LongRangeRun]) -> list[LongRangeSummary]:
    """Joins the seeds, in the order in which models and lengths first appear."""
    groups: dict[tuple[int, str], list[LongRangeRun]] = {}
    for run in runs:
        groups.setdefault((run.length, run.model), []).append(run)
    summaries = []
    for (length, model), same in groups.items():
        losses = [run.metrics["loss"] for run in same]
        recalls = [run.metrics["recall_accuracy"] for run in same if "recall_accuracy" in run.metrics]
        summaries.append(
            LongRangeSummary(
                model,
                length,
                len(same),
                same[0].hidden_size,
                same[0].num_parameters,
                same[0].baseline,
                mean(losses),
                stdev(losses) if len(losses) > 1 else 0.0,
                mean(recalls) if recalls else None,
            )
        )
    return summaries


def loss_name(problem: str) -> str:
    """What a problem's loss is, for titles."""
    return _LOSS_NAMES[problem]


def markdown_table(runs: Sequence[LongRangeRun]) -> str:
    """The summaries as a Markdown table; losses of several seeds as mean ± standard deviation."""
    recalls = any("recall_accuracy" in run.metrics for run in runs)
    titles = ["T", "model", "hidden size", "parameters", "seeds", loss_name(runs[0].problem), "without memory"]
    lines: list[list[Any]] = []
    for entry in summarise(runs):
        loss = f"{entry.loss:.5f}" + (f" ± {entry.loss_deviation:.5f}" if entry.num_seeds > 1 else "")
        sizes = [entry.hidden_size, f"{entry.num_parameters:,}"]
        cells = [entry.length, entry.model, *sizes, entry.num_seeds, loss, f"{entry.baseline:.5f}"]
        if recalls:
            cells.append("" if entry.recall_accuracy is None else f"{entry.recall_accuracy:.4f}")
        lines.append(cells)
    if recalls:
        titles.append("symbols recalled")
    rule = ["---:" if title != "model" else "---" for title in titles]
    table = "\n".join("| " + " | ".join(str(cell) for cell in cells) + " |" for cells in [titles, rule, *lines])
    return f"{table}\n\n{_BOTH_DIRECTIONS}\n" if any(run.model == "seq_bert" for run in runs) else f"{table}\n"


def write_results(runs: Sequence[LongRangeRun], folder: Path) -> None:
    """`results.csv` (a line a run), `results.json` (everything, with curves and gradients) and `table.md`."""
    rows = [run.row() for run in runs]
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    contents = {"summary": [asdict(entry) for entry in summarise(runs)], "runs": [run.to_dict() for run in runs]}
    (folder / "results.json").write_text(json.dumps(contents), encoding="utf-8")
    (folder / "table.md").write_text(markdown_table(runs), encoding="utf-8")
