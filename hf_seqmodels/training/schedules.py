"""Learning-rate schedules as pure functions: step -> factor of the peak rate."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]

# The last part of "wsd" in which the rate falls (Hu et al. 2024, "MiniCPM", section 4.1).
_DECAY_SHARE = 0.1


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _warmup_stable_decay(progress: float) -> float:
    return min(1.0, (1.0 - progress) / _DECAY_SHARE)


def _constant(progress: float) -> float:
    return 1.0


_SHAPES = {"linear": _linear, "cosine": _cosine, "wsd": _warmup_stable_decay, "constant": _constant}

SCHEDULES = (*_SHAPES, "inverse_sqrt")


def build_schedule(name: str, warmup_steps: int, max_steps: int) -> Schedule:
    """The factor of the peak learning rate at optimiser step 1, 2, …, `max_steps`.

    Args:
        name: "linear" (to 0), "cosine" (to 0, Loshchilov & Hutter 2017), "wsd" (constant, then linear to 0 over the
            last tenth), "inverse_sqrt" (Vaswani et al. 2017, section 5.3) or "constant"; each after a linear warm-up.
        warmup_steps: steps of the warm-up; 0 starts at the peak.
        max_steps: steps in all.

    Raises:
        ValueError: `name` is unknown.
    """
    if name not in SCHEDULES:
        raise ValueError(f"lr_scheduler_type={name!r} is not known; choose one of {', '.join(SCHEDULES)}.")

    def factor(step: int) -> float:
        if step <= warmup_steps:
            return step / max(warmup_steps, 1)
        if name == "inverse_sqrt":
            return math.sqrt(max(warmup_steps, 1) / step)
        # Step `max_steps` is still taken, so the rate reaches zero only after it.
        progress = (step - warmup_steps - 1) / max(max_steps - warmup_steps, 1)
        return _SHAPES[name](progress)

    return factor
