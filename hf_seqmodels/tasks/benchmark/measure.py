"""Fair timing: contenders side by side in one process, interleaved; memory of each in a process of its own."""

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], None]


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Args:
        name: as the table shows it.
        build: makes everything that a step needs and returns the step; picklable, for the memory measurement.
        peer: whether ours is compared with it.
        unseen_flops: FLOPs of a step that PyTorch's counter does not see (those of fused recurrent kernels).
    """

    name: str
    build: Callable[[], Step]
    peer: bool
    unseen_flops: int = 0


@dataclass(frozen=True)
class Timing:
    """Seconds per step: the median and the spread (half the distance between the quartiles)."""

    median: float
    spread: float


def synchronize() -> None:
    """Waits for the accelerator, so that the clock sees finished work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_interleaved(
    steps: dict[str, Step], rounds: int, warmup: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Every contender once a round, so that a slow minute of the machine hits all of them alike.

    Args:
        clock: seconds. On a machine with other work `time.process_time` tells what one thread itself took; with more
            threads it counts their waiting for each other, too.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            synchronize()
            start = clock()
            step()
            synchronize()
            if number >= warmup:
                seconds[name].append(clock() - start)
    return {name: Timing(statistics.median(values), _half_quartile_range(values)) for name, values in seconds.items()}


def _half_quartile_range(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def compare(
    field: Sequence[Contender],
    rounds: int,
    gemm_rate: float,
    memory: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Measures all contenders, the steps interleaved.

    Args:
        gemm_rate: FLOP/s of the machine, for `gemm_fraction`.
        memory: measure `peak_bytes` and `memory_ratio`, too.
        clock: see `time_interleaved`.

    Returns:
        A row for each: `name`, `peer`, `seconds`, `spread`, `flops`, `gemm_fraction`, `peak_bytes` (`None` if not
        measured), and the ratios to the best peer.
    """
    steps, flops = {}, {}
    for contender in field:
        steps[contender.name] = contender.build()
        with FlopCounterMode(display=False) as counter:
            steps[contender.name]()
        flops[contender.name] = counter.get_total_flops() + contender.unseen_flops
    timings = time_interleaved(steps, rounds, clock=clock)
    del steps
    rows = [
        {
            "name": contender.name,
            "peer": contender.peer,
            "seconds": timings[contender.name].median,
            "spread": timings[contender.name].spread,
            "flops": flops[contender.name],
            "gemm_fraction": flops[contender.name] / timings[contender.name].median / gemm_rate,
            "peak_bytes": peak_memory(contender) if memory else None,
        }
        for contender in field
    ]
    fastest = min(row["seconds"] for row in rows if row["peer"])
    for row in rows:
        row["speed_ratio"] = fastest / row["seconds"]
        if memory:
            row["memory_ratio"] = row["peak_bytes"] / min(other["peak_bytes"] for other in rows if other["peer"])
    return rows


def table(rows: Sequence[dict[str, Any]], unit: str, units: int) -> list[str]:
    """The rows of `compare` as lines of Markdown.

    Args:
        unit: what a step works on, such as "tokens".
        units: how many of them.
    """
    lines = [
        f"| | ms/step (± half IQR) | {unit}/s | GFLOP/step | of GEMM rate | peak MiB | speed | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = f"{row['peak_bytes'] / 2**20:.0f}" if row["peak_bytes"] is not None else "–"
        memory_ratio = f"{row['memory_ratio']:.2f}×" if "memory_ratio" in row else "–"
        lines.append(
            f"| {row['name']} | {row['seconds'] * 1e3:.0f} ± {row['spread'] * 1e3:.0f} | "
            f"{units / row['seconds']:.0f} | {row['flops'] / 1e9:.0f} | {row['gemm_fraction']:.0%} | {memory} | "
            f"{row['speed_ratio']:.2f}× | {memory_ratio} |"
        )
    return lines


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
