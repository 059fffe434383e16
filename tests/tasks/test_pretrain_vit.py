"""ViT's training as users start it: every objective, on their images, killed and resumed, and with mistakes."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.tasks import pretrain_vit
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.image_arguments import AugmentationArguments, ImageArguments
from hf_seqmodels.tasks.pretrain_vit import MODELS, main
from hf_seqmodels.tasks.pretrain_vit_arguments import OBJECTIVES, ViTModelArguments, ViTObjectiveArguments
from hf_seqmodels.tasks.vit_evaluation import count_items
from hf_seqmodels.training import EngineArguments, TrainingError
from hf_seqmodels.training.checkpoint import MANIFEST, finish_checkpoint

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
    "image_size": 8,
    "num_channels": 1,
    "pooling": "mean",
    "drop_path_rate": 0.1,
    "hidden_dropout_prob": 0.1,
}
AUGMENTED = {"flip": 0.5, "crop_padding": 1, "randaugment_ops": 2, "erasing": 0.3}
STEPS = 6
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def arguments(folder: Path, kind: str = "classification", /, **changes: dict[str, Any]) -> dict[str, Any]:
    """What `main` takes, for a few steps on the digits."""
    given = {
        "images": ImageArguments(cache_dir=str(folder.parent / "cache")),
        "model_args": ViTModelArguments(model_size="Ti/2", config_overrides=SMALL),
        "objective": ViTObjectiveArguments(objective=kind, feature_examples=60, max_eval_batches=2),
        "augmentation": AugmentationArguments(),
        "args": EngineArguments(
            output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=8, disable_tqdm=True, save_steps=2
        ),
    }
    return {name: replace(value, **changes.get(name, {})) for name, value in given.items()}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_and_its_way_to_a_classifier(tmp_path: Path, objective: str) -> None:
    out = tmp_path / "out"
    result = main(**arguments(out, objective))
    assert result.step == STEPS and np.isfinite(result.metrics["loss"])
    trained = MODELS[objective].from_pretrained(out)
    results = json.loads((out / "all_results.json").read_text())
    assert ("accuracy" in results) == (objective in ("classification", "patch_prediction"))
    assert ("mean_loss" in results) == (objective in ("mae", "simmim"))
    if objective != "classification":
        assert 0 <= results["knn_accuracy"] <= 1 and 0 <= results["linear_accuracy"] <= 1
    classifier = SeqViTForImageClassification.from_pretrained(out)
    for name, weight in trained.vit.layers.state_dict().items():
        assert torch.equal(weight, classifier.vit.layers.state_dict()[name])
    second = arguments(tmp_path / "second", model_args={"model_name_or_path": str(out), "config_overrides": {}})
    assert main(**second).step == STEPS


def test_the_result_is_a_classifier_for_everyone(tmp_path: Path) -> None:
    main(**arguments(tmp_path / "out"))
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.num_channels == 1 and processor.size == {"height": 8, "width": 8}
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert list(model.config.id2label.values()) == [str(digit) for digit in range(10)]
    guesses = pipeline("image-classification", model=str(tmp_path / "out"))(Image.new("RGB", (20, 20)))
    assert {guess["label"] for guess in guesses} <= set(model.config.id2label.values())


VARIANTS = {
    "mixed": {"augmentation": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}},
    "augmented": {"augmentation": AUGMENTED},
    "averaged weights": {"args": {"ema_decay": 0.9}},
    "layer decay": {"args": {"layer_decay": 0.7}},
    "base rate": {"args": {"base_learning_rate": 1e-3, "gradient_accumulation_steps": 2}},
    "master weights": {"args": {"mixed_precision": "bf16_master"}},
    "autocast": {"args": {"mixed_precision": "bf16"}},
    "gradient checkpointing": {"args": {"gradient_checkpointing": True}},
    "share of the labels": {"images": {"train_share": 0.1}},
    "another size": {"images": {"image_size": [12, 8], "num_channels": 3}},
    "given statistics": {"images": {"image_mean": [0.5], "image_std": [0.5]}},
    "tensorboard": {"args": {"report_to": ["tensorboard"]}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_variants(tmp_path: Path, changes: dict[str, dict[str, Any]]) -> None:
    given = arguments(tmp_path / "out", **changes)
    if "image_size" in changes.get("images", {}):
        overrides = {k: v for k, v in SMALL.items() if k not in ("image_size", "num_channels")}
        given["model_args"] = replace(given["model_args"], config_overrides=overrides)
    result = main(**given)
    assert result.step == STEPS and np.isfinite(result.metrics["loss"])
    AutoModel.from_pretrained(tmp_path / "out")
    if "report_to" in str(changes):
        assert list((tmp_path / "out").rglob("events.out.tfevents.*"))


def test_epochs_take_the_place_of_steps(tmp_path: Path) -> None:
    changes = {"objective": {"num_train_epochs": 0.1}, "args": {"gradient_accumulation_steps": 2}}
    assert main(**arguments(tmp_path / "out", **changes)).step == 9  # a tenth of 1,437 images, 16 a step


def _state_of(folder: Path) -> tuple[Any, ...]:
    (last,) = sorted(folder.glob(f"checkpoint-*{STEPS}"))
    history = json.loads((last / "training_state.json").read_text())["history"]
    optimizer = torch.load(last / "optimizer.pt", weights_only=True)["state"]
    moments = [(index, name, value) for index, slots in optimizer.items() for name, value in slots.items()]
    return load_file(last / "model.safetensors"), moments, history


def assert_equal_runs(first: Path, second: Path) -> None:
    """Weights, optimiser and logged history, to the last bit."""
    (weights, moments, history), (others, other_moments, other_history) = _state_of(first), _state_of(second)
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
    assert all(torch.equal(a[2], b[2]) for a, b in zip(moments, other_moments, strict=True))
    assert history == other_history


class _Killed:
    """Counts a model's forwards and dies of SIGKILL before one of them."""

    def __init__(self, at: int):
        self.left = at

    def __call__(self, *arguments: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _train(given: dict[str, Any], kill_at: int | None) -> None:
    if kill_at is not None:
        killer, build = _Killed(kill_at), pretrain_vit.build_model

        def build_doomed(*arguments: Any) -> Any:
            model = build(*arguments)
            model.register_forward_pre_hook(lambda module, inputs: killer() if module.training else None)
            return model

        pretrain_vit.build_model = build_doomed
    main(**given)


def run_in_process(given: dict[str, Any], kill_at: int | None = None) -> int | None:
    """The exit code of a run in a process of its own; negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(given, kill_at))
    process.start()
    process.join()
    return process.exitcode


GRID = list(itertools.product(OBJECTIVES, (0, 2), (False, True)))
FAST = [GRID[index] for index in (3, 4, 9, 14)]  # every objective, both numbers of workers, with and without


def _check_resume(folder: Path, objective: str, workers: int, augmented: bool, **args: Any) -> None:
    changes: dict[str, dict[str, Any]] = {"args": {"dataloader_num_workers": workers, "eval_steps": 4, **args}}
    if augmented:
        mixing = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0} if objective == "classification" else {}
        changes["augmentation"] = {**AUGMENTED, **mixing}
    whole, broken = folder / "whole", folder / "broken"
    assert run_in_process(arguments(whole, objective, **changes)) == 0
    changes["args"]["resume_from_checkpoint"] = "auto"
    accumulated = args.get("gradient_accumulation_steps", 1)
    # One forward more than steps: the FLOPs are counted by one.
    assert run_in_process(arguments(broken, objective, **changes), kill_at=4 * accumulated + 2) == -9
    assert run_in_process(arguments(broken, objective, **changes)) == 0
    assert_equal_runs(whole, broken)


@pytest.mark.parametrize(("objective", "workers", "augmented"), FAST)
def test_resumed_as_if_never_killed(tmp_path: Path, objective: str, workers: int, augmented: bool) -> None:
    _check_resume(tmp_path, objective, workers, augmented)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "workers", "augmented"), GRID)
def test_whole_grid(tmp_path: Path, objective: str, workers: int, augmented: bool) -> None:
    settings = {"gradient_accumulation_steps": 2, "ema_decay": 0.9}
    _check_resume(tmp_path, objective, workers, augmented, **settings)


def test_resuming_with_another_random_state_is_another_run(tmp_path: Path) -> None:
    """The control: dropout and stochastic depth draw from the state that the checkpoint carries."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_in_process(arguments(whole)) == 0
    resumed = {"args": {"resume_from_checkpoint": "auto"}}
    assert run_in_process(arguments(broken, **resumed), kill_at=6) == -9
    checkpoint = broken / "checkpoint-000004"
    shutil.copy(whole / f"checkpoint-{STEPS:06d}" / "rng-0.safetensors", checkpoint)
    (checkpoint / MANIFEST).unlink()  # a manifest that fits what was tampered with
    checkpoint.rename(aside := broken / "aside")
    finish_checkpoint(aside, checkpoint)
    assert run_in_process(arguments(broken, **resumed)) == 0
    with pytest.raises(AssertionError):
        assert_equal_runs(whole, broken)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_is_invisible(tmp_path: Path, objective: str) -> None:
    """8 × 1 against 2 × 4 micro-batches: the same weights, but for the order of float32 sums."""
    plain = {key: value for key, value in SMALL.items() if not key.endswith(("_prob", "_rate"))}
    weights = []
    for size, count in ((8, 1), (2, 4)):
        folder = tmp_path / f"{size}x{count}"
        changes = {
            "model_args": {"config_overrides": plain},
            "augmentation": AUGMENTED,
            "args": {"per_device_train_batch_size": size, "gradient_accumulation_steps": count, "max_steps": 3},
        }
        main(**arguments(folder, objective, **changes))
        weights.append(load_file(folder / "model.safetensors"))
    for name, value in weights[0].items():
        # Adam divides by the root of tiny second moments, which magnifies the last bits of the sums.
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_train_as_one(tmp_path: Path, objective: str) -> None:
    """Real gloo processes: twice 4 images a step are 8, whoever has them."""
    plain = {key: value for key, value in SMALL.items() if not key.endswith(("_prob", "_rate"))}
    settings = ["--model_size", "Ti/2", "--config_overrides", json.dumps(plain), "--objective", objective]
    settings += ["--max_steps", "3", "--flip", "0.5", "--feature_examples", "60", "--disable_tqdm"]
    weights = []
    for name, launcher, size in (("one", [sys.executable], "8"), ("two", [*TORCHRUN, "--nproc_per_node", "2"], "4")):
        where = ["--output_dir", str(tmp_path / name), "--cache_dir", str(tmp_path / "cache")]
        command = [*launcher, "scripts/pretrain_vit.py", *settings, *where, "--per_device_train_batch_size", size]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ACCELERATE_USE_CPU": "true"})
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-4)  # as above: Adam on float32 sums


def test_soft_labels_are_counted_as_trainer_counts() -> None:
    assert count_items({"labels": torch.full((3, 5), 0.2)}) == {"num_items_in_batch": 15}
    assert count_items({"labels": torch.tensor([1, -100, 2])}) == {"num_items_in_batch": 2}
    assert count_items({"bool_masked_pos": torch.eye(4, dtype=torch.bool)}) == {"num_items_in_batch": 4}


def _folder(path: Path, labels: tuple[str, ...] = ("cat", "dog")) -> Path:
    random = np.random.default_rng(0)
    for label in labels:
        (path / label).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (10, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / label / f"{number}.png")
    return path


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "animals")
    overrides = {**SMALL, "num_channels": 3, "image_size": [8, 12]}
    given = arguments(
        tmp_path / "out",
        images={"train_folder": str(folder), "validation_share": 0.25},
        model_args={"config_overrides": overrides},
    )
    assert main(**given).step == STEPS
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.label2id == {"cat": 0, "dog": 1}


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "animals")
    (folder / "cat" / "3.png").write_bytes(b"no image")
    mine = {"train_folder": str(folder), "validation_share": 0.25}
    three = {"config_overrides": {**SMALL, "num_channels": 3}}
    refusals = [
        (r"3\.png", {"images": mine, "model_args": three}),
        ("not divisible", {"model_args": {"config_overrides": {**SMALL, "image_size": 9}}}),
        ("preset='Ti' is not known", {"model_args": {"model_size": "Ti"}}),
        (r"nowhere", {"images": {"train_folder": str(tmp_path / "nowhere")}}),
        ("mask_patch_size", {"objective": {"objective": "simmim", "mask_patch_size": 3}}),
    ]
    for number, (message, changes) in enumerate(refusals):
        with pytest.raises(Exception, match=message) as caught:
            main(**arguments(tmp_path / f"out{number}", **changes))
        assert isinstance(caught.value, ValueError | TrainingError) or "Strict" in type(caught.value).__name__
    skipping = {"images": {**mine, "on_corrupt_image": "skip"}, "model_args": three}
    assert main(**arguments(tmp_path / "skipped", **skipping)).step == STEPS


def test_classification_needs_labels(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number in range(8):
        Image.new("L", (8, 8), number).save(tmp_path / "flat" / f"{number}.png")
    unlabelled = {"images": {"train_folder": str(tmp_path / "flat"), "validation_share": 0.25}}
    with pytest.raises(ValueError, match="needs labels"):
        main(**arguments(tmp_path / "out", **unlabelled))
    assert main(**arguments(tmp_path / "mae", "mae", **unlabelled)).step == STEPS


def test_arguments_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match=r"mask_ratio=1\.0 must lie in \(0, 1\)"):
        ViTObjectiveArguments(mask_ratio=1.0)
    with pytest.raises(ValueError, match="train_share=0"):
        ImageArguments(train_share=0)
    with pytest.raises(ValueError, match="go together"):
        ImageArguments(image_mean=[0.5])
    with pytest.raises(ValueError, match="flip"):
        AugmentationArguments(flip=2.0)


@pytest.mark.parametrize("recipe", sorted(Path("scripts/recipes").glob("vit_*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    classes = (ImageArguments, ViTModelArguments, ViTObjectiveArguments, AugmentationArguments, EngineArguments)
    parse(classes, ["--recipe", str(recipe), "--output_dir", "out"])
    text = recipe.read_text()
    assert all(word in text for word in ("# Expected:", "# Time:", "# Command:"))


def test_the_script_explains_its_flags_and_its_errors(tmp_path: Path) -> None:
    script = [sys.executable, "scripts/pretrain_vit.py"]
    shown = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--objective" in shown and "--mixup_alpha" in shown and "--ema_decay" in shown
    (tmp_path / "mine.txt").write_text("mine")
    refused = subprocess.run([*script, "--output_dir", str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr and "Traceback" not in refused.stderr
