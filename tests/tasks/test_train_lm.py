"""Language models as users train them: on streams and documents, killed and resumed, and with mistakes."""

import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    pipeline,
)

from hf_seqmodels.data.embedded import embedded_text
from hf_seqmodels.tasks import train_lm
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.lm_evaluation import evaluate_contiguous, evaluation_streams
from hf_seqmodels.tasks.train_lm import flops_per_token, main
from hf_seqmodels.tasks.train_lm_arguments import LMModelArguments, LMObjectiveArguments, LMTextArguments
from hf_seqmodels.training import EngineArguments, TrainingError, engine
from hf_seqmodels.training.checkpoint import list_checkpoints

STEPS = 6
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "hidden_dropout_prob": 0.1, "recurrent_dropout_prob": 0.1}
TEXT = "\n".join(sentence for document in embedded_text()[:20] for sentence in document) + "\n"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rate takes half a second to measure, in each of these runs."""
    monkeypatch.setattr(engine, "measure_gemm_rate", lambda dtype, device: 1e9)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "mine.txt"
    path.write_text(TEXT)
    return str(path)


def arguments(folder: Path, corpus: str, mode: str = "contiguous", /, **changes: dict[str, Any]) -> dict[str, Any]:
    """What `main` takes, for a few steps on a few documents."""
    given = {
        "text": LMTextArguments(train_file=[corpus], vocab_size=300),
        "model_args": LMModelArguments(config_overrides=SMALL),
        "objective": LMObjectiveArguments(mode=mode, bptt=12, max_length=40, sample_length=5),
        "args": EngineArguments(
            output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=4, disable_tqdm=True, save_steps=2
        ),
    }
    return {name: replace(value, **changes.get(name, {})) for name, value in given.items()}


@pytest.mark.parametrize("mode", ["contiguous", "documents"])
@pytest.mark.parametrize("tokenization", ["byte", "subword", "word"])
def test_every_tokenization_and_mode(
    tmp_path: Path, corpus: str, tokenization: str, mode: str, capsys: pytest.CaptureFixture
) -> None:
    model_type = {"byte": "rnn", "subword": "lstm", "word": "gru"}[tokenization]
    changes = {"text": {"tokenization": tokenization}, "model_args": {"model_type": model_type}}
    result = main(**arguments(tmp_path / "out", corpus, mode, **changes))
    assert result.step == STEPS
    metrics = result.metrics
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert metrics["bits_per_character"] == pytest.approx(metrics["nats_per_character"] / math.log(2))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.model_type == model_type and model.config.vocab_size == len(tokenizer)
    for settings in (model.config, model.generation_config):
        assert (settings.pad_token_id, settings.bos_token_id, settings.eos_token_id) == (
            tokenizer.pad_token_id,
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
        )
    shown = capsys.readouterr().out.split("training_state.json are in")[1]
    assert len(shown.splitlines()) > 1
    assert ("<bos>" in shown) == (mode == "documents")
    generated = pipeline("text-generation", model=str(tmp_path / "out"))("The", max_new_tokens=3)
    assert generated[0]["generated_text"]


def test_training_learns_and_goes_on_from_a_model(tmp_path: Path, corpus: str) -> None:
    changes = {
        "args": {"max_steps": 150, "learning_rate": 1e-2, "per_device_train_batch_size": 16},
        "objective": {"bptt": 24, "sample_length": 0},
        "model_args": {"config_overrides": {"hidden_size": 32, "num_hidden_layers": 1, "initializer_range": 0.5}},
    }
    first = main(**arguments(tmp_path / "first", corpus, **changes))
    assert first.metrics["nats_per_character"] < 2.9  # from log(259) = 5.6; the frequencies of bytes alone give 3.13
    model_args = {"model_name_or_path": str(tmp_path / "first"), "config_overrides": {"output_dropout_prob": 0.1}}
    second = main(**arguments(tmp_path / "second", corpus, model_args=model_args, args={"learning_rate": 1e-4}))
    assert abs(second.metrics["loss"] - first.metrics["loss"]) < 0.1
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "second").config.output_dropout_prob == 0.1


VARIANTS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "random lengths, averaged": ("contiguous", {"objective": {"random_bptt": True}, "args": {"ema_decay": 0.9}}),
    "autocast": ("contiguous", {"args": {"mixed_precision": "bf16"}}),
    "master weights": ("documents", {"args": {"mixed_precision": "bf16_master"}}),
    "activation checkpointing": ("contiguous", {"args": {"gradient_checkpointing": True}}),
    "token budget": ("documents", {"objective": {"token_budget": 100}}),
    "adaptive": (
        "contiguous",
        {
            "text": {"tokenization": "word"},
            "model_args": {
                "config_overrides": {
                    **SMALL,
                    "softmax": "adaptive",
                    "adaptive_cutoffs": [50, 150],
                    "tie_word_embeddings": False,
                    "activation_regularization": 2.0,
                    "temporal_activation_regularization": 1.0,
                }
            },
        },
    ),
    "embedded corpus": ("documents", {"text": {"train_file": []}}),
    "learnt initial state": (
        "contiguous",
        {"model_args": {"config_overrides": {**SMALL, "learn_initial_state": True}}},
    ),
}


@pytest.mark.parametrize(("mode", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_variants(tmp_path: Path, corpus: str, mode: str, changes: dict[str, dict[str, Any]]) -> None:
    result = main(**arguments(tmp_path / "out", corpus, mode, **changes))
    assert result.step == STEPS and np.isfinite(result.metrics["loss"])


def _stub(model: torch.nn.Module) -> Any:
    """As much of an engine as the evaluation asks of it, in one process."""
    accelerator = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))
    return SimpleNamespace(model=model, accelerator=accelerator)


def test_evaluation_carries_the_state_over_every_chunk(tmp_path: Path, corpus: str) -> None:
    main(**arguments(tmp_path / "out", corpus))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").double().eval()
    tokens = np.frombuffer(TEXT.encode(), dtype=np.uint8)[:500].astype(np.int32)
    with torch.no_grad():
        ids = torch.from_numpy(tokens.astype(np.int64))[None]
        whole = model(ids, labels=ids).loss.item()
        for chunk in (7, 100, 1000):
            result = evaluate_contiguous(_stub(model), tokens, characters=499, num_streams=1, chunk=chunk)
            assert result["loss"] == pytest.approx(whole, abs=1e-12)  # float64 sums in another order
            assert result["nats_per_character"] == pytest.approx(whole, abs=1e-12)
        several = [evaluate_contiguous(_stub(model), tokens, 499, 8, chunk)["loss"] for chunk in (7, 100)]
    assert several[0] == pytest.approx(several[1], abs=1e-12)


@pytest.mark.parametrize("streams", [1, 3, 4, 9, 20])
def test_evaluation_streams_hold_every_target_once(streams: int) -> None:
    tokens = np.arange(10, 20)
    ids, labels = evaluation_streams(tokens, streams)
    real = labels != -100
    assert labels[real].tolist() == list(range(11, 20))
    assert (ids[real] + 1 == labels[real]).all()
    assert len(ids) <= streams and real.any(dim=1).all()


def _state_of(folder: Path) -> tuple[Any, ...]:
    last = list_checkpoints(folder)[-1]
    history = json.loads((last / "training_state.json").read_text())["history"]
    optimizer = torch.load(last / "optimizer.pt", weights_only=True)["state"]
    moments = [(index, name, value.tolist()) for index, slots in optimizer.items() for name, value in slots.items()]
    files = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
    return last.name, files, moments, history


class _Killed:
    """Counts a model's training forwards and sends itself a signal before one of them."""

    def __init__(self, at: int, number: int):
        self.left, self.number = at, number

    def __call__(self, module: torch.nn.Module, *_: Any) -> None:
        self.left -= module.training
        if self.left == 0 and module.training:
            os.kill(os.getpid(), self.number)


def _train(given: dict[str, Any], kill: _Killed | None) -> None:
    if kill is not None:
        build = train_lm.build_model

        def build_doomed(*args: Any) -> Any:
            model = build(*args)
            model.register_forward_pre_hook(kill)
            return model

        train_lm.build_model = build_doomed
    main(**given)


def run_in_process(given: dict[str, Any], kill: _Killed | None = None) -> int | None:
    """The exit code of a run in a process of its own; negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(given, kill))
    process.start()
    process.join()
    return process.exitcode


GRID = list(itertools.product(("contiguous", "documents"), (0, 2), (signal.SIGKILL, signal.SIGTERM)))


def _check_resume(folder: Path, corpus: str, mode: str, workers: int, number: int, **args: Any) -> None:
    settings = {"dataloader_num_workers": workers, "eval_steps": 4, "gradient_accumulation_steps": 2, **args}
    whole, broken = folder / "whole", folder / "broken"
    assert run_in_process(arguments(whole, corpus, mode, args=settings)) == 0
    settings["resume_from_checkpoint"] = "auto"
    killed = run_in_process(arguments(broken, corpus, mode, args=settings), _Killed(10, number))  # in step 5
    assert killed == (-9 if number == signal.SIGKILL else 0)
    assert list_checkpoints(broken)[-1].name == f"checkpoint-00000{4 if number == signal.SIGKILL else 5}"
    assert run_in_process(arguments(broken, corpus, mode, args=settings)) == 0
    assert _state_of(broken) == _state_of(whole)


@pytest.mark.parametrize(("mode", "workers", "number"), [GRID[index] for index in (1, 2, 5, 6)])
def test_resumed_as_if_never_stopped(tmp_path: Path, corpus: str, mode: str, workers: int, number: int) -> None:
    _check_resume(tmp_path, corpus, mode, workers, number)


@pytest.mark.slow
@pytest.mark.parametrize("args", [{}, {"ema_decay": 0.9, "mixed_precision": "bf16"}], ids=["plain", "bf16"])
@pytest.mark.parametrize(("mode", "workers", "number"), GRID)
def test_whole_grid(tmp_path: Path, corpus: str, mode: str, workers: int, number: int, args: dict[str, Any]) -> None:
    _check_resume(tmp_path, corpus, mode, workers, number, **args)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["contiguous", "documents"])
def test_two_processes_train_and_evaluate_as_one(tmp_path: Path, corpus: str, mode: str) -> None:
    """Real gloo processes, as `torchrun` and `accelerate launch` start them."""
    settings = ["--train_file", corpus, "--mode", mode, "--bptt", "12", "--max_steps", "4", "--disable_tqdm"]
    settings += ["--config_overrides", json.dumps({"hidden_size": 16}), "--per_device_eval_batch_size", "8"]
    results = []
    for name, launcher, size in (("one", [sys.executable], "4"), ("two", TORCHRUN, "2")):
        where = ["--output_dir", str(tmp_path / name), "--per_device_train_batch_size", size]
        command = [*launcher, "scripts/train_lm.py", *settings, *where]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ACCELERATE_USE_CPU": "true"})
        (state,) = (tmp_path / name).glob("checkpoint-*/training_state.json")
        metrics = json.loads(state.read_text())["history"][-1]
        results.append((load_file(tmp_path / name / "model.safetensors"), metrics))
    (weights, metrics), (others, other_metrics) = results
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-4)  # Adam on float32 sums in another order
    assert metrics == pytest.approx(other_metrics, abs=1e-3)


def test_trainer_trains_it_on_documents(tmp_path: Path, corpus: str) -> None:
    """transformers' own Trainer and collator, without anything of this package but the model."""
    main(**arguments(tmp_path / "out", corpus, "documents", args={"max_steps": 1}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    lines = Dataset.from_dict({"text": TEXT.splitlines()[:64]})
    examples = lines.map(lambda row: {"input_ids": tokenizer(row["text"][:60])["input_ids"]}, remove_columns="text")
    settings = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_steps=24,
        learning_rate=1e-2,
        logging_steps=4,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = Trainer(model=model, args=settings, train_dataset=examples, data_collator=collator)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] > 4.5 and losses[-1] < losses[0] - 1


def test_flops_are_those_of_the_matrix_products() -> None:
    config = LMModelArguments(config_overrides={"hidden_size": 8, "embedding_size": 4, "num_hidden_layers": 1})
    tokenizer = train_lm.train_lm_tokenizer([], "byte", 0)
    model = train_lm.build_model(config, tokenizer, EngineArguments(output_dir="unused"))
    # Gates, the way back to the embeddings' width, and the table as output: forward 2, backward 4 for each weight.
    assert flops_per_token(model) == 6 * (4 * 8 * (8 + 4) + 8 * 4 + 259 * 4)


def test_mistakes_are_named(tmp_path: Path, corpus: str) -> None:
    short, named = tmp_path / "short.txt", tmp_path / "named"
    short.write_text("abc")
    main(**arguments(named, corpus, args={"max_steps": 1}))
    bert = tmp_path / "bert"
    shutil.copytree(named, bert)
    (bert / "config.json").write_text('{"model_type": "bert"}')
    refusals: list[tuple[str, str, dict[str, Any]]] = [
        ("nowhere.txt: no such file", "contiguous", {"text": {"train_file": ["nowhere.txt"]}}),
        ("too few for 4 streams", "contiguous", {"text": {"train_file": [str(short)], "validation_file": [corpus]}}),
        ("evaluate on has 1 token", "contiguous", {"text": {"validation_file": [str(tmp_path / "one.txt")]}}),
        ("max_length=2 must be at least 3", "documents", {"objective": {"max_length": 2}}),
        ("is a bert; it must be one of rnn", "contiguous", {"model_args": {"model_name_or_path": str(bert)}}),
        ("vocab_size=258 is below", "contiguous", {"model_args": {"config_overrides": {"vocab_size": 258}}}),
        ("hidden_size", "contiguous", {"model_args": {"config_overrides": {"hidden_size": 0}}}),
        ("bidirectional", "contiguous", {"model_args": {"config_overrides": {"bidirectional": True}}}),
    ]
    (tmp_path / "one.txt").write_text("a")
    for number, (message, mode, changes) in enumerate(refusals):
        with pytest.raises(Exception, match=message) as caught:
            main(**arguments(tmp_path / f"out{number}", corpus, mode, **changes))
        assert isinstance(caught.value, ValueError | TrainingError) or "Strict" in type(caught.value).__name__


def test_arguments_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="tokenization='char' must be one of"):
        LMTextArguments(tokenization="char")
    with pytest.raises(ValueError, match="give one of the two"):
        LMTextArguments(train_file=["a"], dataset_name="b")
    with pytest.raises(ValueError, match="held_out=0"):
        LMTextArguments(held_out=0)
    with pytest.raises(ValueError, match="model_type='bert' must be one of rnn, lstm, gru"):
        LMModelArguments(model_type="bert")
    for given in ({"mode": "x"}, {"bptt": 0}, {"token_budget": 10}, {"mode": "documents", "random_bptt": True}):
        with pytest.raises(ValueError, match=next(reversed(given))):
            LMObjectiveArguments(**given)


@pytest.mark.parametrize("recipe", sorted(Path("scripts/recipes").glob("lm_*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    classes = (LMTextArguments, LMModelArguments, LMObjectiveArguments, EngineArguments)
    parse(classes, ["--recipe", str(recipe), "--output_dir", "out"])
    text = recipe.read_text()
    assert all(word in text for word in ("# Expected:", "# Time:", "# Command:"))


def test_the_script_explains_its_flags_and_its_errors(tmp_path: Path) -> None:
    script = [sys.executable, "scripts/train_lm.py"]
    shown = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--bptt" in shown and "--tokenization" in shown and "--model_type" in shown
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\n")
    command = [*script, "--train_file", str(bad), "--output_dir", str(tmp_path / "out")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "bad.txt, line 2: not UTF-8" in refused.stderr and "Traceback" not in refused.stderr
