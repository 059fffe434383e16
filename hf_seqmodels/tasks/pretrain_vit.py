"""ViT's training on images: classification, MAE, SimMIM or the ViT paper's patch prediction, through one engine."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset

from hf_seqmodels.data.augmentation import AugmentationRule
from hf_seqmodels.data.image_collators import ClassificationCollator, MaskedImageCollator, PatchPredictionCollator
from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.images import channel_statistics, load_images, subset
from hf_seqmodels.data.random import Key
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.image_processing_vit import SeqViTImageProcessor
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction
from hf_seqmodels.models.patches import as_pair
from hf_seqmodels.tasks.image_arguments import AugmentationArguments, ImageArguments
from hf_seqmodels.tasks.image_features import encode_images, judge_features
from hf_seqmodels.tasks.model_cards import EMBEDDED_IMAGES, CardArguments, DataSource, TrainingCard
from hf_seqmodels.tasks.pretrain_vit_arguments import ViTModelArguments, ViTObjectiveArguments
from hf_seqmodels.tasks.vit_evaluation import count_items, evaluate_vit
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder
from hf_seqmodels.training.flops import count_flops
from hf_seqmodels.training.units import count_images

MODELS: dict[str, type[SeqViTPreTrainedModel]] = {
    "classification": SeqViTForImageClassification,
    "mae": SeqViTForPreTraining,
    "simmim": SeqViTForMaskedImageModeling,
    "patch_prediction": SeqViTForMaskedPatchPrediction,
}
_FLOPS_EXAMPLES = 4

Collate = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Images:
    """Prepared splits, and what the model must know of them.

    Args:
        train, evaluation: pixels and labels.
        names: of the classes; `None` without labels.
        shape: channels, height, width.
        mean, std: of each channel, in [0, 1].
    """

    train: Dataset
    evaluation: Dataset
    names: list[str] | None
    shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]

    def processor(self) -> SeqViTImageProcessor:
        """What prepares images for the trained model."""
        channels, height, width = self.shape
        return SeqViTImageProcessor(
            size={"height": height, "width": width},
            num_channels=channels,
            image_mean=self.mean,
            image_std=self.std,
        )


def main(
    images: ImageArguments,
    model_args: ViTModelArguments,
    objective: ViTObjectiveArguments,
    augmentation: AugmentationArguments,
    args: EngineArguments,
    card_args: CardArguments | None = None,
) -> TrainResult:
    """Trains SeqViT and leaves model, processor, card, checkpoints and `all_results.json` in `args.output_dir`.

    Raises:
        ValueError: an argument, an image or a checkpoint that cannot be used; before any training.
    """
    resume_from = open_run_folder(args)
    given = (images, model_args, objective, augmentation, args)
    files = [images.train_folder, images.train_file]
    source = DataSource.of(files, images.dataset_name, images.dataset_config_name, *EMBEDDED_IMAGES)
    card = TrainingCard("pretrain_vit", given, source, card_args, args.output_dir)
    state = PartialState()
    rule = augmentation.rule()
    config = model_config(images, model_args)
    with state.main_process_first():  # the others find the prepared images on the disk
        data = prepare_images(images, config, args.seed)
    if objective.objective == "classification" and data.names is None:
        raise ValueError("objective='classification' needs labels, but the images have none: sort them into folders.")
    model = build_model(model_args, objective, config, data, args.seed)
    train = ImageDataset(data.train, data.shape, args.seed, mixing_probability=rule.mixing_probability)
    collate = _collator(objective, config, data, rule, args.seed)
    if objective.num_train_epochs is not None:
        examples = args.total_batch_size(state.num_processes)
        args.max_steps = max(1, math.ceil(objective.num_train_epochs * len(train) / examples))

    def finish(engine: Engine) -> None:
        if engine.accelerator.is_main_process:
            results = report(objective, data, engine.state.step, engine.metrics, args)
            card.write(engine.model, {"validation": results}, engine.state.step)

    engine = Engine(
        model,
        args,
        [Phase(objective.objective, args.max_steps, train, collate, args.per_device_train_batch_size)],
        count_items=count_items,
        evaluate=functools.partial(
            evaluate_vit,
            dataset=ImageDataset(data.evaluation, data.shape, args.seed),
            collate=_collator(objective, config, data, None, args.seed),
            batch_size=args.per_device_eval_batch_size,
            max_batches=objective.max_eval_batches,
        ),
        resume_from=resume_from,
        processing_class=data.processor(),
        unit="images",
        count_units=count_images,
        flops_per_unit=_flops_per_image(model, train, collate),
        finish=finish,
    )
    if state.is_main_process:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        where = f"resuming from {resume_from}" if resume_from else f"new run in {args.output_dir}"
        print(
            f"{type(model).__name__}, {parameters / 1e6:.2f}M parameters, {len(train)} images, {args.max_steps} steps "
            f"({args.max_steps * args.total_batch_size(state.num_processes) / len(train):.1f} epochs); {where}"
        )
    card.begin(engine.state.step)
    return engine.train()


def model_config(images: ImageArguments, model_args: ViTModelArguments) -> SeqViTConfig:
    """The model's configuration, apart from its labels.

    Raises:
        ValueError: sizes that do not go together, or a checkpoint for images of other channels.
    """
    overrides, checkpoint = model_args.config_overrides, model_args.model_name_or_path
    if checkpoint is not None:
        return images.checkpoint_config(SeqViTConfig.from_pretrained, checkpoint, overrides)
    return images.new_config(functools.partial(SeqViTConfig.preset, model_args.model_size), overrides)


def prepare_images(images: ImageArguments, config: SeqViTConfig, seed: int) -> Images:
    """Reads, decodes and resizes the images, once; measures their mean and standard deviation, if not given.

    Raises:
        ValueError: no images, a corrupt one, or labels that are missing.
    """
    height, width = as_pair(config.image_size)
    splits = load_images(images.source(), (height, width), config.num_channels, images.validation_share, seed)
    train = splits.datasets["train"]
    shape = (config.num_channels, height, width)
    if images.image_mean:
        mean, std = images.image_mean, images.image_std
    else:
        mean, std = channel_statistics(train, shape)
    if images.train_share < 1:
        train = subset(train, images.train_share, seed)
    return Images(train, splits.datasets["validation"], splits.names, shape, list(mean), list(std))


def build_model(
    model_args: ViTModelArguments, objective: ViTObjectiveArguments, config: SeqViTConfig, data: Images, seed: int
) -> SeqViTPreTrainedModel:
    """A new model, or one that goes on from a checkpoint of any objective."""
    torch.manual_seed(seed)
    names = data.names or []
    if objective.objective == "classification":
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    elif objective.mask_ratio is not None:
        config.mask_ratio = objective.mask_ratio
    if model_args.attn_implementation is not None:
        config._attn_implementation = model_args.attn_implementation
    model_class = MODELS[objective.objective]
    if model_args.model_name_or_path is None:
        return model_class(config)
    # A head for other labels is replaced by a new one.
    return model_class.from_pretrained(
        model_args.model_name_or_path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
    )


def _collator(
    objective: ViTObjectiveArguments, config: SeqViTConfig, data: Images, rule: AugmentationRule | None, seed: int
) -> Collate:
    if objective.objective == "classification":
        return ClassificationCollator(rule, seed, data.mean, data.std, len(data.names or []))
    patch_size = as_pair(config.patch_size)
    if objective.objective == "patch_prediction":
        return PatchPredictionCollator(
            rule, seed, data.mean, data.std, patch_size, objective.masked_share, config.colour_bits
        )
    return MaskedImageCollator(
        rule, seed, data.mean, data.std, patch_size, objective.masked_share, objective.mask_patch_size
    )


def _flops_per_image(model: SeqViTPreTrainedModel, dataset: ImageDataset, collate: Collate) -> float:
    examples = [dataset[Key(0, 0, index)] for index in range(min(_FLOPS_EXAMPLES, len(dataset)))]
    return count_flops(model, collate(examples)) / len(examples)


def report(
    objective: ViTObjectiveArguments, data: Images, step: int, metrics: dict[str, float], args: EngineArguments
) -> dict[str, float]:
    """Judges the features of a saved model trained without labels, prints results, writes `all_results.json`."""
    results = dict(metrics)
    if objective.objective != "classification" and data.names is not None and objective.feature_examples:
        plain = ClassificationCollator(None, args.seed, data.mean, data.std, len(data.names))
        model = MODELS[objective.objective].from_pretrained(args.output_dir)
        sides = [
            encode_images(
                model,
                ImageDataset(split, data.shape, args.seed),
                plain,
                args.per_device_eval_batch_size,
                objective.feature_examples,
            )
            for split in (data.train, data.evaluation)
        ]
        results.update(judge_features(*sides))
    path = Path(args.output_dir) / "all_results.json"
    path.write_text(json.dumps({"step": step, **results}, indent=1), encoding="utf-8")
    print("\n".join([f"  {name:<18}{value:.4f}" for name, value in results.items()]))
    print(f"Results are in {path.resolve()}.")
    return results
