"""What the metrics share: evaluate's Metric, kept in memory, with clear errors."""

from typing import Any

import evaluate


class OfflineMetric(evaluate.Metric):
    """An `evaluate.Metric` whose inputs stay in memory and are checked before evaluate sees them."""

    def __init__(self, *args: Any, keep_in_memory: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, keep_in_memory=keep_in_memory, **kwargs)

    def add_batch(self, **columns: Any) -> None:
        """Adds a batch, one column per input of the metric.

        Raises:
            ValueError: columns of different length.
        """
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if len(set(lengths.values())) > 1:
            stated = ", ".join(f"{length} {name}" for name, length in lengths.items())
            raise ValueError(f"Metric {self.name!r} needs columns of one length, got {stated}.")
        super().add_batch(**columns)

    def compute(self, **columns: Any) -> dict[str, Any]:
        """The metric over this call's columns and every batch added before; keyword options of the metric go here too.

        Raises:
            ValueError: nothing was given, here or by `add_batch`; columns of different length; a column is missing.
        """
        given = [columns[name] for name in self._feature_names() if columns.get(name) is not None]
        if self.writer is None and not any(len(values) for values in given):
            raise ValueError(f"Metric {self.name!r} has no {self._feature_names()[0]} to compute from.")
        result = super().compute(**columns)
        if result is None:  # evaluate's answer on processes other than the first
            return {}
        return result
