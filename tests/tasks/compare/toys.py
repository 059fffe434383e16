"""Two small claims with cells of milliseconds, their texts in both languages, and programs that run them."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from hf_seqmodels.tasks.compare import cli, texts
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import draw_bars, draw_lines, panels
from hf_seqmodels.tasks.compare.results import Result
from hf_seqmodels.tasks.compare.rows import mean_of

MODELS = ("rnn", "lstm", "deep <rnn>")


def forget(
    progress: Progress, model: str, lengths: list[int], seed: int, log: str = "", seconds: float = 0
) -> list[Row]:
    """Accuracy that falls with length; `log` gets a line when it has run."""
    progress(0.5)
    time.sleep(seconds)
    if log:
        with Path(log).open("a") as file:
            file.write(f"{model} {seed} {os.getpid()}\n")
    rate = 0.01 * (1 + MODELS.index(model))
    return [
        {
            "model": model,
            "seed": seed,
            "length": length,
            "accuracy": 1 / (1 + rate * length) + 0.01 * seed,
            "num_parameters": 1000 + MODELS.index(model),
        }
        for length in lengths
    ]


def fail(progress: Progress, seed: int) -> list[Row]:
    """A cell that has no luck."""
    raise ValueError("no luck")


def count(progress: Progress) -> list[Row]:
    """A cell of no chance, with a value that JSON knows not."""
    return [{"model": "lstm", "gates": 3, "loss": float("nan")}, {"model": "rnn", "gates": 1, "shape": [1, 2]}]


def forgetting_cells(budget: BudgetName) -> list[Cell]:
    """One for each model and seed."""
    return [
        Cell(f"forget-{MODELS.index(model)}-{seed}", forget, {"model": model, "lengths": [4, 16, 64], "seed": seed})
        for model in MODELS
        for seed in range(num_seeds(budget))
    ]


def judge_forgetting(rows: list[Row]) -> Verdict:
    """It holds: accuracy falls."""
    return Verdict(True, {"model": "rnn", "short": mean_of(rows, "accuracy", length=4), "steps": 12345})


def draw_forgetting(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Two panels, and one."""
    figure, axes = panels(2)
    for each in axes:
        draw_lines(each, rows, labels, x="length", y="accuracy", log_x=True, log_y=True)
    bars, (single,) = panels(1)
    draw_bars(single, rows, labels, y="accuracy")
    return {"curves": figure, "bars": bars}


def judge_gates(rows: list[Row]) -> Verdict:
    """It does not hold."""
    return Verdict(False, {"gates": mean_of(rows, "gates", model="lstm")})


def draw_gates(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """One panel."""
    figure, (axes,) = panels(1)
    draw_bars(axes, rows, labels, y="gates", horizontal=False)
    return {"gates": figure}


def no_figure(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """An empty panel."""
    return {"gates": panels(1)[0]}


CLAIMS = {
    "forgetting": Claim("forgetting", forgetting_cells, judge_forgetting, draw_forgetting),
    "gating": Claim("gating", lambda budget: [Cell("count", count, exclusive=True)], judge_gates, draw_gates),
}
TEXTS: dict[str, dict[str, Any]] = {
    "forgetting": {
        "title": "Long <inputs> & forgetting",
        "claim": "RNNs forget.",
        "how": "By hand, criterion & all.",
        "short": "{model} reaches {short:.2g} at length 4",
        "holds": "It holds after {steps:,} steps.",
        "fails": "It fails.",
        "figures": {"curves": "Accuracy against length.", "bars": "Mean of {short:.2f}."},
        "labels": {},
    },
    "gating": {
        "title": "Gates",
        "claim": "Gates are free.",
        "how": "Counted.",
        "short": "{gates:.0f} gates",
        "holds": "They are.",
        "fails": "They are not: {gates:.0f}.",
        "figures": {"gates": "Gates."},
        "labels": {},
    },
}
LABELS = {
    "en": {"forgetting": {"deep <rnn>": "deep <RNN>", "length": "a length"}, "gating": {"gates": "gates"}},
    "ko": {
        "forgetting": {"deep <rnn>": "아주 깊은 순환 <신경망>", "length": "입력의 길이(토큰 수)"},
        "gating": {"gates": "게이트의 수"},
    },
}


def results() -> list[Result]:
    """Of all toys, measured here."""
    found = []
    for claim in CLAIMS.values():
        cells = claim.cells("standard")
        rows = [row for cell in cells for row in cell.measure(lambda share: None, **cell.settings)]
        found.append(Result(claim, cells, {cell.name: 75.5 for cell in cells}, rows, claim.judge(rows)))
    return found


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, claims: dict[str, Claim] = CLAIMS) -> None:
    """Makes these the claims of the comparison, for a test."""
    shutil.copytree(texts.FOLDER, folder)
    for language in texts.LANGUAGES:
        for name, words in TEXTS.items():
            own = {**words, "labels": {**words["labels"], **LABELS[language][name]}}
            (folder / language / f"{name}.yaml").write_text(
                yaml.safe_dump(own, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
    monkeypatch.setattr(texts, "FOLDER", folder)
    monkeypatch.setattr(cli, "CLAIMS", tuple(claims))
    monkeypatch.setattr(cli, "load_claim", claims.__getitem__)


def slow_cells(log: Path, seconds: float, number: int = 6) -> list[Cell]:
    """Cells that write into a log when they have run."""
    return [
        Cell(
            f"slow-{seed}",
            forget,
            {"model": "rnn", "lengths": [4], "seed": seed, "log": str(log), "seconds": seconds},
        )
        for seed in range(number)
    ]


def slow_claims(log: Path, seconds: float) -> dict[str, Claim]:
    """One claim, of these cells."""
    cells, claim = slow_cells(log, seconds), CLAIMS["forgetting"]
    return {"forgetting": Claim("forgetting", lambda budget: cells, claim.judge, claim.draw)}


if __name__ == "__main__":  # python -m tests.tasks.compare.toys TEXTS LOG SECONDS ARGUMENTS...
    with pytest.MonkeyPatch.context() as patch:
        use(patch, Path(sys.argv[1]), slow_claims(Path(sys.argv[2]), float(sys.argv[3])))
        sys.exit(cli.run(sys.argv[4:]))
