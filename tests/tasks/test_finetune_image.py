"""Fine-tuning of image classifiers as users start it: from every kind of checkpoint, resumed, and with mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import AutoModelForImageClassification, TrainingArguments, ViTConfig, ViTForImageClassification

from hf_seqmodels.data.image_collators import ClassificationCollator
from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.image_sources import ImageSource
from hf_seqmodels.data.images import load_images
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.tasks.finetune_image import main
from hf_seqmodels.tasks.image_arguments import AugmentationArguments
from hf_seqmodels.tasks.image_trainer import EpochImages, ImageTrainer, freeze

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
}
DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
QUICK = ["--max_steps", "4", "--per_device_train_batch_size", "8", "--eval_strategy", "steps", "--eval_steps", "2"]
QUICK += [
    "--save_strategy",
    "steps",
    "--save_steps",
    "2",
    "--use_cpu",
    "--disable_tqdm",
    "true",
    "--report_to",
    "none",
]
AUGMENTED = ["--flip", "0.5", "--crop_padding", "1", "--mixup_alpha", "0.8", "--label_smoothing_factor", "0.1"]


def _run(out: Path, *flags: str) -> dict[str, float]:
    return main([*QUICK, "--output_dir", str(out), "--cache_dir", str(out.parent / "cache"), *flags])


def test_from_scratch_to_a_pipeline(tmp_path: Path) -> None:
    flags = ["--model_type", "seq_vit", "--config_overrides", json.dumps({**SIZES, "pooling": "mean"}), *AUGMENTED]
    results = _run(tmp_path / "out", *flags)
    assert 0 <= results["eval_accuracy"] <= 1
    assert json.loads((tmp_path / "out/all_results.json").read_text())["eval_accuracy"] == results["eval_accuracy"]
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert isinstance(model, SeqViTForImageClassification) and model.config.num_labels == 10
    assert (tmp_path / "out/preprocessor_config.json").is_file()


def test_from_an_autoencoder_with_layer_decay_at_another_size(tmp_path: Path) -> None:
    SeqViTForPreTraining(SeqViTConfig(**SIZES, **DECODER)).save_pretrained(tmp_path / "mae")
    flags = ["--model_name_or_path", str(tmp_path / "mae"), "--image_size", "12", "8", "--layer_decay", "0.7"]
    _run(tmp_path / "out", *flags)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.image_size == [12, 8] and model.vit.embeddings.position_embeddings.shape[1] == 24


def test_a_linear_probe_leaves_the_encoder_alone(tmp_path: Path) -> None:
    pretrained = SeqViTForPreTraining(SeqViTConfig(**SIZES, **DECODER))
    pretrained.save_pretrained(tmp_path / "mae")
    _run(tmp_path / "out", "--model_name_or_path", str(tmp_path / "mae"), "--freeze_encoder")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    for name, weight in pretrained.vit.layers.state_dict().items():
        assert torch.equal(model.vit.layers.state_dict()[name], weight)


def test_a_model_that_is_not_ours(tmp_path: Path) -> None:
    flags = ["--model_type", "vit", "--config_overrides", json.dumps(SIZES), *AUGMENTED]
    flags += ["--gradient_accumulation_steps", "2"]
    _run(tmp_path / "out", *flags)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert isinstance(model, ViTForImageClassification)
    # transformers' own loss would have written multi_label_classification here
    assert model.config.problem_type is None


def test_resumed_as_if_never_stopped(tmp_path: Path) -> None:
    SeqViTForImageClassification(SeqViTConfig(**SIZES, num_labels=10, hidden_dropout_prob=0.1)).save_pretrained(
        tmp_path / "model"
    )
    flags = ["--model_name_or_path", str(tmp_path / "model"), *AUGMENTED, "--dataloader_num_workers", "2"]
    flags += ["--no_load_best_model_at_end", "--save_total_limit", "5", "--train_share", "0.02"]
    _run(tmp_path / "whole", *flags)
    _run(tmp_path / "broken", *flags)
    for name in ("model.safetensors", "checkpoint-4"):
        path = tmp_path / "broken" / name
        path.unlink() if path.is_file() else path.rename(tmp_path / "gone")
    _run(tmp_path / "broken", *flags, "--resume_from_checkpoint", "auto")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def digits(tmp_path: Path) -> Any:
    source = ImageSource(embedded=True, cache_dir=str(tmp_path / "cache"))
    return load_images(source, (8, 8), 1, 0.1, 0).datasets["train"].select(range(24))


def _trainer(folder: Path, digits: Any, size: int, count: int, model: Any, soft: bool, **changes: Any) -> ImageTrainer:
    settings = {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": count,
        "max_steps": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "weight_decay": 0.0,
    }
    rule = AugmentationArguments(flip=0.5, crop_padding=1, mixup_alpha=0.8 if soft else 0.0).rule()
    collate = ClassificationCollator(rule, 0, [0.3], [0.37], 10)
    images = EpochImages(ImageDataset(digits, (1, 8, 8), 0, rule.mixing_probability))
    return ImageTrainer(
        model=model,
        args=TrainingArguments(str(folder), **{**settings, **changes}),
        train_dataset=images,
        eval_dataset=images,
        data_collator=collate,
        eval_collator=ClassificationCollator(None, 0, [0.3], [0.37], 10),
    )


@pytest.mark.parametrize("soft", [False, True], ids=["hard labels", "mixup"])
def test_accumulation_is_invisible(tmp_path: Path, digits: Any, soft: bool) -> None:
    weights = []
    for size, count in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = SeqViTForImageClassification(SeqViTConfig(**SIZES, num_labels=10)).double()
        _trainer(tmp_path, digits, size, count, model, soft).train()
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-12)  # float64 sums in another order


def test_transformers_vit_turns_mixed_labels_into_several(tmp_path: Path, digits: Any) -> None:
    """The control: without our loss the library's head changes the configuration, and hard labels then fail."""
    model = ViTForImageClassification(ViTConfig(**SIZES, num_labels=10))
    _trainer(tmp_path, digits, 8, 1, model, soft=True).train()
    assert model.config.problem_type == "multi_label_classification"


def test_every_epoch_is_augmented_anew(digits: Any, tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    class Recorder(ImageTrainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
            seen[self.train_dataset.epoch] = inputs["pixel_values"].sum((1, 2, 3)).sort().values
            return super().training_step(model, inputs, *rest)

    model = SeqViTForImageClassification(SeqViTConfig(**SIZES, num_labels=10))
    trainer = _trainer(tmp_path, digits, 24, 1, model, soft=False, max_steps=3, dataloader_num_workers=1)
    trainer.__class__ = Recorder
    trainer.train()
    assert sorted(seen) == [0, 1, 2]
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_evaluation_is_not_augmented(digits: Any, tmp_path: Path) -> None:
    model = SeqViTForImageClassification(SeqViTConfig(**SIZES, num_labels=10))
    trainer = _trainer(tmp_path, digits, 8, 1, model, soft=True)
    for loader in (trainer.get_eval_dataloader(), trainer.get_test_dataloader(trainer.eval_dataset)):
        assert isinstance(loader, DataLoader) and loader.collate_fn is trainer.eval_collator
    assert trainer.get_train_dataloader().collate_fn is trainer.data_collator


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _run(tmp_path / "out")  # neither a checkpoint nor an architecture
    SeqViTForImageClassification(SeqViTConfig(**SIZES)).save_pretrained(tmp_path / "model")
    flags = ["--model_name_or_path", str(tmp_path / "model")]
    with pytest.raises(ValueError, match="num_channels=3"):
        _run(tmp_path / "out", *flags, "--num_channels", "3")
    with pytest.raises(ValueError, match="dataloader_persistent_workers"):
        _run(tmp_path / "out2", *flags, "--dataloader_persistent_workers", "--dataloader_num_workers", "1")
    (tmp_path / "out3").mkdir()
    (tmp_path / "out3/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        _run(tmp_path / "out3", *flags)


def test_freezing() -> None:
    model = SeqViTForImageClassification(SeqViTConfig(**SIZES))
    freeze(model, ["classifier"])
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
