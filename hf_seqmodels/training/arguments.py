"""Arguments of the engine. Names are those of transformers' TrainingArguments where it has one."""

from dataclasses import dataclass, field
from typing import Any

from hf_seqmodels.training.optimizers import OPTIMIZERS
from hf_seqmodels.training.precision import PRECISIONS
from hf_seqmodels.training.pushing import HUB_STRATEGIES
from hf_seqmodels.training.schedules import SCHEDULES

# `base_learning_rate` is that of a batch of so many examples.
REFERENCE_BATCH = 256


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class EngineArguments:
    """Training

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    output_dir: str = field(metadata={"help": "Folder for checkpoints and the trained model; empty, or resumed from."})
    seed: int = _option(42, "Names every random choice: weights, data order, masks, dropout.")
    max_steps: int = _option(1000, "Optimiser steps in all.")
    per_device_train_batch_size: int = _option(16, "Examples of a micro-batch on each process.")
    per_device_eval_batch_size: int = _option(32, "Examples of an evaluation batch on each process.")
    gradient_accumulation_steps: int = _option(1, "Micro-batches of an optimiser step on each process.")
    learning_rate: float = _option(1e-3, "Peak learning rate.")
    base_learning_rate: float | None = _option(
        None,
        "Learning rate for a batch of 256; the peak is base × total batch / 256 (Goyal et al. 2017), in place of "
        "learning_rate. Total batch: per_device_train_batch_size × gradient_accumulation_steps × processes.",
    )
    layer_decay: float = _option(
        1.0, "Each layer learns at this factor of the rate of the layer above it (Clark et al. 2020; Bao et al. 2022)."
    )
    lr_scheduler_type: str = _option("linear", f"Schedule after the warm-up: {', '.join(SCHEDULES)}.")
    warmup_steps: float = _option(0.1, "Warm-up: steps, or a share of max_steps if below 1.")
    optim: str = _option("adamw", f"Optimiser: {', '.join(OPTIMIZERS)} (lamb needs the extra [lamb]).")
    weight_decay: float = _option(0.01, "Decay of all weights but biases, norms and embedding tables.")
    adam_beta1: float = _option(0.9, "Decay of the first moment.")
    adam_beta2: float = _option(0.999, "Decay of the second moment.")
    adam_epsilon: float = _option(1e-6, "Added to the root of the second moment.")
    max_grad_norm: float = _option(1.0, "Gradients are scaled down to this norm; 0 leaves them.")
    ema_decay: float = _option(
        0.0,
        "Evaluate and keep a moving average of the weights with this decay (Polyak & Juditsky 1992), warmed up as "
        "min(ema_decay, (1 + step) / (10 + step)); 0 = none.",
    )
    mixed_precision: str = _option(
        "no",
        "no = float32; bf16 = accelerate's autocast; bf16_master = bfloat16 weights with float32 masters; "
        "auto = bf16 where the hardware multiplies it, else float32.",
    )
    gradient_checkpointing: bool = _option(
        False, "Recompute activations in the backward pass: less memory, more time."
    )
    dataloader_num_workers: int = _option(
        0, "Processes that prepare batches; 0 prepares them in the training process."
    )
    logging_steps: int = _option(10, "Steps between two entries of the log.")
    eval_steps: int = _option(0, "Steps between two evaluations; 0 evaluates at the end only.")
    save_steps: int = _option(500, "Steps between two checkpoints; 0 saves at the end only.")
    save_total_limit: int | None = _option(2, "Checkpoints to keep.")
    resume_from_checkpoint: str | None = _option(
        None, "auto = the newest valid checkpoint in output_dir, if there is one; or the path of one."
    )
    report_to: list[str] = field(
        default_factory=list, metadata={"help": "Trackers of accelerate, e.g. tensorboard (its package installed)."}
    )
    disable_tqdm: bool = _option(False, "No progress bar.")
    push_to_hub: bool = _option(False, "Push the trained model to the Hub.")
    hub_model_id: str | None = _option(None, "Repository for push_to_hub; by default the name of output_dir.")
    hub_private_repo: bool | None = _option(
        None, "Whether that repository is private, if it is new; by default as its owner's settings say."
    )
    hub_strategy: str = _option(
        "end", "When to push: end = the trained model; every_save = the model of each checkpoint, too."
    )

    def __post_init__(self) -> None:
        for name in (
            "max_steps",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "max_grad_norm", "dataloader_num_workers", "eval_steps", "save_steps"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate", "adam_epsilon"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require(
            "base_learning_rate", self.base_learning_rate is None or self.base_learning_rate > 0, "above 0, or none"
        )
        self._require("layer_decay", 0 < self.layer_decay <= 1, "in (0, 1]")
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, allowed in (
            ("lr_scheduler_type", SCHEDULES),
            ("optim", OPTIMIZERS),
            ("mixed_precision", PRECISIONS),
            ("hub_strategy", HUB_STRATEGIES),
        ):
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        self._require("warmup_steps", self.warmup_steps >= 0, "at least 0")
        self._require(
            "save_total_limit", self.save_total_limit is None or self.save_total_limit >= 1, "at least 1, or none"
        )

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} must be {allowed}.")

    @property
    def num_warmup_steps(self) -> int:
        """The warm-up in steps."""
        return round(self.warmup_steps * self.max_steps) if self.warmup_steps < 1 else round(self.warmup_steps)

    def total_batch_size(self, num_processes: int) -> int:
        """Examples of an optimiser step over all processes."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * num_processes

    def peak_learning_rate(self, num_processes: int) -> float:
        """`base_learning_rate` scaled to the total batch (Goyal et al. 2017, section 2.1), or else `learning_rate`."""
        if self.base_learning_rate is None:
            return self.learning_rate
        return self.base_learning_rate * self.total_batch_size(num_processes) / REFERENCE_BATCH
