"""Translation models as users train them: from files and embedded dates, stopped and resumed, and with mistakes."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_seqmodels import metrics
from hf_seqmodels.data.translation import IGNORE_INDEX, TranslationCollator
from hf_seqmodels.tasks import train_translation
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.train_translation import build_model, build_tokenizer, evaluation_set, main, read_pairs
from hf_seqmodels.tasks.train_translation_arguments import (
    MODEL_TYPES,
    ParallelArguments,
    TranslationArguments,
    TranslationModelArguments,
)
from hf_seqmodels.training import EngineArguments, TrainResult
from hf_seqmodels.training.averaging import average_checkpoints
from hf_seqmodels.training.checkpoint import list_checkpoints

RECURRENT = {"hidden_size": 16, "num_hidden_layers": 1, "output_dropout_prob": 0.1}
SMALL: dict[str, dict[str, Any]] = {
    "seq2seq": RECURRENT,
    "attention_seq2seq": RECURRENT,
    "vanilla_transformer": {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    },
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
NUMBERS = {"null": "zero", "eins": "one", "zwei": "two", "Drei": "Three", "vier": "four"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Numbers in German and English, of one to three digits."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [[first, second, third] for first in NUMBERS for second in NUMBERS for third in NUMBERS]
    rows = [row[: 1 + place % 3] for place, row in enumerate(rows)][:40]
    for name, words in (("de", list(NUMBERS)), ("en", list(NUMBERS.values()))):
        translated = dict(zip(NUMBERS, words))
        (folder / name).write_text("".join(" ".join(translated[word] for word in row) + "\n" for row in rows))
    return [str(folder / "de"), str(folder / "en")]


def arguments(folder: Path, corpus: list[str], model_type: str, /, **changes: dict[str, Any]) -> dict[str, Any]:
    """What `main` takes, for a few steps."""
    given = {
        "data": ParallelArguments(train_file=corpus, test_file=corpus, vocab_size=300, held_out=0.2),
        "model_args": TranslationModelArguments(model_type=model_type, config_overrides=SMALL[model_type]),
        "translation": TranslationArguments(token_budget=100, bucket_window=16, num_samples=1, test_num_beams=2),
        "args": EngineArguments(
            output_dir=str(folder), max_steps=4, disable_tqdm=True, save_steps=1, save_total_limit=None
        ),
    }
    return {name: replace(value, **changes.get(name, {})) for name, value in given.items()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_trains_translates_and_saves(
    tmp_path: Path, corpus: list[str], model_type: str, capsys: pytest.CaptureFixture
) -> None:
    changes = {"translation": {"test": True}, "data": {"lowercase": True}, "args": {"eval_steps": 2}}
    result = main(**arguments(tmp_path / "out", corpus, model_type, **changes))
    assert [entry["step"] for entry in result.history if "eval_bleu" in entry] == [2, 4]
    assert set(result.metrics) == {"loss", "bleu", "chrf", "exact_match"}
    shown = capsys.readouterr().out
    assert "  source:      drei" in shown or "  source:      eins" in shown or "  source:      zwei" in shown
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (written["model"], written["step"], written["num_beams"], written["text"]) == ("last", 4, 2, "lower-cased")
    assert written["validation"]["loss"] == pytest.approx(result.metrics["loss"], rel=1e-5)  # beams don't change it
    translated = (tmp_path / "out" / "test_translations.txt").read_text().split("\n")[:-1]
    references = Path(corpus[1]).read_text().lower().splitlines()
    bleu = metrics.load("sacrebleu").compute(predictions=translated, references=references)
    assert written["test"]["bleu"] == bleu["score"]
    assert written["test"]["signatures"]["bleu"] == bleu["signature"]
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.model_type == model_type
    for settings in (model.config, model.generation_config):
        assert (settings.pad_token_id, settings.eos_token_id, settings.decoder_start_token_id) == (0, 2, 1)
    assert tokenizer.decode(tokenizer("Drei")["input_ids"], skip_special_tokens=True) == "drei"


def test_dates_are_learnt_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_translation, "NUM_EVALUATION_DATES", 20)
    changes = {
        "data": {"train_file": [], "test_file": [], "num_dates": 50, "date_locales": ["en", "ko"]},
        "translation": {"test": True, "max_eval_sentences": 8},
        "args": {"max_steps": 1},
    }
    main(**arguments(tmp_path / "out", [], "attention_seq2seq", **changes))
    assert len((tmp_path / "out" / "test_translations.txt").read_text().splitlines()) == 20
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer("2020-01-02")["input_ids"]) == 11


def interrupted(given: dict[str, Any], upto: int) -> TrainResult:
    """Runs again from a checkpoint, in a folder without what came after it."""
    whole = Path(given["args"].output_dir)
    part = whole.with_name("part")
    for path in [*list_checkpoints(whole)[:upto], whole / "best"]:
        if path.exists():
            shutil.copytree(path, part / path.name)
    for path in whole.glob("tokenizer*"):
        shutil.copy(path, part)
    args = replace(given["args"], output_dir=str(part), resume_from_checkpoint="auto")
    return main(**{**given, "args": args})


@pytest.mark.parametrize("upto", [1, 2, 4])
def test_early_stopping_and_scheduled_sampling_survive_an_interruption(
    tmp_path: Path, corpus: list[str], upto: int
) -> None:
    """BLEU stays where it is, so the first evaluation, at step 2, is the best, and the second the last."""
    changes = {
        "translation": {
            "metric_for_best_model": "bleu",
            "early_stopping_patience": 1,
            "scheduled_sampling": "linear",
            "min_teacher_forcing": 0.1,
            "sampling_decay_steps": 3,
        },
        "args": {"max_steps": 9, "eval_steps": 2},
    }
    given = arguments(tmp_path / "out", corpus, "attention_seq2seq", **changes)
    whole = main(**given)
    assert whole.step == 4 and len(list_checkpoints(tmp_path / "out")) == 4
    assert same(weights(tmp_path / "out"), weights(tmp_path / "out" / "checkpoint-000002"))
    assert json.loads((tmp_path / "out" / "results.json").read_text())["model"] == "best bleu"
    again = interrupted(given, upto)
    assert again.history == whole.history
    for name in (".", "best", "checkpoint-000004"):
        assert same(weights(tmp_path / "out" / name), weights(tmp_path / "part" / name))


def test_sampling_changes_training(tmp_path: Path, corpus: list[str]) -> None:
    """The negative control of the test above."""
    results = []
    for name, sampling in (("taught", None), ("sampled", "constant")):
        translation = {"scheduled_sampling": sampling, "min_teacher_forcing": 0.0}
        changes = {"translation": translation, "model_args": {"config_overrides": {**RECURRENT, "label_smoothing": 0}}}
        main(**arguments(tmp_path / name, corpus, "seq2seq", **changes))
        results.append(weights(tmp_path / name))
    assert not same(*results)


def test_the_mean_of_the_last_checkpoints_is_the_model(tmp_path: Path, corpus: list[str]) -> None:
    given = arguments(tmp_path / "out", corpus, "vanilla_transformer", translation={"average_checkpoints": 3})
    result = main(**given)
    folders = list_checkpoints(tmp_path / "out")[-3:]
    assert same(weights(tmp_path / "out"), average_checkpoints(folders))
    assert not same(weights(tmp_path / "out"), weights(folders[-1]))
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["model"] == "mean of checkpoint-000002, checkpoint-000003, checkpoint-000004"
    assert written["validation"]["loss"] != result.metrics["loss"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_seq2seq_trainer_trains_and_translates(tmp_path: Path, corpus: list[str], model_type: str) -> None:
    given = arguments(tmp_path / "out", corpus, model_type)
    pairs = read_pairs(given["data"], test=False)
    tokenizer = build_tokenizer(pairs["train"], given["data"], given["model_args"], tmp_path)
    dataset = evaluation_set(pairs["train"], tokenizer, given["data"]).dataset
    examples = [dataset[0, 0, index] for index in range(8)]
    model = build_model(replace(given["model_args"], config_overrides={**SMALL[model_type]}), tokenizer, seed=0)

    def scores(evaluated: Any) -> dict[str, float]:
        predictions, labels = (torch.tensor(part) for part in evaluated)
        texts = [
            tokenizer.batch_decode(ids.masked_fill(ids == IGNORE_INDEX, 0), skip_special_tokens=True)
            for ids in (predictions, labels)
        ]
        return {"chrf": metrics.load("chrf").compute(predictions=texts[0], references=texts[1])["score"]}

    trainer = Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            max_steps=60,
            learning_rate=2e-2,
            lr_scheduler_type="constant",
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            predict_with_generate=True,
            dataloader_pin_memory=False,
            generation_max_length=12,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=examples,
        eval_dataset=examples,
        data_collator=TranslationCollator(0),
        processing_class=tokenizer,
        compute_metrics=scores,
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.3 * before["eval_loss"]
    assert after["eval_chrf"] > before["eval_chrf"] + 20


def test_two_processes_do_what_one_does(tmp_path: Path, corpus: list[str]) -> None:
    overrides = {**SMALL["vanilla_transformer"], "dropout": 0.0}
    changes = {
        "model_args": {"config_overrides": overrides},
        "translation": {"token_budget": None, "bucket_window": 8},
        "args": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "adam_epsilon": 1e-3},
    }
    main(**arguments(tmp_path / "one", corpus, "vanilla_transformer", **changes))
    flags = f"""--train_file {" ".join(corpus)} --vocab_size 300 --held_out 0.2 --bucket_window 8 --test_num_beams 2
        --max_steps 4 --per_device_train_batch_size 4 --adam_epsilon 1e-3 --disable_tqdm""".split()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"token_budget": None, "config_overrides": overrides}))
    command = [*TORCHRUN, "scripts/train_translation.py", "--recipe", str(recipe), *flags]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "two")], env=environment, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr[-2000:]
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    # Sums in another order: float32 rounding, over four steps.
    assert two["validation"]["loss"] == pytest.approx(one["validation"]["loss"], rel=1e-5)
    assert len((tmp_path / "two" / "validation_translations.txt").read_text().splitlines()) == 8
    assert two["validation"]["signatures"] == one["validation"]["signatures"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model_type lstm", "model_type='lstm' must be one of seq2seq"),
        ("--model_type seq2seq --preset base", "preset='base' goes with model_type='vanilla_transformer'"),
        ("--early_stopping_patience 2", "needs metric_for_best_model"),
        ("--metric_for_best_model rouge", "metric_for_best_model='rouge' must be one of bleu"),
        ("--scheduled_sampling inverse_sigmoid", "needs sampling_decay_steps"),
        ("--scheduled_sampling sine", "scheduled_sampling='sine' is not known"),
        ("--num_beams 0", "num_beams=0 must be at least 1"),
        ("--validation_file a.tsv", "goes with train_file"),
        ("--held_out 1", r"held_out=1.0 must lie in \(0, 1\)"),
    ],
)
def test_flags_that_are_refused(flags: str, message: str, capsys: pytest.CaptureFixture) -> None:
    classes = (ParallelArguments, TranslationModelArguments, TranslationArguments, EngineArguments)
    with pytest.raises(SystemExit):
        parse(classes, ["--output_dir", "out", *flags.split()])
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"translation": {"average_checkpoints": 9}}, r"average_checkpoints=9: 4 checkpoint\(s\) are written"),
        ({"translation": {"average_checkpoints": 2}, "args": {"save_total_limit": 1}}, "save_total_limit=1 are kept"),
        ({"translation": {"average_checkpoints": 2}, "args": {"ema_decay": 0.9}}, "average twice"),
        ({"translation": {"metric_for_best_model": "bleu"}}, "set eval_steps"),
        ({"translation": {"scheduled_sampling": "linear"}}, "sees the whole target at once"),
        ({"translation": {"test": True}, "data": {"test_file": []}}, "test=True needs test_file"),
        ({"data": {"held_out": 0.001}}, "held_out=0.001 of 40 pairs"),
        ({"model_args": {"config_overrides": {"vocab_size": 5}}}, "vocab_size=5 is below the tokenizer's"),
    ],
)
def test_runs_that_are_refused_before_training(
    tmp_path: Path, corpus: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        main(**arguments(tmp_path / "out", corpus, "vanilla_transformer", **changes))
    assert not list_checkpoints(tmp_path / "out")


@pytest.mark.parametrize("name", ["multi30k_*.yaml", "dates_*.yaml"])
def test_recipes_are_understood(name: str) -> None:
    classes = (ParallelArguments, TranslationModelArguments, TranslationArguments, EngineArguments)
    recipes = sorted(Path("scripts/recipes").glob(name))
    assert len(recipes) >= 2
    for recipe in recipes:
        data, model_args, translation, args = parse(classes, ["--recipe", str(recipe), "--output_dir", "out"])
        assert translation.test and args.max_steps > 100 and model_args.config_overrides
        assert data.lowercase == name.startswith("multi30k")
        assert all(word in recipe.read_text() for word in ("# Expected:", "# Time:", "# Command:"))
