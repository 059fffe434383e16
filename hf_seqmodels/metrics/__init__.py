"""Metrics with evaluate's interface that load with no network.

`load("accuracy").compute(predictions=[0, 1], references=[0, 0])` gives `{"accuracy": 0.5}`.
"""

import difflib
from typing import Any

from .base import OfflineMetric
from .classification import F1, Accuracy, MatthewsCorrelation
from .perplexity import Perplexity
from .sequence_labelling import SequenceLabelling
from .translation import ChrF, SacreBleu

# The names are those of the same metrics on the Hub.
METRICS: dict[str, type[OfflineMetric]] = {
    "accuracy": Accuracy,
    "chrf": ChrF,
    "f1": F1,
    "matthews_correlation": MatthewsCorrelation,
    "perplexity": Perplexity,
    "sacrebleu": SacreBleu,
    "seqeval": SequenceLabelling,
}


def load(name: str, **kwargs: Any) -> OfflineMetric:
    """A new instance of the metric of that name, as `evaluate.load(name)` would give with a network.

    Args:
        name: one of `METRICS`.
        kwargs: for `evaluate.Metric`; predictions are kept in memory unless `keep_in_memory=False`.

    Raises:
        ValueError: there is no such metric; the message lists those there are.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=1)
        suggestion = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"No metric {name!r}; there are {', '.join(METRICS)}.{suggestion}")
    return METRICS[name](**kwargs)


__all__ = [
    "F1",
    "METRICS",
    "Accuracy",
    "ChrF",
    "MatthewsCorrelation",
    "OfflineMetric",
    "Perplexity",
    "SacreBleu",
    "SequenceLabelling",
    "load",
]
