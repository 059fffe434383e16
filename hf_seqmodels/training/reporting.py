"""What a person sees of a run: a progress bar, log lines, trackers."""

import time
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm


class Reporter:
    """Progress bar and trackers of the main process; silent on the others.

    Args:
        accelerator: whose trackers get the figures.
        total: optimiser steps in all; `start` of them are already done.
        unit: what the speed is counted in, such as "tokens"; it names the figure `speed/tokens_per_second`.
        flops_per_unit: FLOPs of forward and backward, for the share of the machine's rate (MFU).
        gemm_rate: the machine's rate in FLOP/s over all processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        total: int,
        start: int,
        disable: bool,
        unit: str,
        flops_per_unit: float | None,
        gemm_rate: float | None,
    ):
        self.accelerator = accelerator
        self.unit = unit
        self.flops_per_unit = flops_per_unit
        self.gemm_rate = gemm_rate
        self.bar = tqdm(
            total=total,
            initial=start,
            disable=disable or not accelerator.is_main_process,
            unit="step",
            dynamic_ncols=True,
            smoothing=0.05,
            mininterval=0.5,
        )
        self._units = 0
        self._since = time.perf_counter()

    def advance(self, units: int) -> None:
        """One step of so many units, over all processes."""
        self._units += units
        self.bar.update(1)

    def log(self, step: int, figures: dict[str, Any]) -> None:
        """Shows the figures of the last steps, with their speed."""
        speed = self._speed()
        self.accelerator.log({**{f"train/{name}": value for name, value in figures.items()}, **speed}, step=step)
        shown = {name: _short(value) for name, value in {**figures, **speed}.items()}
        self.bar.set_postfix({name.rpartition("/")[2]: value for name, value in shown.items()})

    def log_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Shows an evaluation, which does not count as training time."""
        self.accelerator.log({f"eval/{name}": value for name, value in metrics.items()}, step=step)
        if self.accelerator.is_main_process:
            text = ", ".join(f"{name} {_short(value)}" for name, value in metrics.items())
            self.say(f"step {step}: {text}")

    def say(self, text: str) -> None:
        """A line above the bar, on the main process."""
        if self.accelerator.is_main_process:
            self.bar.write(text)

    def restart_clock(self) -> None:
        """Leaves out what happened since the last step (evaluation, saving)."""
        self._units, self._since = 0, time.perf_counter()

    def close(self) -> None:
        """Ends the bar; the trackers are the accelerator's to end."""
        self.bar.close()

    def _speed(self) -> dict[str, float]:
        if not self._units:
            return {}
        per_second = self._units / (time.perf_counter() - self._since)
        speed = {f"speed/{self.unit}_per_second": per_second}
        if self.flops_per_unit is not None and self.gemm_rate is not None:
            speed["speed/mfu"] = per_second * self.flops_per_unit / self.gemm_rate
        self.restart_clock()
        return speed


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
