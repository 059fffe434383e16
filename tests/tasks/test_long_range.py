"""The long-range comparison from command line to pictures: sizes, interruption, repetition, and mistakes."""

import csv
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
from transformers import AutoModelForSequenceClassification

from hf_seqmodels.data.long_range import AddingProblem, AssociativeRecallProblem, CopyMemoryProblem
from hf_seqmodels.tasks import long_range
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.long_range import main
from hf_seqmodels.tasks.long_range_arguments import ENGINE_DEFAULTS, MODELS, LongRangeArguments
from hf_seqmodels.tasks.long_range_models import build_model, matched_config
from hf_seqmodels.tasks.model_sizes import num_trained
from hf_seqmodels.training import EngineArguments

RECIPES = sorted(Path("scripts/recipes").glob("long_range_*.yaml"))
PICTURES = ("learning_curves", "loss_by_length", "gradient_norms")
STEPS = 6
STEPS_OF = {"adding": 8, "copy": 28, "recall": 16}  # of an input, at T = 8


def small(folder: Path, **changes: Any) -> tuple[LongRangeArguments, EngineArguments]:
    """A few steps on a short problem; `engine` holds the engine's changes."""
    engine = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "logging_steps": 2,
        "save_steps": 2,
        "per_device_eval_batch_size": 40,
        "disable_tqdm": True,
        "resume_from_checkpoint": "auto",
        **changes.pop("engine", {}),
    }
    examples = {"eval_examples": 40, "gradient_examples": 4}
    given = {"lengths": [8], "parameter_budget": 900, "seq_bert_heads": 2, **examples, **changes}
    return LongRangeArguments(**given), EngineArguments(**engine)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, training is an error."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a complete run was trained again")

    monkeypatch.setattr(long_range, "Engine", refuse)


@pytest.mark.parametrize("problem", ["adding", "copy", "recall"])
def test_every_model_and_everything_that_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], problem: str
) -> None:
    runs = main(*small(tmp_path, problem=problem))
    assert runs is not None and [run.model for run in runs] == list(MODELS)
    for run in runs:
        assert run.model == "seq_bert" or 0.9 < run.num_parameters / 900 < 1.1
        assert run.metrics["loss"] > 0
        assert run.training_curve[0] == [2, 4, 6]
        assert run.initial.hidden.shape[1] == run.trained.hidden.shape[1] == STEPS_OF[problem]
        assert (run.initial.hidden != run.trained.hidden).any() and (run.initial.hidden[0] > 0).all()
        assert ("recall_accuracy" in run.metrics) == (problem != "adding")
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == list(MODELS)
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out and f"{runs[1].num_parameters:,}" in table
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == 4
    for name in PICTURES:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
    if problem == "adding":
        trained = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adding_8_lstm_seed42")
        assert trained.config.chrono_max_length == 8


def test_a_complete_run_is_read_and_a_new_length_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    models = ["gru"]
    first = main(*small(tmp_path, models=models))
    more = main(*small(tmp_path, models=models, lengths=[8, 10], num_seeds=2))
    output = capsys.readouterr().out
    assert output.count("is complete.") == 1 and output.count("; new") == 1 + 3
    assert first is not None and more is not None and [run.seed for run in more] == [42, 43] * 2
    assert [run.row() for run in more if (run.length, run.seed) == (8, 42)] == [run.row() for run in first]
    assert "±" in (tmp_path / "table.md").read_text()
    request.getfixturevalue("untrained")
    again = main(*small(tmp_path, models=models, lengths=[8, 10], num_seeds=2))
    assert again is not None and [run.row() for run in again] == [run.row() for run in more]
    with pytest.raises(AssertionError, match="trained again"):  # the fixture does its work
        main(*small(tmp_path / "new", models=["gru"]))


def test_an_interrupted_comparison_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ["rnn", "lstm"]
    whole = main(*small(tmp_path / "whole", models=models))
    count = long_range._count_items
    steps = iter(range(100))

    def interrupting(batch: dict[str, Any]) -> dict[str, int]:
        if batch["labels"].shape == (8,) and next(steps) == STEPS + 2:  # the third step of the second model
            os.kill(os.getpid(), signal.SIGTERM)
        return count(batch)

    monkeypatch.setattr(long_range, "_count_items", interrupting)
    assert main(*small(tmp_path / "cut", models=models)) is None
    assert not (tmp_path / "cut" / "results.csv").exists()
    assert (tmp_path / "cut" / "adding_8_lstm_seed42" / "checkpoint-000003").is_dir()
    monkeypatch.undo()
    resumed = main(*small(tmp_path / "cut", models=models))
    assert whole is not None and resumed is not None
    assert [run.history for run in resumed] == [run.history for run in whole]
    for name in ("adding_8_rnn_seed42", "adding_8_lstm_seed42"):
        weights = [load_file(tmp_path / folder / name / "model.safetensors") for folder in ("whole", "cut")]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("problem", [AddingProblem(200), CopyMemoryProblem(100), AssociativeRecallProblem(100)])
def test_models_are_of_one_size(problem: Any) -> None:
    args = LongRangeArguments()
    for model in MODELS:
        config = matched_config(args, model, problem)
        size = num_trained(build_model(config, problem))
        assert abs(size / args.parameter_budget - 1) < (0.1 if model == "seq_bert" else 0.01)
        step = args.seq_bert_heads if model == "seq_bert" else 1
        for other in (config.hidden_size - step, config.hidden_size + step):
            config.hidden_size = other
            if model == "seq_bert":
                config.intermediate_size = 4 * other
            neighbour = num_trained(build_model(config, problem))
            assert abs(neighbour - args.parameter_budget) > abs(size - args.parameter_budget)
    if problem.name == "adding":
        assert matched_config(args, "lstm", problem).hidden_size == 128


def test_options_reach_the_models(tmp_path: Path) -> None:
    args, engine = small(
        tmp_path,
        models=["lstm", "gru"],
        chrono_initialization=False,
        config_overrides={"lstm": {"forget_gate_bias": 3.0}},
        learning_rates={"gru": 0.5},
    )
    lstm, gru = long_range._plans(args, engine)
    assert lstm.config.forget_gate_bias == 3 and lstm.config.chrono_max_length is None
    assert (lstm.engine.learning_rate, gru.engine.learning_rate) == (engine.learning_rate, 0.5)


def test_other_settings_need_another_folder(tmp_path: Path, untrained: None) -> None:
    folder = tmp_path / "adding_8_rnn_seed42"
    args, engine = small(tmp_path, models=["rnn"])
    (plan,) = long_range._plans(args, engine)
    folder.mkdir()
    (folder / long_range.SETTINGS).write_text(json.dumps(plan.settings))
    for changed, message in (
        (small(tmp_path, models=["rnn"], engine={"learning_rate": 0.5}), r"learning_rate=0\.001, not 0\.5"),
        (small(tmp_path, models=["rnn"], parameter_budget=2000), "hidden_size=28, not 42"),
        (small(tmp_path, models=["rnn"], eval_examples=7), "eval_examples=40, not 7"),
    ):
        with pytest.raises(ValueError, match=f"was begun with .*{message}: choose another output_dir"):
            main(*changed)
    with pytest.raises(AssertionError, match="trained again"):  # where it writes and how often does not matter
        main(*small(tmp_path, models=["rnn"], engine={"save_steps": 3}))


def test_refusals(tmp_path: Path, untrained: None) -> None:
    for changes, message in (
        ({"lengths": []}, r"lengths=\[\] must name at least one"),
        ({"lengths": [8, 8]}, "none twice"),
        ({"lengths": [3]}, r"lengths=\[3\] must be at least 4"),
        ({"models": ["transformer"]}, "models: 'transformer' is not known; choose from rnn, lstm"),
        ({"config_overrides": {"bert": {}}}, "config_overrides: 'bert'"),
        ({"config_overrides": {"rnn": {"hidden_size": 3}}}, "hidden_size of rnn follows from parameter_budget"),
        ({"learning_rates": {"rnn": 0.0}}, r"learning_rates: 0\.0 of rnn must be above 0"),
        ({"num_seeds": 0}, "num_seeds=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            LongRangeArguments(**changes)
    with pytest.raises(ValueError, match="parameter_budget=2 is too small: rnn on length 8 has at least 7 parameters"):
        main(*small(tmp_path, parameter_budget=2))
    with pytest.raises(ValueError, match="there are several runs; use auto"):
        main(*small(tmp_path, engine={"resume_from_checkpoint": "some/checkpoint"}))
    (tmp_path / "adding_8_rnn_seed42").mkdir()
    (tmp_path / "adding_8_rnn_seed42" / "notes.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        main(*small(tmp_path, engine={"resume_from_checkpoint": None}))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    args, engine = parse(
        (LongRangeArguments, EngineArguments),
        ["--recipe", str(recipe), "--output_dir", "out"],
        defaults=ENGINE_DEFAULTS,
    )
    header = recipe.read_text(encoding="utf-8")
    assert all(f"# {title}: " in header for title in ("Expected", "Time", "Command")) and recipe.name in header
    assert engine.resume_from_checkpoint == "auto" and engine.max_steps >= 1 and len(args.models) >= 1


def test_the_program_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--recipe", "scripts/recipes/long_range_quick.yaml", "--output_dir", str(tmp_path), "--disable_tqdm"]
    for more in ([], ["--learning_rate", "0.5"]):
        monkeypatch.setattr(sys, "argv", ["long_range.py", *quick, "--models", "rnn", "--max_steps", "3", *more])
        if not more:
            runpy.run_path("scripts/long_range.py", run_name="__main__")
    assert "| 20 | rnn |" in capsys.readouterr().out and (tmp_path / "gradient_norms.png").is_file()
    with pytest.raises(SystemExit, match=r"long_range: .*was begun with training\.learning_rate"):
        runpy.run_path("scripts/long_range.py", run_name="__main__")
