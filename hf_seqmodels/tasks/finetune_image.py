"""Fine-tuning an image classifier by transformers' Trainer."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    TrainingArguments,
)

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.data.image_collators import ClassificationCollator
from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.images import ImageSplits, channel_statistics, load_images, subset
from hf_seqmodels.models.image_processing_vit import SeqViTImageProcessor
from hf_seqmodels.models.losses import image_classification_loss
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.patches import as_pair

from .arguments import parse
from .finetune_image_arguments import FinetuneImageArguments
from .image_arguments import AugmentationArguments, ImageArguments
from .image_trainer import EpochImages, ImageTrainer, freeze
from .model_cards import EMBEDDED_IMAGES, CardArguments, DataSource, TrainingCard
from .text_metrics import argmax_logits, classification_metrics
from .trainer_runs import DEFAULTS, checkpoint_to_resume, keep_parameter_names, push, train_and_evaluate

DESCRIPTION = "Fine-tunes an image classifier, from a checkpoint of any objective or from scratch."
EPILOG = """examples:
  an encoder that MAE has pretrained, on a folder with a sub-folder per class:
    python scripts/finetune_image.py --model_name_or_path out/mae --train_folder flowers --output_dir out/flowers \\
        --layer_decay 0.75 --flip 0.5 --mixup_alpha 0.8
"""
IMAGE_DEFAULTS = {
    **DEFAULTS,
    "output_dir": "out/finetune_image",
    "metric_for_best_model": "accuracy",
    "lr_scheduler_type": "cosine",
    "remove_unused_columns": False,
}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the program.

    Args:
        argv: its arguments; None is the process's own.

    Returns:
        The final metrics, named `eval_…` (and `test_…` with test images); also in `all_results.json`.

    Raises:
        SystemExit: bad arguments.
        PushError: the trained model is saved, but could not be pushed.
        ValueError: bad images, an output folder with something in it; the message names the culprit.
    """
    arguments, images, augmentation, training, card_arguments = parse(
        (FinetuneImageArguments, ImageArguments, AugmentationArguments, TrainingArguments, CardArguments),
        argv,
        DESCRIPTION,
        EPILOG,
        IMAGE_DEFAULTS,
    )
    checkpoint = checkpoint_to_resume(training)
    given = (arguments, images, augmentation)
    files = [images.train_folder, images.train_file]
    source = DataSource.of(files, images.dataset_name, images.dataset_config_name, *EMBEDDED_IMAGES)
    card = TrainingCard("finetune_image", given, source, card_arguments, str(training.output_dir), argv)
    transformers.set_seed(training.seed)
    config = _load_config(arguments, images)
    height, width = as_pair(config.image_size)
    shape = (config.num_channels, height, width)
    splits = load_images(images.source(), (height, width), shape[0], images.validation_share, training.seed)
    if splits.names is None:
        raise ValueError("The images have no labels: sort them into a sub-folder per class, or name --label_column.")
    model = load_model(arguments, config, splits.names)
    train = splits.datasets["train"]
    mean, std = _statistics(arguments, images, train, shape)
    if images.train_share < 1:
        train = subset(train, images.train_share, training.seed)
    # Trainer would smooth hard labels only; the collator smooths mixed ones, too.
    if training.label_smoothing_factor:
        augmentation.label_smoothing = training.label_smoothing_factor
        training.label_smoothing_factor = 0.0
    rule = augmentation.rule()
    collator = partial(
        ClassificationCollator,
        seed=training.seed,
        mean=mean,
        std=std,
        num_labels=len(splits.names),
    )
    trainer = ImageTrainer(
        model=model,
        args=training,
        train_dataset=EpochImages(ImageDataset(train, shape, training.seed, rule.mixing_probability)),
        eval_dataset=EpochImages(ImageDataset(splits.datasets["validation"], shape, training.seed)),
        data_collator=collator(rule),
        eval_collator=collator(None),
        processing_class=SeqViTImageProcessor(
            size={"height": height, "width": width}, num_channels=shape[0], image_mean=mean, image_std=std
        ),
        compute_metrics=classification_metrics,
        preprocess_logits_for_metrics=argmax_logits,
        compute_loss_func=None if isinstance(model, SeqViTPreTrainedModel) else exact_loss,
        layer_decay=arguments.layer_decay,
    )
    test = splits.datasets.get("test")
    results = train_and_evaluate(
        trainer, card, checkpoint, None if test is None else EpochImages(ImageDataset(test, shape, training.seed))
    )
    if trainer.is_world_process_zero():
        _print_results(results, splits, training)
    push(trainer)
    return results


def exact_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The loss of a classifier that is not ours, exact under accumulation and right for soft labels.

    transformers' own heads ignore `num_items_in_batch` and take soft labels for multi-label targets.
    """
    return image_classification_loss(outputs["logits"], labels, num_items_in_batch=num_items_in_batch)


def _load_config(arguments: FinetuneImageArguments, images: ImageArguments) -> Any:
    """The model's configuration, apart from its labels.

    Raises:
        ValueError: the checkpoint is for images of other channels.
    """
    overrides, checkpoint = arguments.config_overrides, arguments.model_name_or_path
    if checkpoint is not None:
        return images.checkpoint_config(AutoConfig.from_pretrained, checkpoint, overrides)
    return images.new_config(partial(AutoConfig.for_model, str(arguments.model_type)), overrides)


def load_model(arguments: FinetuneImageArguments, config: Any, names: Sequence[str]) -> PreTrainedModel:
    """A classifier of these classes, from a checkpoint of whatever objective or from scratch."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    if arguments.model_type is not None:
        model = AutoModelForImageClassification.from_config(config)
    else:
        # A head for other labels is replaced by a new one.
        model = AutoModelForImageClassification.from_pretrained(
            str(arguments.model_name_or_path), config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    if arguments.freeze_encoder:
        encoder = model.base_model_prefix
        freeze(model, [name for name, _ in model.named_children() if name != encoder])
    return keep_parameter_names(model)


def _statistics(
    arguments: FinetuneImageArguments, images: ImageArguments, train: Dataset, shape: tuple[int, int, int]
) -> tuple[list[float], list[float]]:
    """Each channel's mean and deviation: as given, or as the checkpoint was trained with, or else as measured."""
    folder = arguments.model_name_or_path
    if images.image_mean:
        return images.image_mean, images.image_std
    if folder is not None and (Path(folder) / "preprocessor_config.json").is_file():
        saved = AutoImageProcessor.from_pretrained(folder)
        return list(saved.image_mean), list(saved.image_std)
    return channel_statistics(train, shape)


def _print_results(results: dict[str, float], splits: ImageSplits, training: TrainingArguments) -> None:
    """A table with one row per split, and where everything is."""
    print(f"\n{'split':<12}{'images':>10}{'accuracy':>12}{'f1':>12}")
    for split, prefix in {"validation": "eval_", "test": "test_"}.items():
        if split in splits.datasets:
            numbers = "".join(f"{results[prefix + name]:>12.4f}" for name in ("accuracy", "f1"))
            print(f"{split:<12}{len(splits.datasets[split]):>10}{numbers}")
    labels = Counter(splits.datasets["validation"]["label"])
    share = labels.most_common(1)[0][1] / labels.total()
    print(f"Always guessing the most frequent label has accuracy {share:.4f} in validation.")
    print(f"Model, processor and all_results.json: {training.output_dir}")
