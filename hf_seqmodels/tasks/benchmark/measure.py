"""Fair timing: contenders side by side in one process, interleaved; memory of each in a process of its own."""

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

Step = Callable[[], None]


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Args:
        name: as the table shows it.
        build: makes everything that a step needs and returns the step; picklable, for the memory measurement.
        peer: whether ours is compared with it.
    """

    name: str
    build: Callable[[], Step]
    peer: bool


@dataclass(frozen=True)
class Timing:
    """Seconds per step: the median and the spread (half the distance between the quartiles)."""

    median: float
    spread: float


def synchronize() -> None:
    """Waits for the accelerator, so that the clock sees finished work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_interleaved(steps: dict[str, Step], rounds: int, warmup: int = 2) -> dict[str, Timing]:
    """Every contender once a round, so that a slow minute of the machine hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(statistics.median(values), _half_quartile_range(values)) for name, values in seconds.items()}


def _half_quartile_range(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def peak_memory(contender: Contender, steps: int = 3) -> int:
    """Bytes that model, optimiser and steps take at their peak, measured in a fresh process.

    CPU: highest resident memory, sampled every 2 ms, less that before the model was built. GPU: the allocator's peak.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(contender.build, steps, torch.get_num_threads(), sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measure_memory(build: Callable[[], Step], steps: int, threads: int, sender: Connection) -> None:
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        step = build()
        for _ in range(steps):
            step()
        synchronize()
        sender.send(torch.cuda.max_memory_allocated())
        return
    # A first small product makes the thread pools and libraries resident before the base line is read.
    torch.ones(64, 64) @ torch.ones(64, 64)
    base = _resident_bytes()
    highest = base
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, _resident_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    step = build()
    for _ in range(steps):
        step()
    done.set()
    watcher.join()
    sender.send(highest - base)


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS line: memory can be measured on Linux only.")
