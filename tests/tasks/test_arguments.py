"""Command lines and recipes: precedence, types, messages, help."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from transformers import TrainingArguments

from hf_seqmodels.tasks.arguments import parse


@dataclass
class Model:
    """The model and its size.

    More about it.
    """

    size: Literal["tiny", "base"] = field(default="tiny", metadata={"help": "Preset"})
    dropout: float = field(default=0.1, metadata={"help": "Dropout rate, 10% or so"})
    overrides: dict[str, Any] | None = field(default=None, metadata={"help": "Config fields"})


@dataclass
class Loop:
    """The training loop."""

    output_dir: str = field(metadata={"help": "Where results go"})
    max_steps: int = field(default=100, metadata={"help": "Steps"})
    packed: bool = field(default=False, metadata={"help": "Pack rows"})
    shuffle: bool = field(default=True, metadata={"help": "Shuffle"})
    precision: Literal["no", "bf16"] = field(default="no", metadata={"help": "Precision"})
    phases: list[dict[str, Any]] = field(default_factory=list, metadata={"help": "Phases"})
    files: list[str] = field(default_factory=list, metadata={"help": "Files"})
    resume: str | None = field(default=None, metadata={"help": "Checkpoint"})
    warmup: float | str | None = field(default=None, metadata={"help": "Warm-up"})

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps} must be at least 1.")


def recipe(folder: Path, text: str) -> list[str]:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return ["--recipe", str(path)]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse((Model, Loop), argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_command_line_over_recipe_over_given_defaults_over_own(tmp_path: Path) -> None:
    flags = recipe(tmp_path, "output_dir: out\nmax_steps: 5\ndropout: 0\nresume: auto\nfiles: [a, b]\n")
    model, loop = parse((Model, Loop), [*flags, "--max-steps", "7"], defaults={"max_steps": 3, "packed": True})
    assert (loop.output_dir, loop.max_steps, loop.resume, loop.files) == ("out", 7, "auto", ["a", "b"])
    assert loop.packed is True and loop.shuffle is True and model.size == "tiny"
    assert model.dropout == 0.0 and isinstance(model.dropout, float)


def test_every_boolean_has_both_flags(tmp_path: Path) -> None:
    flags = [*recipe(tmp_path, "packed: true\nshuffle: false\n"), "--output_dir", "o"]
    (loop,) = parse(Loop, flags)
    assert loop.packed is True and loop.shuffle is False
    (loop,) = parse(Loop, [*flags, "--no_packed", "--shuffle"])
    assert loop.packed is False and loop.shuffle is True
    (loop,) = parse(Loop, [*flags, "--packed", "False"])
    assert loop.packed is False


def test_nested_values_from_recipe_and_json(tmp_path: Path) -> None:
    phases = "phases:\n  - {name: short, steps: 9}\n  - {name: long, steps: 1}\n"
    text = f"output_dir: o\noverrides: {{hidden_size: 8}}\n{phases}"
    model, loop = parse((Model, Loop), recipe(tmp_path, text))
    assert loop.phases == [{"name": "short", "steps": 9}, {"name": "long", "steps": 1}]
    assert model.overrides == {"hidden_size": 8}
    argv = ["--output_dir", "o", "--phases", '[{"name": "x"}]', "--overrides", '{"a": [1]}']
    model, loop = parse((Model, Loop), argv)
    assert loop.phases == [{"name": "x"}] and model.overrides == {"a": [1]}


def test_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    (model,) = parse(Model, recipe(tmp_path, "dropout: 1e-1\n"))
    assert model.dropout == 0.1


def test_a_union_keeps_the_type_that_was_written(tmp_path: Path) -> None:
    for text, expected in (("warmup: 0.1", 0.1), ("warmup: auto", "auto"), ("warmup: null", None)):
        (loop,) = parse(Loop, [*recipe(tmp_path, text), "--output_dir", "o"])
        assert loop.warmup == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("max_step: 5", ["max_step", "small.yaml", "max_steps"]),
        ("max_steps: many", ["max_steps", "expected int", "'many'", "small.yaml"]),
        ("max_steps: true", ["max_steps", "expected int", "True"]),
        ("max_steps: 0", ["max_steps=0 must be at least 1"]),
        ("precision: no", ["precision", "'no', 'bf16'", "put text in quotes"]),
        ("size: huge", ["size", "'huge'", "'tiny', 'base'"]),
        ("files: a.txt", ["files", "expected list[str]", "'a.txt'"]),
        ("phases: [1]", ["phases", "expected dict[str, Any]", "1 (int)"]),
        ("dropout: x", ["dropout", "expected float", "'x'"]),
        ("resume: 3", ["resume", "expected str", "3 (int)"]),
        ("- a", ["must be a mapping"]),
        ("a: [", ["not valid YAML"]),
        ("max_step: 1\nsizes: 2", ["2 error(s)", "max_step", "sizes"]),
    ],
)
def test_a_bad_recipe_names_the_culprit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: list[str]
) -> None:
    message = refusal([*recipe(tmp_path, text), "--output_dir", "o"], capsys)
    for part in expected:
        assert part in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["--max_step", "5"], ["unknown flag --max_step", "--max_steps"]),
        (["--max_steps", "many"], ["--max_steps", "invalid int", "'many'"]),
        (["--phases", "{"], ["--phases", "is not JSON"]),
        (["--phases", "[3]"], ["--phases", "expected dict"]),
        (["stray"], ["stray"]),
        (["--recipe", "missing.yaml"], ["missing.yaml", "can't be read"]),
    ],
)
def test_a_bad_command_line_names_the_culprit(
    capsys: pytest.CaptureFixture[str], argv: list[str], expected: list[str]
) -> None:
    message = refusal(["--output_dir", "o", *argv], capsys)
    for part in expected:
        assert part in message


def test_a_required_flag_may_come_from_the_recipe_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--output_dir" in refusal([], capsys)
    assert parse(Loop, recipe(tmp_path, "output_dir: here"))[0].output_dir == "here"


def test_help_groups_and_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse((Model, Loop), ["--help"], description="Trains it.", epilog="Example:\n  run me")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "The model and its size:" in text and "The training loop:" in text and "More about it" not in text
    assert "Trains it." in text and "Example:\n  run me" in text
    for dataclass_field in (*fields(Model), *fields(Loop)):
        assert f"  --{dataclass_field.name}" in text and dataclass_field.metadata["help"] in " ".join(text.split())
    assert "(default: 100)" in text and "(required)" in text and "--shuffle, --no_shuffle" in text
    assert text.count("--no_shuffle") == 1


def test_parsing_twice_gives_the_same_and_leaves_the_dataclasses_alone(tmp_path: Path) -> None:
    before = {f.name: f.type for f in fields(Loop)}
    first, second = (parse((Model, Loop), ["--output_dir", "o"]) for _ in range(2))
    assert first == second and first[1].phases is not second[1].phases
    assert {f.name: f.type for f in fields(Loop)} == before


def test_transformers_own_training_arguments_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = recipe(tmp_path, "learning_rate: 3e-4\nlr_scheduler_type: cosine\nreport_to: none\nuse_cpu: true\n")
    model, training = parse((Model, TrainingArguments), [*flags, "--output_dir", str(tmp_path)])
    assert training.learning_rate == 3e-4 and training.lr_scheduler_type.value == "cosine"
    assert model.size == "tiny"
    with pytest.raises(SystemExit):
        parse(TrainingArguments, ["--help"])
    assert "--learning_rate" in capsys.readouterr().out
