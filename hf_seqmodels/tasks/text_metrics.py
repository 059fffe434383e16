"""Predictions of transformers' Trainer to the metrics of hf_seqmodels.metrics."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import EvalPrediction

from hf_seqmodels import metrics
from hf_seqmodels.models.losses import IGNORE_INDEX

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


def argmax_logits(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Class ids in place of logits, so that an evaluation holds one number per prediction (Trainer calls this)."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return first.argmax(dim=-1)


def viterbi_tags(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """The tags of a model with a CRF, which returns logits and then `predictions` (Trainer calls this)."""
    return outputs[1]


def classification_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy, macro F1 and Matthews' correlation of predicted class ids `(examples,)`."""
    columns = {"predictions": prediction.predictions, "references": prediction.label_ids}
    return {
        **metrics.load("accuracy").compute(**columns),
        **metrics.load("f1").compute(**columns, average="macro"),
        **metrics.load("matthews_correlation").compute(**columns),
    }


def tagging_metrics(names: Sequence[str]) -> ComputeMetrics:
    """The metrics of a tagging task with these tags: entities if they are BIO tags, single tags otherwise.

    The function takes predicted tag ids `(sentences, pieces)` and counts where the label is not -100. It gives
    precision, recall, f1 (of entities, micro; or of tags, macro) and accuracy (of tags).
    """
    is_bio = all(name == "O" or (name[:2] in ("B-", "I-") and len(name) > 2) for name in names)

    def of_entities(prediction: EvalPrediction) -> dict[str, float]:
        kept = np.asarray(prediction.label_ids) != IGNORE_INDEX
        guesses, truths = (
            [[names[i] for i in row[keep]] for row, keep in zip(ids, kept)]
            for ids in (np.asarray(prediction.predictions), np.asarray(prediction.label_ids))
        )
        result = metrics.load("seqeval").compute(predictions=guesses, references=truths)
        return {key: result[f"overall_{key}"] for key in ("precision", "recall", "f1", "accuracy")}

    def of_tags(prediction: EvalPrediction) -> dict[str, float]:
        kept = np.asarray(prediction.label_ids) != IGNORE_INDEX
        flat = EvalPrediction(np.asarray(prediction.predictions)[kept], np.asarray(prediction.label_ids)[kept])
        return classification_metrics(flat)

    return of_entities if is_bio else of_tags
