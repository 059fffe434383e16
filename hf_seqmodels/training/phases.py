"""The stretches of a training run, and where in them a step lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_seqmodels.data.sampling import ShardedDataset
from hf_seqmodels.training.carried import CarriedState
from hf_seqmodels.training.errors import CheckpointError


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one shape of data (such as one sequence length).

    Args:
        name: for messages.
        steps: optimiser steps.
        dataset: what to train on.
        collate: list of examples -> batch of tensors, the model's keyword arguments.
        batch_size: examples of a micro-batch.
        token_budget: tokens of a micro-batch instead.
        carries: what the model returns as `past_key_values`, where each row of a batch continues the same row of a
            batch one step before (truncated backpropagation through time). Examples are then taken as they lie, and
            batches have `continues`, `False` where their rows begin anew.
        bucket_window: examples among which those of similar length are put together, see `BatchStream`.
    """

    name: str
    steps: int
    dataset: ShardedDataset
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    batch_size: int
    token_budget: int | None = None
    carries: type[CarriedState] | None = None
    bucket_window: int | None = None


def check_phases(phases: Sequence[Phase], max_steps: int) -> None:
    """Raises:
    ValueError: a phase without steps, phases that do not add up to `max_steps`, or a token budget or buckets for rows
        that continue another's.
    """
    for phase in phases:
        if phase.steps < 1:
            raise ValueError(f"Phase {phase.name!r}: steps={phase.steps} must be at least 1.")
        for name, value in (("token_budget", phase.token_budget), ("bucket_window", phase.bucket_window)):
            if phase.carries is not None and value is not None:
                raise ValueError(
                    f"Phase {phase.name!r}: {name}={value} does not go with carried states, which need the same rows "
                    "in each batch; use None."
                )
    if sum(phase.steps for phase in phases) != max_steps:
        raise ValueError(f"The phases' steps {[p.steps for p in phases]} do not add up to {max_steps}.")


def phase_end(phases: Sequence[Phase], index: int) -> int:
    """The last step of a phase."""
    return sum(phase.steps for phase in phases[: index + 1])


def check_position(phases: Sequence[Phase], index: int, step: int) -> None:
    """Raises:
    CheckpointError: `step` does not lie in phase `index` of these phases.
    """
    if index >= len(phases) or not phase_end(phases, index) - phases[index].steps <= step:
        raise CheckpointError(
            f"The checkpoint was saved at step {step} in phase {index + 1}, but this run's phases have the steps "
            f"{[phase.steps for phase in phases]}: resume with the phases that it was trained with."
        )
    if step > phase_end(phases, index):
        raise CheckpointError(
            f"The checkpoint was saved at step {step} of phase {index + 1}, which ends at "
            f"{phase_end(phases, index)} in this run: it is trained beyond that already."
        )
