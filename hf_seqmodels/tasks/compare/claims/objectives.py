"""MLM + NSP: what each objective of BERT's pretraining does for fine-tuning, on single texts and on sentence pairs."""

from matplotlib.figure import Figure

from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Row, Verdict
from hf_seqmodels.tasks.compare.figures import close, draw_bars, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.transfer import OBJECTIVES, percent_by_seed
from hf_seqmodels.tasks.compare.transfer_cells import FEW_LABELS, PAIR_LABELS, transfer_cells

TASKS = ("docstrings", "pairs")
_AHEAD = 3.0  # points of accuracy


def _cells(budget: BudgetName) -> list[Cell]:
    return transfer_cells(budget, OBJECTIVES)


def comparable(rows: list[Row]) -> list[Row]:
    """The rows of the SeqBerts on what every objective was tried on."""
    return [row for row in select(rows, model="seq_bert") if row["task"] == "pairs" or row["num_labels"] in FEW_LABELS]


def judge(rows: list[Row]) -> Verdict:
    """Holds where MLM helps single texts, and NSP added to it sentence pairs, each by three points."""
    own = comparable(rows)
    points = {
        (task, objective): 100 * mean_of(own, "accuracy", task=task, objective=objective)
        for task in TASKS
        for objective in OBJECTIVES
    }
    numbers: dict[str, float | int | str] = {
        f"{task}_{objective}": close(value) for (task, objective), value in points.items()
    }
    mlm_gain = points["docstrings", "mlm"] - points["docstrings", "none"]
    nsp_gain = points["pairs", "mlm_nsp"] - points["pairs", "mlm"]
    numbers |= {
        "mlm_gain": close(mlm_gain),
        "nsp_gain": close(nsp_gain),
        "required": _AHEAD,
        "pair_labels": PAIR_LABELS,
        "few_labels": ", ".join(map(str, FEW_LABELS)),
    }
    return Verdict(min(mlm_gain, nsp_gain) >= _AHEAD, numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """A panel for each task, a bar for each objective."""
    own = comparable(rows)
    figure, axes = panels(len(TASKS))
    for panel, task in zip(axes, TASKS):
        bars = percent_by_seed(select(own, task=task), ["objective"])
        draw_bars(panel, bars, labels, y="percent", by="objective")
        panel.axvline(50, color="black", linewidth=1, linestyle=":")
        panel.set_xlim(0, 100)
        panel.set_title(labels(task))
    return {"objectives": figure}


CLAIM = Claim("objectives", _cells, judge, draw)

__all__ = ["CLAIM", "TASKS", "comparable", "draw", "judge"]
