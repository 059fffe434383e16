"""The program: refusals before any work, the page and its numbers, another language without measuring again."""

import csv
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from hf_seqmodels.tasks.compare import cli
from hf_seqmodels.tasks.compare.claim import Cell, Claim, Progress, Row
from hf_seqmodels.tasks.compare.claims import CLAIMS, load_claim
from tests.tasks.compare import toys


@pytest.fixture
def _toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toys.use(monkeypatch, tmp_path / "texts")


def test_claims_are_those_of_the_story() -> None:
    assert len(CLAIMS) == 12 and [load_claim(name).name for name in CLAIMS] == list(CLAIMS)
    with pytest.raises(ValueError, match="claims: 'gate' is none"):
        load_claim("gate")


@pytest.mark.usefixtures("_toys")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--claims", "gate"], "claims='gate': choose from forgetting, gating"),
        (["--workers", "0"], "workers=0: must be at least 1"),
        (["--budget", "large"], "--budget: invalid choice: 'large'"),
        (["--lang", "de"], "--lang: invalid choice: 'de'"),
        (["--output", "x"], "unknown flag --output"),
    ],
)
def test_bad_flags_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(flags)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.usefixtures("_toys")
def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "report"):
        assert cli.run(["--out", str(out), "--quiet"]) == 1
        assert f"compare: out={str(out)!r}: can't be made a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("_toys")
def test_a_run_writes_page_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my report"
    arguments = ["--out", str(out), "--budget", "standard", "--workers", "1", "--quiet"]
    assert cli.run(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out / 'index.html'}\n" and captured.err == ""
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    cells = {f"cells/standard/forget-{model}-{seed}.json" for model in range(3) for seed in range(3)}
    assert written - cells == {
        *("index.html", "results.json", "data/forgetting.csv", "data/gating.csv"),
        *("cells/standard.json", "cells/standard/count.json"),
    }

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    results = json.loads((out / "results.json").read_text(), parse_constant=refuse)
    assert shlex.split(results["command"])[:4] == ["python", "scripts/compare.py", "--out", str(out)]
    assert results["budget"] == "standard" and len(results["machines"]) == 1 and len(results["days"]) >= 1
    assert results["machines"][0]["cores"] == os.cpu_count()
    forgetting, gating = results["claims"]
    assert forgetting["holds"] and not gating["holds"] and gating["numbers"] == {"gates": 3.0}
    assert len(forgetting["cells"]) == 9 and len(forgetting["rows"]) == 27
    assert gating["rows"][0] == {"model": "lstm", "gates": 3, "loss": None}
    with (out / "data" / "forgetting.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in forgetting["rows"]]


@pytest.mark.usefixtures("_toys")
def test_another_language_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = cli.main(cli.CompareArguments(out=str(tmp_path / "out"), workers=1, quiet=True))
    assert '<html lang="en">' in page.read_text()

    def measured(*args: Any) -> None:
        raise AssertionError("it measures again")

    monkeypatch.setattr(cli, "run_cells", measured)
    page = cli.main(cli.CompareArguments(out=str(tmp_path / "out"), lang="ko"))
    assert '<html lang="ko">' in page.read_text()
    page = cli.main(cli.CompareArguments(out=str(tmp_path / "out"), claims=["gating"]))
    assert "Gates are free." in page.read_text() and "RNNs forget." not in page.read_text()


def stop_here(progress: Progress, number: int) -> list[Row]:
    """A cell during which the process is told to stop."""
    os.kill(os.getpid(), number)
    raise AssertionError("it goes on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    toy = toys.CLAIMS["forgetting"]
    cells = [*toys.forgetting_cells("quick"), Cell("stop", stop_here, {"number": int(number)}, exclusive=True)]
    toys.use(monkeypatch, tmp_path / "texts", {"forgetting": Claim(toy.name, lambda _: cells, toy.judge, toy.draw)})
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert cli.run(["--out", str(tmp_path / "out"), "--workers", "1", "--quiet"]) == 128 + number
    assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    error = capsys.readouterr().err
    assert f"stopped by {number.name}. 3 of 4 measurements are kept in {tmp_path / 'out' / 'cells' / 'quick'}" in error
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_failing_cell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = toys.CLAIMS["forgetting"]
    claim = Claim(toy.name, lambda _: [Cell("unlucky", toys.fail, {"seed": 0})], toy.judge, toy.draw)
    toys.use(monkeypatch, tmp_path / "texts", {"forgetting": claim})
    assert cli.run(["--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert capsys.readouterr().err == "compare: unlucky: no luck\n"


def test_cells_of_one_name_are_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = toys.CLAIMS["forgetting"]
    log = tmp_path / "log"
    first, *_ = toys.slow_cells(log, 0.0)
    other = Cell(first.name, first.measure, {**first.settings, "seconds": 0.1})
    claims = {"forgetting": Claim(toy.name, lambda _: [first], toy.judge, toy.draw)}
    claims["gating"] = Claim(
        "gating", lambda _: [first], lambda rows: toys.Verdict(True, {"gates": 1}), toys.no_figure
    )
    toys.use(monkeypatch, tmp_path / "texts", claims)
    cli.main(cli.CompareArguments(out=str(tmp_path / "out"), workers=1, quiet=True))
    assert len(log.read_text().splitlines()) == 1
    claims["gating"] = Claim("gating", lambda _: [other], toys.judge_gates, toys.no_figure)
    with pytest.raises(ValueError, match="claim gating: cell slow-0 has other settings"):
        cli.main(cli.CompareArguments(out=str(tmp_path / "other"), workers=1, quiet=True))
