"""The training loop that every script of this package uses, on top of accelerate."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin, parse_flag_from_env
from transformers import PreTrainedModel

from hf_seqmodels.data.sampling import BatchStream, Cursor, ResumableLoader
from hf_seqmodels.training import rng
from hf_seqmodels.training.arguments import REFERENCE_BATCH, EngineArguments
from hf_seqmodels.training.carried import CarriedStates
from hf_seqmodels.training.early_stopping import EarlyStopping
from hf_seqmodels.training.ema import AveragedWeights
from hf_seqmodels.training.errors import NonFiniteLossError
from hf_seqmodels.training.flops import measure_gemm_rate
from hf_seqmodels.training.optimizers import (
    build_optimizer,
    learning_rate_scales,
    parameter_groups,
    set_learning_rate,
    undecayed_names,
)
from hf_seqmodels.training.phases import Phase, check_phases, check_position, phase_end
from hf_seqmodels.training.precision import MasterWeights, choose_precision
from hf_seqmodels.training.process_groups import leave_group
from hf_seqmodels.training.reporting import Reporter
from hf_seqmodels.training.schedules import build_schedule
from hf_seqmodels.training.signals import StopSignals
from hf_seqmodels.training.state import RunState
from hf_seqmodels.training.storage import RunStorage
from hf_seqmodels.training.units import count_tokens

Batch = dict[str, Any]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Args:
        step: optimiser steps taken in all.
        history: log entries.
        metrics: of the last evaluation.
        stopped_by: the signal that ended the run early, or `None`.
    """

    step: int
    history: list[dict[str, Any]]
    metrics: dict[str, float]
    stopped_by: str | None


class Engine:
    """Trains a model through the phases, exactly: accumulation, processes and interruptions leave no trace.

    The loss of a step is its sum over micro-batches and processes, each divided by the items of the whole step, so the
    model must take the keyword arguments that `count_items` names and divide its losses by them.

    Args:
        model: as built, on the CPU.
        args: how to train.
        phases: what to train on; their steps add up to `args.max_steps`.
        count_items: batch -> the loss denominators by keyword argument, e.g. `{"num_items_in_batch": 57}`.
        evaluate: engine -> metrics; called with the model in eval mode, its weights averaged if `args.ema_decay` asks
            for it, and the random state kept.
        resume_from: a checkpoint of `open_run_folder`.
        processing_class: tokenizer or processor, saved beside the model.
        unit: what the speed is counted in: the log has `<unit>_per_second`.
        count_units: batch -> how many of them it has.
        flops_per_unit: FLOPs of forward and backward, for the log.
        before_step: called with the number of each optimiser step (1, 2, …) before it, to set what changes as training
            goes.
        early_stopping: which evaluation's model is kept in `best/`, and when training ends early.
        finish: engine -> nothing; called at the end, the model saved, while the processes still talk to each other;
            what it writes into the output folder is pushed with the model.

    Raises:
        ValueError: the phases do not add up, or the precision does not go with the set-up.
        CheckpointError: `resume_from` belongs to another model or set-up.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: EngineArguments,
        phases: list[Phase],
        *,
        count_items: Callable[[Batch], dict[str, int]],
        evaluate: Callable[["Engine"], dict[str, float]] | None = None,
        resume_from: Path | None = None,
        processing_class: Any = None,
        unit: str = "tokens",
        count_units: Callable[[Batch], int] = count_tokens,
        flops_per_unit: float | None = None,
        before_step: Callable[[int], None] | None = None,
        early_stopping: EarlyStopping | None = None,
        finish: Callable[["Engine"], None] | None = None,
    ):
        check_phases(phases, args.max_steps)
        for phase in phases:
            self._carried_in(phase, args).check_model(model)
        self.args, self.phases = args, phases
        self.count_items, self.evaluate = count_items, evaluate
        self.before_step, self.early_stopping, self.finish = before_step, early_stopping, finish
        self.unit, self.count_units, self.flops_per_unit = unit, count_units, flops_per_unit
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
        self.precision = choose_precision(args.mixed_precision, torch.device("cpu" if on_cpu else "cuda"))
        self.accelerator = Accelerator(
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            log_with=list(args.report_to) or None,
            project_dir=args.output_dir,
            # Losses are divided here already; `accelerate launch --gradient_accumulation_steps` would divide again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        self._check_setup()
        if args.gradient_checkpointing:
            model.activation_checkpointing_enable()
        undecayed = undecayed_names(model)
        scales = learning_rate_scales(model, args.layer_decay) if args.layer_decay != 1 else None
        self.masters: MasterWeights | None = None
        if self.precision == "bf16_master":
            model.to(self.accelerator.device)
            self.masters = MasterWeights(model)
        self.learning_rate = args.peak_learning_rate(self.accelerator.num_processes)
        optimizer = build_optimizer(
            args.optim,
            parameter_groups((self.masters or model).named_parameters(), undecayed, args.weight_decay, scales),
            self.learning_rate,
            (args.adam_beta1, args.adam_beta2),
            args.adam_epsilon,
        )
        self.wrapped: Any
        if self.masters is None:
            self.wrapped, prepared = self.accelerator.prepare(model, optimizer)
            optimizer = prepared.optimizer
        else:
            self.wrapped = self.accelerator.prepare(model)
        self.optimizer: torch.optim.Optimizer = optimizer
        self.model: PreTrainedModel = self.accelerator.unwrap_model(self.wrapped)
        self.schedule = build_schedule(args.lr_scheduler_type, args.num_warmup_steps, args.max_steps)
        self.average: AveragedWeights | None = None
        if args.ema_decay:
            trained = (self.masters or self.model).named_parameters()
            self.average = AveragedWeights(self.model, trained, args.ema_decay)
        self.storage = RunStorage(
            self.accelerator, args, self.model, self.optimizer, self.masters, self.average, processing_class
        )
        self.metrics: dict[str, float] = {}
        # Dropout differs between processes; the state is the same however much was drawn before.
        torch.manual_seed(args.seed + self.accelerator.process_index)
        self.state = RunState() if resume_from is None else self.storage.load(resume_from)
        check_position(phases, self.state.phase, self.state.step)
        self.carried = self._carried_in(phases[self.state.phase], args)
        if resume_from is not None:
            self.carried.load(resume_from, self.accelerator.process_index, self.accelerator.device)
        self._enter_due_phase()

    def _check_setup(self) -> None:
        on_cpu = self.accelerator.device.type == "cpu"
        if on_cpu and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true"):
            raise ValueError("accelerate ignores FSDP on CPUs and would run DDP: launch without --use_fsdp.")
        if self.accelerator.distributed_type != DistributedType.FSDP:
            return
        if self.precision == "bf16_master":
            raise ValueError(
                "mixed_precision='bf16_master' does not go with FSDP, which keeps masters itself: use bf16."
            )
        if self.args.ema_decay:
            raise ValueError(f"ema_decay={self.args.ema_decay} does not go with FSDP, which shards weights: use 0.")

    @staticmethod
    def _carried_in(phase: Phase, args: EngineArguments) -> CarriedStates:
        return CarriedStates(phase.carries, args.gradient_accumulation_steps, phase.batch_size)

    def _enter_due_phase(self) -> None:
        if self.state.step == phase_end(self.phases, self.state.phase) and self.state.phase + 1 < len(self.phases):
            # The next phase goes on to the next epoch, so it meets the data in a new order.
            self.state.phase += 1
            self.state.cursor = Cursor(self.state.cursor.epoch + 1)
            self.carried = self._carried_in(self.phases[self.state.phase], self.args)

    def train(self) -> TrainResult:
        """Trains from where the run stands to its end, or until SIGTERM or SIGINT.

        Raises:
            NonFiniteLossError: the loss or the gradient is NaN or infinite; the last checkpoint is kept.
            CheckpointError: a checkpoint could not be written; earlier ones are kept.
            PushError: the trained model is saved, but could not be pushed.
        """
        if self.args.report_to:
            self.accelerator.init_trackers("hf_seqmodels", config=_plain(vars(self.args)))
        self.reporter = Reporter(
            self.accelerator,
            self.args.max_steps,
            self.state.step,
            self.args.disable_tqdm,
            self.unit,
            self.flops_per_unit,
            self._gemm_rate(),
        )
        if self.args.base_learning_rate is not None:
            self.reporter.say(
                f"Peak learning rate {self.learning_rate:.4g} = base_learning_rate {self.args.base_learning_rate:g} × "
                f"batch {self.args.total_batch_size(self.accelerator.num_processes)} / {REFERENCE_BATCH}."
            )
        stopped_by = None
        with StopSignals() as signals:
            while self.state.step < self.args.max_steps and stopped_by is None and not self._is_over():
                stopped_by = self._run_phase(signals)
        if stopped_by is None:
            self._finish()
        self.reporter.close()
        leave_group(self.accelerator)
        if stopped_by is None:
            # Last of all: however long it takes, no process waits for another.
            self.storage.push_final()
        return TrainResult(self.state.step, self.state.history, self.metrics, stopped_by)

    def _gemm_rate(self) -> float | None:
        if self.flops_per_unit is None:
            return None
        dtype = torch.float32 if self.precision == "no" else torch.bfloat16
        return measure_gemm_rate(dtype, self.accelerator.device) * self.accelerator.num_processes

    def _run_phase(self, signals: StopSignals) -> str | None:
        """The rest of the current phase; the name of the signal that ended it early."""
        phase = self.phases[self.state.phase]
        end = phase_end(self.phases, self.state.phase)
        shuffle = phase.carries is None
        stream = BatchStream(
            phase.dataset, self.args.seed, phase.batch_size, phase.token_budget, shuffle, phase.bucket_window
        )
        loader = ResumableLoader(
            stream,
            phase.collate,
            self.state.cursor,
            self.accelerator.num_processes,
            self.accelerator.process_index,
            self.args.dataloader_num_workers,
        )
        batches = iter(loader)
        self.model.train()
        while self.state.step < end and not self._is_over():
            stop = self._step(batches, signals, phase.name)
            self._enter_due_phase()
            self._after_step()
            if stop and self.state.step < self.args.max_steps and not self._is_over():
                path = self.storage.save_checkpoint(self.state, self.carried)
                name = signals.received.name if signals.received is not None else "a signal to another process"
                self.reporter.say(
                    f"Stopped by {name} after step {self.state.step}; saved {path}. "
                    "Continue with --resume_from_checkpoint auto."
                )
                return name
        return None

    def _is_over(self) -> bool:
        return self.early_stopping is not None and self.early_stopping.is_over(self.state.history)

    def _step(self, batches: Iterator[tuple[Batch, Cursor]], signals: StopSignals, phase: str) -> bool:
        """One optimiser step; whether some process was asked to stop."""
        if self.before_step is not None:
            self.before_step(self.state.step + 1)
        micro_batches, units, totals = [], 0, dict[str, int]()
        for _ in range(self.args.gradient_accumulation_steps):
            batch, self.state.cursor = next(batches)
            micro_batches.append(batch)
            units += self.count_units(batch)
            for name, count in self.count_items(batch).items():
                totals[name] = totals.get(name, 0) + count
        names = list(totals)
        units, *counts = self._sum([units, *totals.values()])
        losses = self._backward(micro_batches, dict(zip(names, counts)))
        # Asked as late as the processes still talk to each other, so that a signal ends the step it falls in.
        stops, loss, *parts = self._sum([int(signals.received is not None), *losses.values()])
        norm = self._clip()
        if not (torch.isfinite(torch.tensor(loss)) and torch.isfinite(norm)):
            raise NonFiniteLossError(
                f"Step {self.state.step + 1} (phase {phase}): loss {loss}, gradient norm {norm.item()}. Nothing was "
                f"changed by it; the last checkpoint in {self.args.output_dir} is good. A lower learning_rate, a "
                "longer warm-up or a lower max_grad_norm may help."
            )
        rate = self.learning_rate * self.schedule(self.state.step + 1)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters is not None:
            self.masters.publish()
        self.state.step += 1
        if self.average is not None:
            self.average.update(self.state.step)
        self._note({**dict(zip(losses, [loss, *parts])), "grad_norm": norm.item()})
        self.reporter.advance(int(units))
        if self.state.step % self.args.logging_steps == 0:
            self._log(rate)
        return stops > 0

    def _backward(self, micro_batches: list[Batch], totals: dict[str, int]) -> dict[str, torch.Tensor]:
        """Accumulates gradients; this process's share of the step's losses."""
        device, losses = self.accelerator.device, dict[str, torch.Tensor]()
        for number, batch in enumerate(micro_batches):
            batch, past = self.carried.split(number, batch)
            batch = {name: v.to(device, non_blocking=True) for name, v in batch.items()}
            last = number + 1 == len(micro_batches)
            # Masters take each micro-batch's gradient, so each must be synchronised; else the last is enough.
            waits = not last and self.masters is None
            synchronised = self.accelerator.no_sync(self.wrapped) if waits else nullcontext()
            with synchronised:
                outputs = self.wrapped(**batch, **past, **totals)
                # DDP averages gradients over processes, while each loss is already a share of the whole step's.
                self.accelerator.backward(outputs.loss * self.accelerator.num_processes)
            self.carried.keep(number, outputs)
            if self.masters is not None:
                self.masters.accumulate()
            for name, value in outputs.items():
                if name == "loss" or name.endswith("_loss"):
                    losses[name] = losses.get(name, 0.0) + torch.as_tensor(value).detach()
        return losses

    def _sum(self, values: list[Any]) -> list[Any]:
        """Sums over processes, in float64, which holds counts and losses exactly enough."""
        total = torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values])
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.accelerator.device), "sum").cpu()
        return total.tolist()

    def _clip(self) -> torch.Tensor:
        limit = self.args.max_grad_norm or float("inf")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.accelerator.distributed_type == DistributedType.FSDP:
            return self.accelerator.clip_grad_norm_(parameters, limit)
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _note(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.state.window[name] = self.state.window.get(name, 0.0) + value
        self.state.window_steps += 1

    def _log(self, rate: float) -> None:
        means = {name: total / self.state.window_steps for name, total in self.state.window.items()}
        figures = {**means, "learning_rate": rate}
        self.state.window, self.state.window_steps = {}, 0
        self.state.history.append({"step": self.state.step, **figures})
        self.reporter.log(self.state.step, figures)

    def _after_step(self) -> None:
        step, last = self.state.step, self.state.step == self.args.max_steps
        if self.evaluate is not None and not last and self.args.eval_steps and step % self.args.eval_steps == 0:
            self._evaluate()
        if not last and self.args.save_steps and step % self.args.save_steps == 0:
            self.storage.save_checkpoint(self.state, self.carried)
            if self.args.push_to_hub and self.args.hub_strategy == "every_save":
                self.storage.push_midway(step)
            self.reporter.restart_clock()

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        self.model.eval()
        averaged = self.average.swapped_in() if self.average is not None else nullcontext()
        with rng.preserved(), torch.no_grad(), averaged:
            self.metrics = self.evaluate(self)
        self.model.train()
        self.state.history.append(
            {"step": self.state.step, **{f"eval_{name}": value for name, value in self.metrics.items()}}
        )
        if self.early_stopping is not None and self.early_stopping.since_best(self.state.history) == 0:
            self.storage.save_best()
        self.reporter.log_evaluation(self.state.step, self.metrics)
        self.reporter.restart_clock()

    def _finish(self) -> None:
        if self.evaluate is not None:
            # A run that was killed after its last checkpoint has evaluated already.
            last = self.state.history[-1] if self.state.history else {}
            self.metrics = {name[5:]: value for name, value in last.items() if name.startswith("eval_")}
            if not self.metrics or last["step"] != self.state.step:
                self._evaluate()
        self.storage.save_checkpoint(self.state, self.carried)
        self.storage.save_final()
        if self.finish is not None:
            self.finish(self)
        self.reporter.say(f"Model, checkpoints and training_state.json are in {Path(self.args.output_dir).resolve()}.")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """What trackers take as hyperparameters: numbers and text."""
    return {name: v if isinstance(v, (int, float, str, bool)) else str(v) for name, v in values.items()}
