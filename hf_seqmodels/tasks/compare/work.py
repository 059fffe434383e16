"""Running cells: in processes side by side, or alone where a clock is read; finished ones are never run again."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import datasets
import torch
import transformers
from tqdm import tqdm

from .claim import Cell, Row
from .store import Store

_POLL_SECONDS = 0.2
_reports: Any = None  # the queue of a worker process to the bar


class CellError(RuntimeError):
    """A cell failed; the finished ones are kept."""


def run_cells(cells: Sequence[Cell], store: Store, workers: int, quiet: bool = False) -> None:
    """Runs what is not finished yet. The bar counts the seconds that the cells are expected to take on one core.

    Args:
        cells: of one name each.
        store: keeps the rows.
        workers: processes side by side, of one thread each; 1 runs everything in this one.
        quiet: no bar.

    Raises:
        CellError: one failed; its name and its error are in the message.
        ValueError: the store has a cell with other settings.
    """
    due = [cell for cell in cells if not store.has(cell)]
    total = sum(cell.seconds for cell in cells)
    with tqdm(total=round(total), unit="s", disable=quiet, desc="compare") as bar:
        done = _Bar(bar, total - sum(cell.seconds for cell in due))
        shared = sorted((cell for cell in due if not cell.exclusive), key=lambda cell: -cell.seconds)
        if workers > 1 and len(shared) > 1:
            _run_side_by_side(shared, store, workers, done)
        else:
            _run_in_turn(shared, store, done)
        _run_in_turn([cell for cell in due if cell.exclusive], store, done)


class _Bar:
    """Progress of several cells at once."""

    def __init__(self, bar: tqdm, done: float):
        self.bar, self.finished = bar, done
        self.parts: dict[str, float] = {}
        self._show()

    def report(self, cell: Cell, share: float) -> None:
        self.parts[cell.name] = share * cell.seconds
        self._show()

    def finish(self, cell: Cell) -> None:
        self.parts.pop(cell.name, None)
        self.finished += cell.seconds
        self._show()

    def _show(self) -> None:
        self.bar.n = round(self.finished + sum(self.parts.values()))
        self.bar.set_postfix_str(", ".join(self.parts), refresh=False)
        self.bar.refresh()


def _run_in_turn(cells: Sequence[Cell], store: Store, done: _Bar) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for cell in cells:
            try:
                rows, seconds = _measure(cell, lambda share, cell=cell: done.report(cell, share))
            except (ValueError, RuntimeError, ArithmeticError) as error:
                raise CellError(f"{cell.name}: {error}") from error
            store.write(cell, rows, seconds)
            done.finish(cell)
    finally:
        torch.set_num_threads(threads)


def _run_side_by_side(cells: Sequence[Cell], store: Store, workers: int, done: _Bar) -> None:
    # Forking a process that has threads of PyTorch may hang; a new one costs its imports once.
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(workers, len(cells)), context, _set_up_worker, (reports,))
    by_name = {cell.name: cell for cell in cells}
    waiting: dict[Future[tuple[list[Row], float]], Cell] = {}
    try:
        waiting |= {pool.submit(_measure_in_worker, cell): cell for cell in cells}
        while waiting:
            finished, _ = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            while not reports.empty():
                name, share = reports.get()
                done.report(by_name[name], share)
            for future in finished:
                cell = waiting.pop(future)
                if (error := future.exception()) is not None:
                    raise CellError(f"{cell.name}: {error}") from error
                store.write(cell, *future.result())
                done.finish(cell)
    finally:
        if waiting:  # after an error or a signal: nobody waits for what is half done
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _set_up_worker(reports: Any) -> None:
    global _reports
    _reports = reports
    # Ctrl-C reaches the whole group of processes; the main one says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _measure_in_worker(cell: Cell) -> tuple[list[Row], float]:
    last = 0.0

    def progress(share: float) -> None:
        nonlocal last
        if time.monotonic() - last > _POLL_SECONDS:
            last = time.monotonic()
            _reports.put((cell.name, share))

    return _measure(cell, progress)


def _measure(cell: Cell, progress: Any) -> tuple[list[Row], float]:
    start = time.perf_counter()
    return cell.measure(progress, **cell.settings), time.perf_counter() - start


__all__ = ["CellError", "run_cells"]
