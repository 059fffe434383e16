"""Records, tables and figures of the long-range comparison."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_seqmodels.analysis import GradientFlow, LongRangeRun, plots_long_range, summarise
from hf_seqmodels.analysis.long_range import markdown_table, write_results


def run(model: str = "lstm", length: int = 20, seed: int = 0, loss: float = 0.1, **metrics: float) -> LongRangeRun:
    norms = 2 * 0.5 ** np.arange(length)[::-1].reshape(1, -1)
    return LongRangeRun(
        problem="copy" if metrics else "adding",
        length=length,
        model=model,
        seed=seed,
        hidden_size=8,
        num_parameters=1234,
        baseline=1 / 6,
        metrics={"loss": loss, **metrics},
        history=[{"step": 5, "loss": 1.0}, {"step": 10, "loss": 0.5}, {"step": 10, "eval_loss": loss}],
        initial=GradientFlow(norms, norms if model == "lstm" else None),
        trained=GradientFlow(np.where(np.arange(length) < 3, 0, norms)),
    )


RUNS = [run(seed=0), run(seed=1, loss=0.3), run("rnn", loss=0.2), run(length=40, loss=0.4), run("rnn", length=40)]


def test_a_run_survives_json() -> None:
    original = run()
    again = LongRangeRun.from_dict(json.loads(json.dumps(original.to_dict())))
    assert again.row() == original.row()
    assert again.training_curve == ([5, 10], [1.0, 0.5])
    np.testing.assert_array_equal(again.initial.hidden, original.initial.hidden)
    assert again.initial.cell is not None and again.trained.cell is None


def test_seeds_are_summarised() -> None:
    first, *others = summarise(RUNS)
    assert (first.model, first.length, first.num_seeds) == ("lstm", 20, 2)
    assert first.loss == pytest.approx(0.2) and first.loss_deviation == pytest.approx(0.2 / 2**0.5)
    assert [(entry.model, entry.length) for entry in others] == [("rnn", 20), ("lstm", 40), ("rnn", 40)]
    assert others[0].loss_deviation == 0 and others[0].recall_accuracy is None


def test_tables() -> None:
    lines = markdown_table(RUNS).splitlines()
    assert lines[2] == "| 20 | lstm | 8 | 1,234 | 2 | 0.20000 ± 0.14142 | 0.16667 |"
    assert len(lines) == 6 and len({line.count("|") for line in lines}) == 1
    copied = markdown_table([run(recall_accuracy=0.25)]).splitlines()
    assert copied[0].endswith("cross-entropy (nats a step) | without memory | symbols recalled |")
    assert copied[2].endswith("| 0.2500 |")
    assert "attends to the whole input" in markdown_table([run("seq_bert")]).splitlines()[-1]


def test_files(tmp_path: Path) -> None:
    write_results(RUNS, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["0.1", "0.3", "0.2", "0.4", "0.1"]
    assert float(rows[0]["initial_gradient_factor"]) == pytest.approx(0.5)
    contents = json.loads((tmp_path / "results.json").read_text())
    assert len(contents["runs"]) == 5 and len(contents["summary"]) == 4
    assert (tmp_path / "table.md").read_text() == markdown_table(RUNS)


def test_learning_curves_have_a_panel_for_each_length() -> None:
    panels = plots_long_range.learning_curves_figure(RUNS).axes
    assert [panel.get_title() for panel in panels] == ["T = 20", "T = 40"]
    assert [len(panel.lines) for panel in panels] == [4, 3]  # the runs, and the baseline
    np.testing.assert_array_equal(panels[0].lines[0].get_xydata(), [[5, 1.0], [10, 0.5]])
    labels = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert labels == ["lstm", "rnn", "without memory"]  # two seeds, one entry


def test_losses_by_length_have_a_line_for_each_model() -> None:
    (panel,) = plots_long_range.loss_by_length_figure(RUNS).axes
    lines = {container.get_label(): container.lines[0].get_xydata() for container in panel.containers}
    np.testing.assert_allclose(lines["lstm"], [[20, 0.2], [40, 0.4]])
    np.testing.assert_allclose(lines["rnn"], [[20, 0.2], [40, 0.1]])


def test_gradients_over_the_distance() -> None:
    flows = {"new": {"lstm": run().initial}, "trained": {"lstm": run().trained}}
    new, trained = plots_long_range.gradient_figure(flows).axes
    hidden, cell = new.lines
    assert hidden.get_xdata()[0] == 19 and hidden.get_ydata()[-1] == 2 and cell.get_label() == "lstm, cell"
    assert np.isnan(trained.lines[0].get_ydata()[:3]).all() and new.get_yscale() == "log"


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for name in ("analysis.plots", "analysis.plots_long_range"):
        monkeypatch.delitem(sys.modules, f"hf_seqmodels.{name}", raising=False)
    with pytest.raises(ImportError, match=re.escape("needs the extra: pip install 'hf_seqmodels[plot]'.")):
        importlib.import_module("hf_seqmodels.analysis.plots_long_range")
