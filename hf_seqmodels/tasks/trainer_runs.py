"""What fine-tuning by transformers' Trainer needs: where to resume from, weights that keep their names."""

from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


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
