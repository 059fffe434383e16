"""Metrics of one label per example, computed by scikit-learn."""

from collections.abc import Sequence
from typing import Any, Literal

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from .base import OfflineMetric


class _LabelMetric(OfflineMetric):
    def _info(self) -> evaluate.MetricInfo:
        integer = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="Pedregosa et al. 2011, Scikit-learn: Machine Learning in Python",
            inputs_description="predictions, references: one label id per example",
            features=datasets.Features({"predictions": integer, "references": integer}),
        )


class Accuracy(_LabelMetric):
    """Share of examples whose label is predicted: `{"accuracy": …}` in [0, 1]."""

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        normalize: bool = True,
        sample_weight: Sequence[float] | None = None,
    ) -> dict[str, float]:
        score = accuracy_score(references, predictions, normalize=normalize, sample_weight=sample_weight)
        return {"accuracy": float(score)}


class F1(_LabelMetric):
    """Harmonic mean of precision and recall: `{"f1": …}`, an array of one per label for `average=None`.

    `average` is "binary" (of `pos_label`), "micro", "macro", "weighted" or None.
    """

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        labels: Sequence[int] | None = None,
        pos_label: int = 1,
        average: Literal["binary", "micro", "macro", "weighted"] | None = "binary",
        sample_weight: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        # A label that is never predicted has precision 0/0: it counts as 0, without a warning for each evaluation.
        score = f1_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
            zero_division=0,
        )
        return {"f1": score if average is None else float(score)}


class MatthewsCorrelation(_LabelMetric):
    """Matthews' correlation of predictions and labels: `{"matthews_correlation": …}` in [-1, 1]; 0 is chance."""

    def _compute(
        self, predictions: Sequence[int], references: Sequence[int], sample_weight: Sequence[float] | None = None
    ) -> dict[str, float]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions, sample_weight=sample_weight))}
