"""Cells really run in other processes: what is finished is kept, whatever ends the run."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_seqmodels.tasks.compare.claim import Cell
from hf_seqmodels.tasks.compare.cli import CompareArguments, main
from hf_seqmodels.tasks.compare.store import Store
from hf_seqmodels.tasks.compare.work import CellError, run_cells
from tests.tasks.compare.toys import fail, slow_cells, slow_claims, use

ROOT = Path(__file__).parents[3]


def test_every_cell_runs_once(tmp_path: Path) -> None:
    store, log = Store(tmp_path, "quick"), tmp_path / "log"
    alone, *cells = slow_cells(log, 0.0, 3)
    alone = dataclasses.replace(alone, exclusive=True, seconds=9)
    run_cells([alone, *cells], store, 1, quiet=True)
    assert [store.read(cell)[0]["seed"] for cell in [alone, *cells]] == [0, 1, 2]
    assert [seed for seed, _ in _runs(log)] == [1, 2, 0], "cells that read the clock run when all others are finished"
    run_cells([alone, *cells], store, 1, quiet=True)
    assert len(_runs(log)) == 3, "finished cells never run again"


def test_an_error_keeps_what_is_finished(tmp_path: Path) -> None:
    store, log = Store(tmp_path, "quick"), tmp_path / "log"
    # The longest begins first, so the failing one is the last of those side by side.
    cells = [dataclasses.replace(cell, seconds=9) for cell in slow_cells(log, 0.0, 3)]
    alone = dataclasses.replace(cells[0], name="alone", exclusive=True)
    with pytest.raises(CellError, match="unlucky: no luck"):
        run_cells([alone, *cells, Cell("unlucky", fail, {"seed": 0})], store, 2, quiet=True)
    kept = [cell for cell in cells if store.has(cell)]
    assert kept and all(process != os.getpid() for _, process in _runs(log)), "they ran in other processes"
    first = len(_runs(log))
    run_cells([alone, *cells], store, 1, quiet=True)
    assert all(store.has(cell) for cell in [alone, *cells])
    expected = [cell.settings["seed"] for cell in cells if cell not in kept] + [0]
    assert [seed for seed, _ in _runs(log)[first:]] == expected


def test_other_settings_are_refused_before_any_work(tmp_path: Path) -> None:
    store, log = Store(tmp_path, "quick"), tmp_path / "log"
    cells = slow_cells(log, 0.0, 2)
    store.write(Cell(cells[1].name, cells[1].measure, {**cells[1].settings, "lengths": [5]}), [], 1.0)
    with pytest.raises(ValueError, match=r"lengths=\[5\], not \[4\]"):
        run_cells(cells, store, 1, quiet=True)
    assert not log.exists()


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGKILL, 2)]
    + [pytest.param(number, 2, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGINT)],
)
def test_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, workers: int
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    command = [sys.executable, "-m", "tests.tasks.compare.toys", str(tmp_path / "texts"), str(log), "0.3"]
    command += ["--out", str(out), "--workers", str(workers), "--quiet"]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    finished = out / "cells" / "quick"
    _wait(lambda: len(list(finished.glob("*.json"))) >= 2, process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    kept = {path.stem for path in finished.glob("*.json")}
    assert 2 <= len(kept) < 6, "it was stopped in the middle"
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert "Traceback" not in errors and output == ""
        assert f"stopped by {number.name}. {len(kept)} of 6 measurements are kept in {finished}" in errors
        assert f"the same command goes on: python scripts/compare.py --out {out}" in errors
    _wait(lambda: not _alive(process.pid), None)  # no worker outlives the run

    first = len(_runs(log))
    use(monkeypatch, tmp_path / "more_texts", slow_claims(log, 0.3))
    assert main(CompareArguments(out=str(out), workers=1, quiet=True)) == out / "index.html"
    assert {f"slow-{seed}" for seed, _ in _runs(log)[first:]} == {f"slow-{seed}" for seed in range(6)} - kept


def _runs(log: Path) -> list[tuple[int, int]]:
    """Seed and process of every cell that has run."""
    return [(int(line.split()[1]), int(line.split()[2])) for line in log.read_text().splitlines()]


def _wait(condition: Callable[[], bool], process: subprocess.Popen | None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
