"""The comparison's program: arguments, the run, and what it says when it is stopped."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import datasets
import transformers

from hf_seqmodels.tasks.arguments import parse

from .claim import BudgetName
from .claims import CLAIMS, load_claim
from .machine import Sessions, this_machine
from .page import render
from .results import Run, cells_of, collect, write_data, write_text
from .store import Store
from .texts import Language, claim_texts, page_words
from .work import CellError, run_cells

PAGE = "index.html"
_EPILOG = """\
examples:
  python scripts/compare.py --out report
  python scripts/compare.py --out report --lang ko        (measures nothing again)
  python scripts/compare.py --out report --budget standard --claims gradients long_range
The same command again goes on where the last one stopped.
"""


@dataclass
class CompareArguments:
    """What is measured, and how it is told

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    out: str = field(
        default="report", metadata={"help": "Folder of the page, of its numbers and of what is measured."}
    )
    budget: BudgetName = field(
        default="quick",
        metadata={"help": "quick: one seed, minutes; standard: 3 seeds, an hour; full: 5 seeds, hours."},
    )
    lang: Language = field(default="en", metadata={"help": "Language of the page."})
    claims: list[str] = field(default_factory=list, metadata={"help": "Only these claims; all if none is named."})
    workers: int | None = field(
        default=None, metadata={"help": "Processes side by side, of one thread each; one a core if not given."}
    )
    quiet: bool = field(default=False, metadata={"help": "No progress bar."})

    def __post_init__(self) -> None:
        for name in self.claims:
            if name not in CLAIMS:
                raise ValueError(f"claims={name!r}: choose from {', '.join(CLAIMS)}.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers={self.workers}: must be at least 1.")

    @property
    def command(self) -> str:
        """What makes this report again."""
        parts = ["python", "scripts/compare.py", "--out", self.out, "--budget", self.budget, "--lang", self.lang]
        return shlex.join([*parts, *(["--claims", *self.claims] if self.claims else [])])


class Stopped(Exception):
    """A signal ended the run; finished cells are kept.

    Args:
        number: of the signal.
        message: what is kept, and how to go on.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + number


def main(args: CompareArguments) -> Path:
    """Measures what is not measured yet, and writes page and numbers.

    Returns:
        The page: `index.html` in the folder, beside `results.json` and `data/<claim>.csv`.

    Raises:
        ValueError: the folder can't be one, or holds cells of other settings.
        CellError: a measurement failed.
        Stopped: by SIGINT or SIGTERM.
    """
    out = Path(args.out)
    names = [name for name in CLAIMS if not args.claims or name in args.claims]
    claims = [load_claim(name) for name in names]
    # What would fail in the end fails now.
    page_words(args.lang)
    for name in names:
        claim_texts(name, args.lang)
    cells = cells_of(claims, args.budget)
    store, sessions = Store(out, args.budget), Sessions(out, args.budget)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out={args.out!r}: can't be made a folder ({error.strerror}).") from error
    if not all(store.has(cell) for cell in cells):
        sessions.note(this_machine())
        try:
            with _raising_signals():
                run_cells(cells, store, args.workers or os.cpu_count() or 1, args.quiet)
        except _Signal as caught:
            kept = sum(store.has(cell) for cell in cells)
            message = f"{kept} of {len(cells)} measurements are kept in {store.folder}; the same command goes on"
            number = signal.Signals(caught.args[0])
            raise Stopped(number, f"stopped by {number.name}. {message}: {args.command}") from None
    results = [collect(claim, args.budget, store) for claim in claims]
    run = Run(args.budget, args.command, sessions.machines(), sessions.days())
    write_data(out, results, run)
    write_text(out / PAGE, render(results, run, args.lang))
    return out / PAGE


def run(argv: Sequence[str] | None = None) -> int:
    """The program: 0 when the page is written, 1 after an error, 128 + the signal's number when stopped by one."""
    (args,) = parse(
        (CompareArguments,),
        argv,
        description="Measures every claim of the story from RNN to ViT on this machine, and writes a page about it.",
        epilog=_EPILOG,
    )
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    try:
        page = main(args)
    except (ValueError, CellError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"compare: {stop}", file=sys.stderr)
        return stop.exit_code
    print(page)
    return 0


class _Signal(KeyboardInterrupt):
    """SIGINT or SIGTERM, wherever the run stands."""


@contextmanager
def _raising_signals() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _Signal(number)

    previous: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


__all__ = ["PAGE", "CompareArguments", "Stopped", "main", "run"]
