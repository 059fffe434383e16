"""What every fine-tuning by transformers' Trainer shares: defaults, where to resume from, training to the results."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from hf_seqmodels.training.pushing import HubRepository, Pusher

from .model_cards import TrainingCard

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
        ValueError: the output folder has something in it that is not to be resumed, or the repository that the model
            is to be pushed to cannot be.
    """
    folder = Path(str(training.output_dir))
    resume = training.resume_from_checkpoint
    if resume is None and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"output_dir={str(folder)!r} is not empty. Continue that run with --resume_from_checkpoint auto, "
            "or choose another folder."
        )
    if training.push_to_hub:
        HubRepository.of(training).check()
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


def train_and_evaluate(
    trainer: Trainer, card: TrainingCard, checkpoint: str | None, test_dataset: Any = None
) -> dict[str, float]:
    """Trains, evaluates, and leaves model, card, state and `all_results.json` in the output folder, for `push`.

    Returns:
        The final metrics, named `eval_…`, and `test_…` with test data.
    """
    if checkpoint is not None:
        card.begin(TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).global_step)
    if trainer.args.push_to_hub and trainer.is_world_process_zero():
        # What Trainer pushes while it trains are weights and configuration; the code that this names belongs to them.
        model: Any = trainer.model
        model.config.save_pretrained(trainer.args.output_dir)
    trainer.train(resume_from_checkpoint=checkpoint)
    results = trainer.evaluate()
    if test_dataset is not None:
        results.update(trainer.evaluate(test_dataset, metric_key_prefix="test"))
    trainer.save_model(_internal_call=True)  # else it would push, before all is saved and without trying again
    trainer.save_state()
    trainer.save_metrics("all", results, combined=False)
    card.after_trainer(trainer, results)
    return results


def push(trainer: Trainer) -> None:
    """Pushes what lies in the output folder, if the arguments ask for it; instead of `Trainer.push_to_hub`, which does
    not try again when the network is down.

    Raises:
        PushError: it failed for good; the message says where the model lies and how to push it.
    """
    if trainer.args.push_to_hub and trainer.is_world_process_zero():
        Pusher(HubRepository.of(trainer.args)).push(Path(str(trainer.args.output_dir)), "End of training")
