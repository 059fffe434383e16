"""Runs of transformers' Trainer on the toys: arguments, trainers, what evaluation saw, and what checkpoints hold."""

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments
from transformers.trainer_utils import EvalPrediction

from hf_seqmodels.training.trainer import PretrainingTrainer
from tests.contracts.cases import IMAGES, TRANSLATING, Case
from tests.contracts.toys import Row

LENGTHS = (5, 3, 7, 1, 6, 2, 4, 8, 3, 5, 2, 6)
NUM_PATCHES = 6
RATE = 0.1  # of every dropout there is
# Logs hold what a clock has measured, too.
_TIMINGS = ("_runtime", "_per_second")


@contextlib.contextmanager
def nothing_old_collected() -> Iterator[None]:
    """Trainer collects garbage at its end: a third of a second among the objects of all these imports."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def rows_of(case: Case, count: int = len(LENGTHS)) -> list[Row]:
    """Rows of unequal lengths; images of one size, as Trainer joins only predictions that differ along dimension 1."""
    torch.manual_seed(3)
    return [case.row(NUM_PATCHES if case in IMAGES else length) for length in LENGTHS[:count]]


def dropping_model(case: Case, **overrides: Any) -> Any:
    """The toy in float32, with dropout everywhere: a run that depends on the random state."""
    return case.model(torch.float32, **dict.fromkeys(case.toy.rates, RATE), **overrides)


def arguments(case: Case, folder: Path, **changes: Any) -> TrainingArguments:
    """Quiet arguments for the CPU; translation models are evaluated by what they generate."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 1e-2,
        "max_steps": 4,
        "use_cpu": True,
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        **changes,
    }
    if case in TRANSLATING:
        return Seq2SeqTrainingArguments(
            str(folder), predict_with_generate=True, generation_max_length=6, generation_num_beams=2, **settings
        )
    return TrainingArguments(str(folder), **settings)


def trainer_of(
    case: Case, model: PreTrainedModel | Any, arguments: TrainingArguments, rows: list[Row] | Any, **changes: Any
) -> Trainer:
    """The Trainer that a user would take for this head."""
    trainer: type[Trainer] = Trainer
    if case in TRANSLATING:
        trainer = Seq2SeqTrainer
    elif "next_sentence_label" in case.head.targets:
        trainer = PretrainingTrainer
    settings = {"train_dataset": rows, "eval_dataset": rows[:5], "data_collator": case.collate, **changes}
    return trainer(model, arguments, **settings)


def earlier_is_better(shapes: list[Any]) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` that notes the shapes it was given; its score falls, so the best model is the first one."""

    def shape(values: Any) -> Any:
        return tuple(part.shape for part in values) if isinstance(values, tuple) else values.shape

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        shapes.append((shape(prediction.predictions), shape(prediction.label_ids)))
        return {"score": -float(len(shapes))}

    return compute_metrics


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Name -> weight, of what the checkpoint holds."""
    return load_file(checkpoint / "model.safetensors")


def contents(checkpoint: Path) -> dict[str, Any]:
    """Everything in a checkpoint that decides how training goes on, and its history, without what a clock measured."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    history = [{k: v for k, v in entry.items() if not k.endswith(_TIMINGS)} for entry in state["log_history"]]
    files = {
        name: torch.load(checkpoint / name, weights_only=False)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    }
    return {"weights": weights_in(checkpoint), "history": history, **files}


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, however nested."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, "shape"):  # numpy's, of its random state
        return bool((first == second).all())
    return bool(first == second)
