"""Losses that add up: over micro-batches and processes they give the loss of the whole batch.

Every function takes the number of items of the whole optimiser step (`num_items_in_batch`, as transformers' Trainer
passes it). With it, the loss is the sum over this micro-batch divided by that number, so that accumulated gradients
equal those of one big batch whatever the micro-batches' own counts. Without it, the loss is the mean.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .cross_entropy import IGNORE_INDEX, summed_cross_entropy

# As transformers names them.
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

Count = int | float | torch.Tensor | None


def divide(total: torch.Tensor, num_items: Count, own_items: torch.Tensor | int) -> torch.Tensor:
    """`total` over the step's items, or over this batch's own; nothing to predict gives zero, not 0 / 0."""
    if num_items is None:
        num_items = own_items
    if isinstance(num_items, torch.Tensor):
        return total / num_items.to(device=total.device, dtype=total.dtype).clamp(min=1)
    return total / max(num_items, 1)


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Low precision is too coarse for a loss; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def token_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Count = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy over the positions with a label, in float32 (float64 stays).

    Args:
        logits: `(…, num_classes)`.
        labels: `(…)`, with -100 where nothing is to be predicted.
        num_items_in_batch: labelled positions in the whole step; `None` takes this batch's own.
        label_smoothing: mass moved from the label to the uniform distribution (Szegedy et al. 2016).

    Returns:
        A scalar; zero, with a graph, when no position has a label.
    """
    logits = logits.flatten(0, -2)
    labels = labels.flatten().to(logits.device)
    total = summed_cross_entropy(logits, labels, label_smoothing)
    return divide(total, num_items_in_batch, (labels != IGNORE_INDEX).sum())


def sequence_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, problem_type: str | None = None, num_items_in_batch: Count = None
) -> torch.Tensor:
    """Loss of a classification or regression head, by transformers' conventions but without touching the config.

    Args:
        logits: `(batch, num_labels)`.
        labels: `(batch,)` class ids or regression targets, or `(batch, num_labels)` targets.
        problem_type: `config.problem_type`; `None` infers it from this batch alone: one logit is a regression, integer
            labels are classes, float labels are multi-label targets.
        num_items_in_batch: labels in the whole step, counted as Trainer does (elements that are not -100).

    Raises:
        ValueError: `problem_type` is unknown, or labels and logits do not fit.
    """
    num_labels = logits.shape[-1]
    if problem_type is None:
        if num_labels == 1:
            problem_type = "regression"
        else:
            problem_type = (
                "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
            )
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type={problem_type!r} is not known; choose one of {', '.join(PROBLEM_TYPES)}.")
    if problem_type == "single_label_classification":
        check_labels(labels, num_labels, logits.shape[:-1])
        return token_cross_entropy(logits, labels, num_items_in_batch)
    if labels.numel() != logits.numel():
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}.")
    logits = at_least_float32(logits)
    labels = labels.reshape(logits.shape).to(logits)
    if problem_type == "regression":
        total = nn.functional.mse_loss(logits, labels, reduction="sum")
    else:
        total = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return divide(total, num_items_in_batch, labels.numel())


def image_classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: str | None = None,
    num_items_in_batch: Count = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Loss of an image classifier: as `sequence_classification_loss`, but float labels of several classes are soft.

    Mixup and label smoothing give every image a distribution over the classes (Zhang et al. 2017): the loss is the
    cross-entropy with it. transformers takes such labels for multi-label targets, and writes that into the config;
    here that needs `problem_type="multi_label_classification"`.

    Args:
        logits: `(batch, num_labels)`.
        labels: `(batch,)` class ids, -100 for none; or `(batch, num_labels)` probabilities.
        problem_type: `config.problem_type`; `None` takes one logit for a regression, and several for classes.
        num_items_in_batch: elements of the labels in the whole step, counted as Trainer does.
        label_smoothing: for hard labels only (soft ones come smoothed, if at all).

    Raises:
        ValueError: labels and logits do not fit.
    """
    num_labels = logits.shape[-1]
    if problem_type is None and num_labels > 1:
        problem_type = "single_label_classification"
    if problem_type != "single_label_classification":
        return sequence_classification_loss(logits, labels, problem_type, num_items_in_batch)
    if not labels.is_floating_point():
        check_labels(labels, num_labels, logits.shape[:-1])
        return token_cross_entropy(logits, labels, num_items_in_batch, label_smoothing)
    if labels.shape != logits.shape:
        raise ValueError(
            f"soft labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}."
        )
    logits = at_least_float32(logits)
    total = -(labels.to(logits) * logits.log_softmax(-1)).sum()
    return divide(total, None if num_items_in_batch is None else num_items_in_batch / num_labels, len(labels))


def check_labels(labels: torch.Tensor, num_labels: int, shape: Sequence[int], name: str = "labels") -> None:
    """Refuses class ids outside `[0, num_labels)` (-100 is "no label") before a kernel trips over them.

    `shape` is that of what is labelled; for one dimension `(n,)`, `(n, 1)` will do as well. The values are looked at
    on the CPU only: a look at an accelerator's tensor would make every step wait for the device.

    Raises:
        ValueError: naming the value or the shapes.
    """
    if tuple(shape) not in (tuple(labels.shape), (labels.numel(),)):
        raise ValueError(f"{name} of shape {tuple(labels.shape)} do not fit; {tuple(shape)} is expected.")
    if labels.device.type != "cpu" or labels.numel() == 0 or torch.compiler.is_compiling():
        return
    wrong = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= num_labels))
    if wrong.any():
        raise ValueError(f"{name} holds {labels[wrong][0].item()}, outside [0, {num_labels}) (-100 means no label).")


__all__ = [
    "IGNORE_INDEX",
    "Count",
    "at_least_float32",
    "check_labels",
    "divide",
    "image_classification_loss",
    "sequence_classification_loss",
    "token_cross_entropy",
]
