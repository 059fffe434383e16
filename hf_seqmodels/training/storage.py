"""Saving and loading what a run needs to go on: weights, optimiser, random state, position."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_seqmodels.training import checkpoint, ema, rng
from hf_seqmodels.training.arguments import EngineArguments
from hf_seqmodels.training.carried import CarriedStates
from hf_seqmodels.training.early_stopping import BEST
from hf_seqmodels.training.ema import AveragedWeights
from hf_seqmodels.training.errors import CheckpointError
from hf_seqmodels.training.optimizers import check_groups
from hf_seqmodels.training.precision import MasterWeights
from hf_seqmodels.training.pushing import HubRepository, Pusher
from hf_seqmodels.training.state import RunState

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)

# How a full disk shows: Python's own files, safetensors' and torch.save's.
_WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)


class RunStorage:
    """Writes and reads the checkpoints of one run. A checkpoint is also a model folder for `from_pretrained`.

    Args:
        accelerator: of the run.
        args: of the run.
        model: unwrapped.
        optimizer: over the model's parameters, or over the masters.
        masters: float32 weights, where the model's are bfloat16.
        average: of the weights, in `ema.safetensors` beside the raw ones; the final model holds it.
        processing_class: saved beside the model.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: EngineArguments,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        masters: MasterWeights | None,
        average: AveragedWeights | None,
        processing_class: Any,
    ):
        self.accelerator, self.args, self.model = accelerator, args, model
        self.optimizer, self.masters, self.average = optimizer, masters, average
        self.processing_class = processing_class
        self.sharded = accelerator.distributed_type == DistributedType.FSDP
        self.folder = Path(args.output_dir)
        self.pusher: Pusher | None = None
        if args.push_to_hub and accelerator.is_main_process:
            self.pusher = Pusher(HubRepository.of(args), say=tqdm.write)
        self._saved: int | None = None  # step of the last checkpoint in `folder` that is known to be whole

    def save_checkpoint(self, state: RunState, carried: CarriedStates) -> Path:
        """Writes `checkpoint-<step>`, every process its random and carried states, and rotates.

        Does nothing if this run has just saved that step or resumed from it.

        Raises:
            CheckpointError: on every process, if one cannot write; earlier checkpoints are untouched.
        """
        aside = checkpoint.aside_path(self.folder, state.step)
        final = checkpoint.checkpoint_path(self.folder, state.step)
        if self._saved == state.step:
            return final
        optimizer_state = self._optimizer_state()
        weights = self.accelerator.get_state_dict(self.model) if self.sharded else None
        failure: Exception | None = None
        try:
            aside.mkdir(parents=True, exist_ok=True)
            rng.save(aside, self.accelerator.process_index)
            carried.save(aside, self.accelerator.process_index)
            if self.accelerator.is_main_process:
                self._save_model(aside, weights)
                if self.average is not None:
                    self.average.save(aside)
                torch.save(optimizer_state, aside / "optimizer.pt")
                state.save(aside, self.model, self.accelerator.num_processes)
        except _WRITE_ERRORS as error:
            failure = error
        # Every process must have written its part, and all must agree that it worked, before the folder counts.
        self._agree(failure, aside, final)
        try:
            if self.accelerator.is_main_process:
                checkpoint.finish_checkpoint(aside, final)
                checkpoint.rotate(self.folder, final, self.args.save_total_limit)
        except OSError as error:
            failure = error
        self._agree(failure, aside, final)
        self._saved = state.step
        return final

    def _agree(self, failure: Exception | None, aside: Path, final: Path) -> None:
        failures = torch.tensor(int(failure is not None), device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            failures = self.accelerator.reduce(failures, "sum")
        if failures > 0:
            if self.accelerator.is_main_process:
                shutil.rmtree(aside, ignore_errors=True)
            reason = failure or "another process could not write"
            raise CheckpointError(f"Cannot write {final}: {reason}. Earlier checkpoints are untouched.") from failure

    def _optimizer_state(self) -> dict[str, Any]:
        if self.sharded:
            return get_optimizer_state_dict(self.model, self.optimizer, options=_WHOLE)
        return self.optimizer.state_dict()

    def _save_model(self, folder: Path, weights: dict[str, torch.Tensor] | None, averaged: bool = False) -> None:
        with ExitStack() as values:
            if self.masters is not None:
                values.enter_context(self.masters.full_precision())
            if averaged and self.average is not None:
                values.enter_context(self.average.swapped_in())
            self.model.save_pretrained(folder, state_dict=weights)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def save_final(self) -> None:
        """Puts the trained model into the output folder itself.

        It is the averaged one, if there is an average.
        """
        weights = self.accelerator.get_state_dict(self.model) if self.sharded else None
        if self.accelerator.is_main_process:
            self._save_model(self.folder, weights, averaged=True)
        self.accelerator.wait_for_everyone()

    def push_midway(self, step: int) -> None:
        """Begins to push the model as it is, averaged if there is an average, unless an upload is still under way.

        What is pushed is a copy: it is the one that is loaded, and rotation leaves it alone.
        """
        weights = self.accelerator.get_state_dict(self.model) if self.sharded else None
        if self.pusher is None or self.pusher.is_busy:
            return
        aside = checkpoint.aside_folder(self.folder / f"push-{step:06d}")
        try:
            self._save_model(aside, weights, averaged=True)
        except _WRITE_ERRORS as error:
            self.pusher.tell(error)
        else:
            self.pusher.push_aside(aside, f"Training in progress, step {step}")

    def push_final(self) -> None:
        """Pushes what lies in the output folder itself. The other processes have nothing to do with it, nor wait.

        Raises:
            PushError: it failed for good.
        """
        if self.pusher is not None:
            self.pusher.push(self.folder, "End of training")

    def save_best(self) -> None:
        """Puts the model, averaged if there is an average, into `best/`, in place of the one there."""
        weights = self.accelerator.get_state_dict(self.model) if self.sharded else None
        if self.accelerator.is_main_process:
            aside, final = checkpoint.aside_folder(self.folder / BEST), self.folder / BEST
            self._save_model(aside, weights, averaged=True)
            checkpoint.finish_checkpoint(aside, final)
        self.accelerator.wait_for_everyone()

    def load(self, path: Path) -> RunState:
        """Restores weights, their average, optimiser and, last of all, the random state.

        Raises:
            CheckpointError: the checkpoint belongs to another model or set-up.
        """
        if not (path / "training_state.json").is_file():
            raise CheckpointError(
                f"{path} has no training_state.json: it is a model, not a checkpoint of this engine."
            )
        state = RunState.load(path, self.model, self.accelerator.num_processes)
        ema.check_file(path, self.average)
        weights = load_file(path / "model.safetensors")
        optimizer_state = torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")
        if self.sharded:
            set_model_state_dict(self.model, weights, options=StateDictOptions(full_state_dict=True, strict=False))  # type: ignore[arg-type]
            set_optimizer_state_dict(self.model, self.optimizer, optimizer_state, options=_WHOLE)
        else:
            check_groups(self.optimizer, optimizer_state["param_groups"], path)
            if self.masters is not None:
                self.masters.load_state_dict(weights)
            else:
                self._load_weights(weights, path)
            self.optimizer.load_state_dict(optimizer_state)
        if self.average is not None:
            self.average.load(path)
        rng.load(path, self.accelerator.process_index)
        if path.resolve() == checkpoint.checkpoint_path(self.folder, state.step).resolve():
            self._saved = state.step
        return state

    def _load_weights(self, weights: dict[str, torch.Tensor], path: Path) -> None:
        # A tied weight is saved under one of its names only, and is filled through that one.
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        tensors = self.model.state_dict(keep_vars=True)
        filled = {id(tensor) for name, tensor in tensors.items() if name in weights}
        absent = sorted(name for name in missing if id(tensors[name]) not in filled)
        if unexpected or absent:
            raise CheckpointError(f"{path}: missing {absent}, unexpected {unexpected}.")
