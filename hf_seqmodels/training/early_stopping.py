"""Which evaluation was the best, and whether training goes on: pure functions of the log, so a resumed run agrees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Where the best model is kept, below the output folder.
BEST = "best"


@dataclass(frozen=True)
class EarlyStopping:
    """Keeps the model of the best evaluation, and ends training when it has not got better for long.

    Args:
        metric: one of what `evaluate` returns.
        patience: evaluations without a better one after which training ends; 0 = it never ends early.
        greater_is_better: whether a better metric is a higher one.

    Raises:
        ValueError: a negative patience.
    """

    metric: str
    patience: int = 0
    greater_is_better: bool = True

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ValueError(f"early_stopping_patience={self.patience} must be at least 0.")

    def values(self, history: Sequence[dict[str, Any]]) -> list[float]:
        """The metric of each evaluation in a log, signed so that more is better.

        Raises:
            ValueError: an evaluation lacks it; says what it has.
        """
        name, sign = f"eval_{self.metric}", 1 if self.greater_is_better else -1
        evaluations = [entry for entry in history if any(key.startswith("eval_") for key in entry)]
        for entry in evaluations:
            if name not in entry:
                measured = ", ".join(key.removeprefix("eval_") for key in entry if key != "step")
                raise ValueError(f"metric_for_best_model={self.metric!r} is not evaluated; there are {measured}.")
        return [sign * entry[name] for entry in evaluations]

    def since_best(self, history: Sequence[dict[str, Any]]) -> int:
        """Evaluations after the best one; of equals the first counts. 0 if there is none."""
        values = self.values(history)
        return len(values) - 1 - values.index(max(values)) if values else 0

    def is_over(self, history: Sequence[dict[str, Any]]) -> bool:
        """Whether training is to end here."""
        return self.patience > 0 and self.since_best(history) >= self.patience
