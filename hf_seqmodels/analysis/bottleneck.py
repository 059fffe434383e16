"""Results of copying and reversing by encoder–decoders: one record for each run, a table over all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LengthScore:
    """What came of the sources of similar length.

    Args:
        shortest, longest: their symbols.
        examples: how many there were.
        exact_match: share of the targets that were written without a mistake, end included.
        token_accuracy: share of the target tokens that stand where they belong.
    """

    shortest: int
    longest: int
    examples: int
    exact_match: float
    token_accuracy: float

    @property
    def middle(self) -> float:
        """Of the lengths."""
        return (self.shortest + self.longest) / 2


@dataclass(frozen=True)
class BottleneckRun:
    """One model, trained on one task.

    Args:
        task: `copy` or `reverse`.
        model: its `model_type`.
        hidden_size: units or width of a layer.
        num_parameters: trained ones.
        exact_match, token_accuracy: over all lengths.
        scores: by length, shortest first.
        history: the engine's log.
    """

    task: str
    model: str
    hidden_size: int
    num_parameters: int
    exact_match: float
    token_accuracy: float
    scores: tuple[LengthScore, ...]
    history: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BottleneckRun":
        """From `to_dict`."""
        return cls(**{**values, "scores": tuple(LengthScore(**score) for score in values["scores"])})


def markdown_table(runs: Sequence[BottleneckRun]) -> str:
    """Exact match, and token accuracy in brackets, in percent, a column for each range of lengths."""
    ranges = [f"{score.shortest}–{score.longest}" for score in runs[0].scores]
    lines: list[list[Any]] = [["task", "model", "hidden size", "parameters", "all", *ranges]]
    lines.append(["---", "---", *["---:"] * (len(lines[0]) - 2)])
    for run in runs:
        shares = [(run.exact_match, run.token_accuracy)]
        shares += [(score.exact_match, score.token_accuracy) for score in run.scores]
        cells = [f"{100 * exact:.1f} ({100 * token:.1f})" for exact, token in shares]
        lines.append([run.task, run.model, run.hidden_size, f"{run.num_parameters:,}", *cells])
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def write_results(runs: Sequence[BottleneckRun], folder: Path) -> None:
    """`results.json` (everything) and `table.md`."""
    (folder / "results.json").write_text(json.dumps([run.to_dict() for run in runs]), encoding="utf-8")
    (folder / "table.md").write_text(markdown_table(runs), encoding="utf-8")


__all__ = ["BottleneckRun", "LengthScore", "markdown_table", "write_results"]
