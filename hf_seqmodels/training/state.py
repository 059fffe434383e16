"""What a run is, apart from weights: where it stands and what it has logged."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_seqmodels.data.sampling import Cursor
from hf_seqmodels.training.errors import CheckpointError

_FILE = "training_state.json"

# Configuration entries that saving or loading itself changes.
_BOOKKEEPING = frozenset({"architectures", "auto_map", "dtype", "transformers_version", "_name_or_path"})


@dataclass
class RunState:
    """Everything that goes into `training_state.json`.

    Args:
        step: optimiser steps taken.
        phase: index of the phase that the next step belongs to.
        cursor: where the next micro-batch begins.
        history: log entries, without wall-clock figures, so that two runs can be compared.
        window: sums of the losses since the last entry.
        window_steps: steps in `window`.
    """

    step: int = 0
    phase: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    history: list[dict[str, Any]] = field(default_factory=list)
    window: dict[str, float] = field(default_factory=dict)
    window_steps: int = 0

    def save(self, folder: Path, model: PreTrainedModel, num_processes: int) -> None:
        """Writes the state and what identifies the run that it belongs to."""
        values = {**asdict(self), "num_processes": num_processes, "model": fingerprint(model)}
        (folder / _FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, model: PreTrainedModel, num_processes: int) -> "RunState":
        """Reads the state that `save` wrote.

        Raises:
            CheckpointError: it belongs to another model, or to another number of processes.
        """
        values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        _compare(values.pop("model"), fingerprint(model), folder)
        saved_processes = values.pop("num_processes")
        if saved_processes != num_processes:
            raise CheckpointError(
                f"{folder} was saved by {saved_processes} process(es), this run has {num_processes}: "
                "dropout would differ. Resume with the same number."
            )
        return cls(**{**values, "cursor": Cursor.from_dict(values["cursor"])})


def fingerprint(model: PreTrainedModel) -> dict[str, Any]:
    """Class, configuration and parameter shapes of a model, for JSON."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    config = json.loads(model.config.to_json_string(use_diff=False))
    config = {name: value for name, value in config.items() if name not in _BOOKKEEPING}
    return {"class": type(model).__name__, "config": config, "shapes": shapes}


def _compare(saved: dict[str, Any], own: dict[str, Any], folder: Path) -> None:
    if saved["class"] != own["class"]:
        raise CheckpointError(f"{folder} is a checkpoint of {saved['class']}, not of {own['class']}.")
    for name in sorted(set(saved["config"]) | set(own["config"])):
        there, here = saved["config"].get(name), own["config"].get(name)
        if there != here:
            raise CheckpointError(
                f"{folder} is another model's checkpoint: config.{name} is {there!r} there and {here!r} here."
            )
    for name in sorted(set(saved["shapes"]) | set(own["shapes"])):
        there, here = saved["shapes"].get(name), own["shapes"].get(name)
        if there != here:
            raise CheckpointError(
                f"{folder} is another model's checkpoint: {name} has the shape {there} there and {here} here."
            )
