"""BERT: bidirectional context, pretraining pays: accuracy against labels, pretrained, from scratch, and an LSTM's."""

from matplotlib.figure import Figure

from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Row, Verdict
from hf_seqmodels.tasks.compare.figures import close, draw_lines, panels, show_ticks
from hf_seqmodels.tasks.compare.rows import mean_of, select, values_of
from hf_seqmodels.tasks.compare.transfer import percent_by_seed
from hf_seqmodels.tasks.compare.transfer_cells import transfer_cells

# A line of the figure -> which rows are its own. BERT's objectives are both.
LINES = {
    "pretrained": {"model": "seq_bert", "objective": "mlm_nsp"},
    "scratch": {"model": "seq_bert", "objective": "none"},
    "lstm": {"model": "lstm", "objective": "none"},
}
TASK = "docstrings"
_AHEAD = 3.0  # points of accuracy, on average over the numbers of labels


def _cells(budget: BudgetName) -> list[Cell]:
    return transfer_cells(budget, ("mlm_nsp", "none"), lstm=True)


def _points(rows: list[Row], line: str, **wanted: int) -> float:
    """Accuracy in percent, over seeds and draws."""
    return 100 * mean_of(rows, "accuracy", task=TASK, **LINES[line], **wanted)


def judge(rows: list[Row]) -> Verdict:
    """Holds where the pretrained model is three points ahead of both others, averaged over the numbers of labels."""
    counts = sorted(values_of(select(rows, task=TASK, **LINES["pretrained"]), "num_labels"))
    means = {line: sum(_points(rows, line, num_labels=count) for count in counts) / len(counts) for line in LINES}
    numbers: dict[str, float | int | str] = {"fewest": counts[0], "most": counts[-1], "required": _AHEAD}
    for line in LINES:
        numbers[f"{line}_mean"] = close(means[line])
        numbers[f"{line}_fewest"] = close(_points(rows, line, num_labels=counts[0]))
        numbers[f"{line}_most"] = close(_points(rows, line, num_labels=counts[-1]))
    ahead = means["pretrained"] - max(means["scratch"], means["lstm"])
    return Verdict(ahead >= _AHEAD, {**numbers, "ahead": close(ahead)})


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """One panel: accuracy against the number of labels."""
    named = [
        {**row, "line": line}
        for line, wanted in LINES.items()
        for row in percent_by_seed(select(rows, task=TASK, **wanted), ["num_labels"])
    ]
    figure, (axes,) = panels(1)
    draw_lines(axes, named, labels, x="num_labels", y="percent", by="line", log_x=True)
    show_ticks(axes, sorted(values_of(named, "num_labels")))
    return {"labels": figure}


CLAIM = Claim("pretraining", _cells, judge, draw)

__all__ = ["CLAIM", "LINES", "TASK", "draw", "judge"]
