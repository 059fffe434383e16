"""Scheduled sampling (Bengio et al. 2015): the share of true tokens that a decoder is fed falls as training goes."""

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SAMPLING_SCHEDULES = ("constant", "linear", "inverse_sigmoid")


def constant(step: int, ratio: float) -> float:
    """`ratio` at every step."""
    return ratio


def linear(step: int, decay_steps: float, minimum: float = 0.0) -> float:
    """1 before the first step, falling to `minimum` at `decay_steps` and staying there (section 2.4, "linear")."""
    return max(minimum, 1.0 - (1.0 - minimum) * step / decay_steps)


def inverse_sigmoid(step: int, k: float, minimum: float = 0.0) -> float:
    """k / (k + exp(step / k)), never below `minimum` (section 2.4, "inverse sigmoid"); one half at step k · ln k."""
    exponent = step / k - math.log(k)
    ratio = 1.0 / (1.0 + math.exp(exponent)) if exponent < 700 else 0.0  # exp overflows behind 709
    return max(minimum, ratio)


def build_sampling_schedule(name: str, decay_steps: float, minimum: float) -> Callable[[int], float]:
    """Optimiser step (1, 2, …) -> `teacher_forcing_ratio` of that step.

    Args:
        name: one of `SAMPLING_SCHEDULES`.
        decay_steps: "linear": the step that reaches `minimum`; "inverse_sigmoid": the paper's k, above 1.
        minimum: the lowest ratio, in [0, 1]; "constant": the ratio.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    if name not in SAMPLING_SCHEDULES:
        raise ValueError(f"scheduled_sampling={name!r} is not known; choose one of {', '.join(SAMPLING_SCHEDULES)}.")
    if not 0 <= minimum <= 1:
        raise ValueError(f"min_teacher_forcing={minimum} must lie in [0, 1].")
    smallest = 1 if name == "inverse_sigmoid" else 0
    if decay_steps <= smallest:
        raise ValueError(f"sampling_decay_steps={decay_steps} must be above {smallest} for {name}.")
    if name == "constant":
        return lambda step: constant(step, minimum)
    if name == "linear":
        return lambda step: linear(step, decay_steps, minimum)
    return lambda step: inverse_sigmoid(step, decay_steps, minimum)


class ScheduledSamplingCallback(TrainerCallback):
    """Sets the model's `teacher_forcing_ratio` before each optimiser step of a `Trainer`.

    Args:
        schedule: of `build_sampling_schedule`.
    """

    def __init__(self, schedule: Callable[[int], float]):
        self.schedule = schedule

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A pure function of the step, so a resumed run goes on as it would have."""
        kwargs["model"].teacher_forcing_ratio = self.schedule(state.global_step + 1)
