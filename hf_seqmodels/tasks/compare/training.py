"""Small trainings of the comparison, in memory: what takes seconds needs no checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hf_seqmodels.training.optimizers import build_optimizer, parameter_groups, set_learning_rate, undecayed_names
from hf_seqmodels.training.schedules import build_schedule

from .claim import Progress

Batch = dict[str, torch.Tensor]


def fit(
    model: nn.Module,
    batch_of: Callable[[int], Batch],
    max_steps: int,
    learning_rate: float,
    progress: Progress,
    *,
    lr_scheduler_type: str = "linear",
    warmup_share: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    loss_of: Callable[[Any, Batch], torch.Tensor] | None = None,
) -> list[float]:
    """Trains with AdamW (betas 0.9 and 0.999), in float32.

    Args:
        model: anything whose output has a `loss`, unless `loss_of` makes one.
        batch_of: number of the step, from 0 -> keyword arguments of the model.
        max_steps: optimiser steps.
        learning_rate: at its peak.
        progress: told the share of the steps that is done.
        lr_scheduler_type: of `training.schedules`.
        warmup_share: share of the steps in which the rate rises.
        weight_decay: of matrices.
        max_grad_norm: gradients are clipped to it.
        loss_of: output and batch -> the loss.

    Returns:
        The loss of each step.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    groups = parameter_groups(model.named_parameters(), undecayed_names(model), weight_decay)
    optimizer = build_optimizer("adamw", groups, learning_rate, (0.9, 0.999), 1e-8)
    schedule = build_schedule(lr_scheduler_type, round(warmup_share * max_steps), max_steps)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = []
    model.train()
    for step in range(max_steps):
        set_learning_rate(optimizer, learning_rate * schedule(step + 1))
        batch = batch_of(step)
        outputs = model(**batch)
        loss = outputs.loss if loss_of is None else loss_of(outputs, batch)
        losses.append(loss.item())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step + 1} of {max_steps}: the loss is {losses[-1]}.")
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress((step + 1) / max_steps)
    model.eval()
    return losses


@contextmanager
def saved_bytes() -> Iterator[list[int]]:
    """Counts what the forward passes inside keep for the backward one: the activations that training needs.

    Exact and the same on every machine, where a process's peak depends on its allocator. A tensor that is kept twice
    counts once.

    Yields:
        One number: bytes, once the block is left.
    """
    sizes: dict[int, int] = {}
    total = [0]

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield total
    total[0] = sum(sizes.values())


def stage(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part that makes up [start, end] of the whole."""
    return lambda done: progress(start + (end - start) * done)


__all__ = ["Batch", "fit", "saved_bytes", "stage"]
