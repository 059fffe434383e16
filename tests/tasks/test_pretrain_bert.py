"""BERT's pretraining as users start it: on their files, in all variants, and with mistakes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline

from hf_seqmodels.tasks.pretrain_bert import main
from hf_seqmodels.tasks.pretrain_bert_arguments import ModelArguments, ObjectiveArguments, TextArguments
from hf_seqmodels.training import EngineArguments, TrainingError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve documents, one sentence a line, an empty line between documents."""
    animals = ["cat", "dog", "owl", "fox", "bee", "ant", "elk", "hen", "cow", "bat", "rat", "pig"]
    documents = [
        [f"The {animal} number {number} sees a {other} ." for number in range(6)]
        for animal, other in zip(animals, reversed(animals))
    ]
    path = tmp_path / "animals.txt"
    path.write_text("\n\n".join("\n".join(document) for document in documents), encoding="utf-8")
    return path


@pytest.fixture
def arguments(tmp_path: Path, corpus: Path):
    return {
        "text": TextArguments(train_file=[str(corpus)], held_out=2, cache_dir=str(tmp_path / "cache")),
        "model_args": ModelArguments(config_overrides=SMALL, vocab_size=150),
        "objective": ObjectiveArguments(max_seq_length=32),
        "args": EngineArguments(
            output_dir=str(tmp_path / "out"), max_steps=4, per_device_train_batch_size=4, disable_tqdm=True
        ),
    }


def test_the_whole_way(arguments, tmp_path: Path) -> None:
    result = main(**arguments)
    assert result.step == 4
    assert set(result.metrics) == {
        "mlm_loss",
        "mlm_accuracy",
        "perplexity",
        "nsp_loss",
        "nsp_accuracy",
        "nsp_majority",
    }
    out = tmp_path / "out"
    model = AutoModelForPreTraining.from_pretrained(out)
    assert type(model).__name__ == "SeqBertForPreTraining" and model.dtype == torch.float32
    AutoTokenizer.from_pretrained(out)
    assert len(pipeline("fill-mask", model=str(out))("The [MASK] sees a cat.")) == 5


VARIANTS = {
    "packed": {"objective": {"packing": True}},
    "mlm only": {"objective": {"nsp": "none"}},
    "balanced pairs": {"objective": {"nsp": "balanced"}},
    "whole words": {"objective": {"masking": "whole_word"}},
    "spans": {"objective": {"masking": "span"}},
    "static masks": {"objective": {"duplication_factor": 1}},
    "two lengths": {
        "objective": {
            "phases": [
                {"share": 0.75, "max_seq_length": 16},
                {"share": 0.25, "max_seq_length": 32, "per_device_train_batch_size": 2},
            ]
        }
    },
    "streaming": {"text": {"streaming": True, "shard_documents": 4}},
    "master weights": {"args": {"mixed_precision": "bf16_master"}},
    "autocast": {"args": {"mixed_precision": "bf16"}},
    "gradient checkpointing": {"args": {"gradient_checkpointing": True}},
    "eager attention": {"model_args": {"attn_implementation": "eager"}},
    "tensorboard": {"args": {"report_to": ["tensorboard"]}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_variants(arguments, changes: dict, tmp_path: Path) -> None:
    result = main(**{**arguments, **{name: replace(arguments[name], **fields) for name, fields in changes.items()}})
    assert result.step == 4
    assert all(torch.isfinite(torch.tensor(value)) for value in result.metrics.values())
    AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    if "tensorboard" in str(changes):
        assert list((tmp_path / "out").rglob("events.out.tfevents.*"))


def test_goes_on_from_a_model(arguments, tmp_path: Path) -> None:
    main(**arguments)
    model_args = ModelArguments(model_name_or_path=str(tmp_path / "out"))
    args = replace(arguments["args"], output_dir=str(tmp_path / "second"))
    assert main(**{**arguments, "model_args": model_args, "args": args}).step == 4


def test_tables_and_saved_datasets(arguments, tmp_path: Path) -> None:
    rows = [{"body": f"This is text {number} . It has two sentences ."} for number in range(12)]
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join(json.dumps(row) for row in rows))
    text = TextArguments(train_file=[str(table)], text_column="body", held_out=2, cache_dir=str(tmp_path / "cache"))
    assert main(**{**arguments, "text": text}).step == 4


def _refuse(arguments, message: str, **changes) -> None:
    with pytest.raises((ValueError, TrainingError), match=message):
        main(**{**arguments, **{name: replace(arguments[name], **fields) for name, fields in changes.items()}})


def test_mistakes_are_named(arguments, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Ein Satz .\nGr\xfc\xdfe .\n".encode("latin-1"))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    single = tmp_path / "single.txt"
    single.write_text("One sentence .\nAnother one .\n")
    _refuse(
        arguments,
        r"latin\.txt, line 2: not UTF-8",
        text={"train_file": [str(latin)]},
        args={"output_dir": str(tmp_path / "a")},
    )
    _refuse(arguments, "corpus is empty", text={"train_file": [str(empty)]}, args={"output_dir": str(tmp_path / "b")})
    _refuse(arguments, "no such file", text={"train_file": ["nowhere.txt"]}, args={"output_dir": str(tmp_path / "c")})
    _refuse(
        arguments,
        "document",
        text={"train_file": [str(single)], "validation_file": [str(single)]},
        args={"output_dir": str(tmp_path / "d")},
    )
    _refuse(
        arguments,
        "vocab_size=4 must be above 5",
        model_args={"vocab_size": 4},
        args={"output_dir": str(tmp_path / "e")},
    )
    _refuse(
        arguments,
        "max_seq_length=32 is longer than the model's max_position_embeddings=16",
        model_args={"config_overrides": {**SMALL, "max_position_embeddings": 16}},
        args={"output_dir": str(tmp_path / "f")},
    )
    _refuse(
        arguments,
        "max_length=4 cannot hold",
        objective={"max_seq_length": 4},
        args={"output_dir": str(tmp_path / "g")},
    )


def test_arguments_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="nsp='maybe' must be one of google, balanced, none"):
        ObjectiveArguments(nsp="maybe")
    with pytest.raises(ValueError, match=r"add up to 0\.5, not to 1"):
        ObjectiveArguments(phases=[{"share": 0.5}])
    with pytest.raises(ValueError, match="must have a share"):
        ObjectiveArguments(phases=[{"length": 3}])
    with pytest.raises(ValueError, match="give one of the two"):
        TextArguments(train_file=["a"], dataset_name="b")


@pytest.mark.parametrize("recipe", sorted(Path("scripts/recipes").glob("bert_*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    from hf_seqmodels.tasks.arguments import parse

    parse(
        (TextArguments, ModelArguments, ObjectiveArguments, EngineArguments),
        ["--recipe", str(recipe), "--output_dir", "out"],
    )
    text = recipe.read_text()
    assert all(word in text for word in ("# Expected:", "# Time:", "# Command:"))


def test_the_script_explains_its_flags_and_its_errors(tmp_path: Path) -> None:
    script = [sys.executable, "scripts/pretrain_bert.py"]
    shown = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--packing" in shown and "--max_steps" in shown and "Objective" in shown
    (tmp_path / "mine.txt").write_text("mine")
    refused = subprocess.run([*script, "--output_dir", str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr and "Traceback" not in refused.stderr
