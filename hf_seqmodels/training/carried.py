"""States that a model carries from one step's rows to those that continue them in the next (truncated BPTT)."""

import inspect
import json
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from hf_seqmodels.training.errors import CheckpointError

CONTINUES = "continues"
_ARGUMENT = "past_key_values"
_CUT = "micro_batches_and_rows"


class CarriedState(Protocol):
    """What the engine asks of a state, such as `RecurrentCache`."""

    def detach(self) -> Self:
        """The same state, cut from the graph; what happens to one later leaves the other alone."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything in it, by name."""
        ...

    @classmethod
    def from_tensors(cls, named: dict[str, torch.Tensor], /) -> Self:
        """From `tensors`."""
        ...


class CarriedStates:
    """The states of one process in one phase, one for each micro-batch of a step.

    Micro-batch number a of every step holds the same rows of the data (streams), so its state goes to micro-batch a of
    the next step: the cut into micro-batches and processes is not seen in what is trained.

    Args:
        kind: of state; `None` where the phase carries none.
        slots: micro-batches of a step.
        rows: of a micro-batch.
    """

    def __init__(self, kind: type[CarriedState] | None, slots: int, rows: int):
        self.kind = kind
        self.rows = rows
        self._states: list[CarriedState | None] = [None] * slots

    def check_model(self, model: PreTrainedModel) -> None:
        """Raises:
        ValueError: the model takes no state.
        """
        if self.kind is not None and _ARGUMENT not in inspect.signature(model.forward).parameters:
            raise ValueError(
                f"{type(model).__name__} takes no {_ARGUMENT}: it cannot carry a state from batch to batch. Train it "
                "on documents instead of contiguous text."
            )

    def split(self, slot: int, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The batch without its `continues`, and the keyword arguments by which the model goes on.

        Raises:
            CheckpointError: there is no state to go on from.
        """
        if self.kind is None:
            return batch, {}
        batch = dict(batch)
        if not batch.pop(CONTINUES):
            return batch, {"use_cache": True}
        if self._states[slot] is None:
            raise CheckpointError(f"The checkpoint holds no state of micro-batch {slot + 1}, whose rows go on.")
        return batch, {"use_cache": True, _ARGUMENT: self._states[slot]}

    def keep(self, slot: int, outputs: Any) -> None:
        """Takes the state that the model returned.

        Raises:
            ValueError: it returned none.
        """
        if self.kind is None:
            return
        state = outputs.get(_ARGUMENT)
        if state is None:
            raise ValueError(f"The model returned no {_ARGUMENT}: it cannot carry a state from batch to batch.")
        self._states[slot] = state.detach()

    def save(self, folder: Path, rank: int) -> None:
        """Writes this process's states, if the phase carries any."""
        if self.kind is None:
            return
        named = {
            f"{slot}.{name}": tensor.cpu().contiguous().clone()
            for slot, state in enumerate(self._states)
            if state is not None
            for name, tensor in state.tensors().items()
        }
        # One entry: safetensors writes several in any order, and equal runs are to leave equal files.
        save_file(named, _file(folder, rank), {_CUT: json.dumps([len(self._states), self.rows])})

    def load(self, folder: Path, rank: int, device: torch.device) -> None:
        """Restores what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged, or its steps were cut into other micro-batches.
        """
        if self.kind is None:
            return
        path = _file(folder, rank)
        try:
            with safe_open(path, "pt") as file:
                saved, names = json.loads(file.metadata()[_CUT]), file.keys()
                named = {name: file.get_tensor(name).to(device) for name in names}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"Cannot restore the carried states from {path}: {error}.") from error
        slots = len(self._states)
        if saved != [slots, self.rows]:
            raise CheckpointError(
                f"{path}: a step had {saved[0]} micro-batch(es) of {saved[1]} rows, this run has {slots} of "
                f"{self.rows}. Each row continues one of the step before: resume with the same "
                "gradient_accumulation_steps and per_device_train_batch_size."
            )
        for slot in range(slots):
            prefix = f"{slot}."
            own = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
            self._states[slot] = self.kind.from_tensors(own) if own else None


def _file(folder: Path, rank: int) -> Path:
    return folder / f"carried-{rank}.safetensors"
