"""Copying and reversing from command line to picture: sizes, scores, interruption, repetition, and mistakes."""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_seqmodels.data.copying import CopyingTask
from hf_seqmodels.data.random import Key
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration
from hf_seqmodels.tasks import bottleneck, kept_runs
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.bottleneck import main
from hf_seqmodels.tasks.bottleneck_arguments import ENGINE_DEFAULTS, MODELS, BottleneckArguments
from hf_seqmodels.tasks.bottleneck_models import build_model, matched_config
from hf_seqmodels.tasks.model_sizes import num_trained
from hf_seqmodels.training import EngineArguments

RECIPES = sorted(Path("scripts/recipes").glob("bottleneck*.yaml"))
STEPS = 4


def small(folder: Path, **changes: Any) -> tuple[BottleneckArguments, EngineArguments]:
    """A few steps on short sequences; `engine` holds the engine's changes."""
    engine = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "logging_steps": 2,
        "save_steps": 2,
        "per_device_eval_batch_size": 20,
        "disable_tqdm": True,
        "resume_from_checkpoint": "auto",
        **changes.pop("engine", {}),
    }
    lengths = {"shortest": 1, "longest": 4, "bucket_width": 2, "num_symbols": 3}
    sizes = {"parameter_budget": 3000, "transformer_heads": 2, "epoch_examples": 40, "eval_examples": 30}
    return BottleneckArguments(**{**lengths, **sizes, "bucket_window": 20, **changes}), EngineArguments(**engine)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, training is an error."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a complete run was trained again")

    monkeypatch.setattr(bottleneck, "Engine", refuse)


def test_every_model_and_everything_that_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    runs = main(*small(tmp_path, tasks=["reverse"]))
    assert runs is not None and [run.model for run in runs] == list(MODELS)
    for run in runs:
        assert 0.8 < run.num_parameters / 3000 < 1.2
        assert [(score.shortest, score.longest) for score in run.scores] == [(1, 2), (3, 4)]
        assert sum(score.examples for score in run.scores) == 30
        exact = sum(score.examples * score.exact_match for score in run.scores) / 30
        assert run.exact_match == pytest.approx(exact) and 0 <= run.exact_match <= run.token_accuracy <= 1
    output = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() in output and f"{runs[1].num_parameters:,}" in output
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    with Image.open(tmp_path / "accuracy_by_length.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    # The models are kept; the same command reads the results.
    folder = tmp_path / "reverse_vanilla_transformer"
    assert VanillaTransformerForConditionalGeneration.from_pretrained(folder).config.decoder_start_token_id == 1
    request.getfixturevalue("untrained")
    assert main(*small(tmp_path, tasks=["reverse"])) == runs
    with pytest.raises(AssertionError, match="trained again"):  # the fixture does its work
        main(*small(tmp_path, tasks=["copy"]))


def test_an_interrupted_comparison_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"tasks": ["copy"], "models": ["attention_seq2seq"]}
    whole = main(*small(tmp_path / "whole", **wanted))
    count, steps = bottleneck.count_items, iter(range(100))

    def interrupting(batch: dict[str, Any]) -> dict[str, int]:
        if next(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return count(batch)

    monkeypatch.setattr(bottleneck, "count_items", interrupting)
    assert main(*small(tmp_path / "cut", **wanted)) is None
    assert not (tmp_path / "cut" / "results.json").exists()
    monkeypatch.undo()
    assert main(*small(tmp_path / "cut", **wanted)) == whole
    weights = [
        load_file(tmp_path / folder / "copy_attention_seq2seq" / "model.safetensors") for folder in ("whole", "cut")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_scores_count_what_stands_where_it_belongs() -> None:
    labels = torch.tensor([[5, 6, 2, -100], [5, 6, 7, 2], [5, 2, -100, -100]])
    written = torch.tensor([[5, 6, 2], [5, 7, 7], [2, 0, 0]])  # all ended early enough to be shorter than the labels
    expected = [[1, 1, 3, 3], [1, 0, 4, 2], [1, 0, 2, 0]]
    assert bottleneck.score_written(written, labels).tolist() == expected
    longer = torch.tensor([[5, 6, 2, 4], [5, 6, 7, 2], [5, 2, 7, 7]])
    assert bottleneck.score_written(longer, labels)[:, 1].tolist() == [1, 1, 1]


def test_an_evaluation_counts_every_example_where_its_length_belongs(tmp_path: Path) -> None:
    """A model that copies perfectly has 100 % everywhere: the greedy search and the counting are right."""
    plan = bottleneck._plans(*small(tmp_path, tasks=["copy"], models=["vanilla_transformer"]))[0]

    class Copier:
        """Writes its source."""

        def generate(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return torch.nn.functional.pad(input_ids, (1, 0), value=1)

    class OneProcess:
        num_processes, process_index, device = 1, 0, torch.device("cpu")

    class Stub:
        model, accelerator = Copier(), OneProcess()

    metrics = bottleneck._evaluate(plan, Stub())  # type: ignore[arg-type]
    assert metrics["exact_match"] == metrics["token_accuracy"] == 1
    examples = plan.examples("validation", 30)
    short = sum(len(examples[Key(0, 0, index)]["labels"]) <= 3 for index in range(30))
    assert (metrics["examples_1"], metrics["examples_3"]) == (short, 30 - short) and 0 < short < 30


@pytest.mark.parametrize("model", MODELS)
def test_models_are_of_one_size(model: str) -> None:
    args = BottleneckArguments()
    config = matched_config(args, model, CopyingTask("copy"))
    with torch.device("meta"):
        size = num_trained(build_model(config))
    # Widths go in steps: of 2 units, of 4 for the Transformer's heads.
    assert abs(size / args.parameter_budget - 1) < 0.06


def test_options_reach_the_models(tmp_path: Path) -> None:
    args, engine = small(
        tmp_path,
        tasks=["copy"],
        models=["seq2seq", "vanilla_transformer"],
        config_overrides={"seq2seq": {"reverse_source": True}},
        learning_rates={"vanilla_transformer": 0.5},
    )
    recurrent, transformer = bottleneck._plans(args, engine)
    assert recurrent.config.reverse_source and transformer.config.max_position_embeddings == 6
    assert (recurrent.engine.learning_rate, transformer.engine.learning_rate) == (engine.learning_rate, 0.5)


def test_other_settings_need_another_folder(tmp_path: Path, untrained: None) -> None:
    wanted = {"tasks": ["copy"], "models": ["seq2seq"]}
    (plan,) = bottleneck._plans(*small(tmp_path, **wanted))
    plan.folder.mkdir()
    kept_runs.write_json(plan.folder / kept_runs.SETTINGS, plan.settings)
    for changed, message in (
        (small(tmp_path, **wanted, engine={"learning_rate": 0.5}), r"learning_rate=0\.001, not 0\.5"),
        (small(tmp_path, **wanted, num_symbols=4), "vocab_size=7, not 8"),
        (small(tmp_path, **wanted, eval_examples=7), "eval_examples=30, not 7"),
    ):
        with pytest.raises(ValueError, match=f"was begun with .*{message}: choose another output_dir"):
            main(*changed)
    with pytest.raises(AssertionError, match="trained again"):  # where it writes and how often does not matter
        main(*small(tmp_path, **wanted, engine={"save_steps": 3}))


def test_refusals(tmp_path: Path, untrained: None) -> None:
    for changes, message in (
        ({"tasks": []}, r"tasks=\[\] must name at least one"),
        ({"models": ["seq2seq", "seq2seq"]}, "none twice"),
        ({"tasks": ["sort"]}, "tasks: 'sort' is not known; choose from copy, reverse"),
        ({"models": ["lstm"]}, "models: 'lstm' is not known; choose from seq2seq, attention"),
        ({"config_overrides": {"gru": {}}}, "config_overrides: 'gru'"),
        ({"config_overrides": {"seq2seq": {"hidden_size": 3}}}, "hidden_size of seq2seq follows from"),
        ({"learning_rates": {"seq2seq": 0.0}}, r"learning_rates: 0\.0 of seq2seq must be above 0"),
        ({"bucket_width": 0}, "bucket_width=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            BottleneckArguments(**changes)
    with pytest.raises(ValueError, match=r"shortest=9 must lie in \[1, longest=4\]"):
        main(*small(tmp_path, shortest=9))
    with pytest.raises(ValueError, match="parameter_budget=9 is too small: seq2seq has at least"):
        main(*small(tmp_path, parameter_budget=9))
    with pytest.raises(ValueError, match="there are several runs; use auto"):
        main(*small(tmp_path, engine={"resume_from_checkpoint": "some/checkpoint"}))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    args, engine = parse(
        (BottleneckArguments, EngineArguments),
        ["--recipe", str(recipe), "--output_dir", "out"],
        defaults=ENGINE_DEFAULTS,
    )
    header = recipe.read_text(encoding="utf-8")
    assert all(f"# {title}: " in header for title in ("Expected", "Time", "Command")) and recipe.name in header
    assert engine.resume_from_checkpoint == "auto" and engine.max_steps >= 1 and args.models == list(MODELS)


def test_the_program_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--recipe", "scripts/recipes/bottleneck_quick.yaml", "--output_dir", str(tmp_path), "--disable_tqdm"]
    for more in ([], ["--learning_rate", "0.5"]):
        monkeypatch.setattr(sys, "argv", ["bottleneck.py", *quick, "--models", "seq2seq", "--max_steps", "2", *more])
        if not more:
            runpy.run_path("scripts/bottleneck.py", run_name="__main__")
    assert "| reverse | seq2seq |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"bottleneck: .*was begun with training\.learning_rate"):
        runpy.run_path("scripts/bottleneck.py", run_name="__main__")
