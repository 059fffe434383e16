"""Records, table and figure of copying and reversing."""

import json
from pathlib import Path

import numpy as np

from hf_seqmodels.analysis import BottleneckRun, LengthScore
from hf_seqmodels.analysis.bottleneck import markdown_table, write_results
from hf_seqmodels.analysis.plots_bottleneck import accuracy_by_length_figure


def run(task: str, model: str, *exact: float) -> BottleneckRun:
    scores = tuple(LengthScore(5 + 8 * place, 12 + 8 * place, 10, share, 0.5) for place, share in enumerate(exact))
    return BottleneckRun(task, model, 96, 12345, 0.25, 0.5, scores, [{"step": 1, "loss": 2.0}])


RUNS = [
    run("copy", "seq2seq", 0.9, 0.1),
    run("copy", "vanilla_transformer", 1.0, 0.95),
    run("reverse", "seq2seq", 0.8, 0.2),
]


def test_a_run_survives_json(tmp_path: Path) -> None:
    write_results(RUNS, tmp_path)
    again = [BottleneckRun.from_dict(values) for values in json.loads((tmp_path / "results.json").read_text())]
    assert again == RUNS
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == markdown_table(RUNS)


def test_table() -> None:
    lines = markdown_table(RUNS).splitlines()
    assert lines[0] == "| task | model | hidden size | parameters | all | 5–12 | 13–20 |"
    assert lines[2] == "| copy | seq2seq | 96 | 12,345 | 25.0 (50.0) | 90.0 (50.0) | 10.0 (50.0) |"
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1


def test_the_figure_has_a_line_for_each_model() -> None:
    panels = accuracy_by_length_figure(RUNS).axes
    assert [panel.get_title() for panel in panels] == [
        "copy: exact match",
        "reverse: exact match",
        "copy: token accuracy",
        "reverse: token accuracy",
    ]
    assert [len(panel.lines) for panel in panels] == [2, 1, 2, 1]
    np.testing.assert_array_equal(panels[0].lines[0].get_xydata(), [[8.5, 0.9], [16.5, 0.1]])
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["seq2seq", "vanilla_transformer"]
    assert len({line.get_color() for line in panels[0].lines}) == 2
