"""What every fine-tuning by transformers' Trainer shares: defaults, where to resume from, training to the results."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

# Our defaults for transformers' flags: evaluate after each epoch and end with the best model.
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "logging_steps": 50,
    "warmup_steps": 0.1,
    "dataloader_pin_memory": torch.cuda.is_available(),
}


def checkpoint_to_resume(training: TrainingArguments) -> str | None:
    """The checkpoint that the arguments ask for; `auto` is the newest in the output folder, if there is one.

    Raises:
        ValueError: the output folder has something in it that is not to be resumed.
    """
    folder = Path(str(training.output_dir))
    resume = training.resume_from_checkpoint
    if resume is None and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"output_dir={str(folder)!r} is not empty. Continue that run with --resume_from_checkpoint auto, "
            "or choose another folder."
        )
    if resume != "auto":
        return resume
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    print(f"Resuming from {checkpoint}." if checkpoint else f"No checkpoint in {folder} yet: starting anew.")
    return checkpoint


def keep_parameter_names(model: PreTrainedModel) -> PreTrainedModel:
    """Makes the model save its weights under the names that it has.

    transformers saves under the names a checkpoint had when loaded (LayerNorm.gamma), but Trainer restores the best
    model without translating them, so that those weights would silently stay the last epoch's.
    """
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)  # type: ignore[method-assign]
    return model


def train_and_evaluate(trainer: Trainer, checkpoint: str | None, test_dataset: Any = None) -> dict[str, float]:
    """Trains, evaluates, and leaves model, state and `all_results.json` in the output folder.

    Returns:
        The final metrics, named `eval_…`, and `test_…` with test data.
    """
    trainer.train(resume_from_checkpoint=checkpoint)
    results = trainer.evaluate()
    if test_dataset is not None:
        results.update(trainer.evaluate(test_dataset, metric_key_prefix="test"))
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("all", results, combined=False)
    return results
