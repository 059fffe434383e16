"""Perplexity from summed losses, so that batches of unequal size weigh as they should."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from .base import OfflineMetric


class Perplexity(OfflineMetric):
    """`exp(sum(nll) / sum(count))`: `{"perplexity": …, "mean_nll": …}`.

    `nll`: one summed negative log-likelihood (nats) per batch or example; `count`: how many tokens each sums over.
    A mean of batch means would weigh the tokens of small batches more. Infinite where the exponential overflows.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="nll: summed negative log-likelihoods in nats; count: the tokens in each sum",
            features=datasets.Features({"nll": datasets.Value("float64"), "count": datasets.Value("int64")}),
        )

    def _compute(self, nll: Sequence[float], count: Sequence[int]) -> dict[str, float]:
        counts = np.asarray(count)
        if counts.min() < 0 or counts.sum() == 0:
            raise ValueError(f"Perplexity needs counts of at least 0, not all 0; got a sum of {counts.sum()}.")
        mean = float(np.sum(nll) / counts.sum())
        with np.errstate(over="ignore"):
            return {"perplexity": float(np.exp(mean)), "mean_nll": mean}
