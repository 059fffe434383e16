"""What may go wrong around a run: signals, NaN, a full disk, damaged and foreign checkpoints, used folders."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_seqmodels.training import CheckpointError, EngineArguments, NonFiniteLossError, open_run_folder
from hf_seqmodels.training.checkpoint import find_checkpoint, list_checkpoints, verify
from tests.training.toy import ToyRun, remains, run, run_in_process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_saves_and_exits_zero(tmp_path: Path, number: signal.Signals) -> None:
    toy = ToyRun(output_dir=str(tmp_path / "run"), steps=4000, save_steps=0, eval_steps=0, workers=1)
    process = multiprocessing.get_context("fork").Process(target=run, args=(toy,))
    process.start()
    assert process.pid is not None
    time.sleep(2)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == 0
    (saved,) = list_checkpoints(tmp_path / "run")
    verify(saved)
    step = json.loads((saved / "training_state.json").read_text())["step"]
    assert 0 < step < 4000
    # The stopped run goes on as if nothing had happened.
    longer = replace(toy, steps=step + 3)
    assert run_in_process(longer) == 0
    assert remains(longer.output_dir)["step"] == step + 3


class _Poisoned(ToyRun):
    def engine(self):
        engine = super().engine()
        engine.optimizer.register_step_post_hook(self._poison)
        return engine

    def _poison(self, optimizer: torch.optim.Optimizer, *_) -> None:
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken == 5:
            optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))


def test_nan_names_the_step_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"Step 6 \(phase length 12\).*learning_rate"):
        run(_Poisoned(output_dir=str(tmp_path)))
    newest = list_checkpoints(tmp_path)[-1]
    assert newest.name == "checkpoint-000004"
    verify(newest)


class _FullDisk(ToyRun):
    def engine(self):
        engine = super().engine()
        write = engine.storage._save_model
        engine.storage._save_model = lambda *args: write(*args) if engine.state.step < 4 else self._full(args[0])
        return engine

    def _full(self, folder: Path) -> None:
        # /dev/full answers every write with ENOSPC.
        (folder / "model.safetensors").symlink_to("/dev/full")
        (folder / "model.safetensors").write_bytes(b"0" * 10)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
def test_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint-000004.*No space left"):
        run(_FullDisk(output_dir=str(tmp_path)))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-000002"]
    verify(tmp_path / "checkpoint-000002")
    assert not list(tmp_path.glob(".writing-*"))


@pytest.fixture
def finished(tmp_path: Path) -> ToyRun:
    toy = ToyRun(output_dir=str(tmp_path / "run"), steps=4, eval_steps=0)
    assert run_in_process(toy) == 0
    return toy


def test_damaged_checkpoints_are_skipped_with_a_word(finished: ToyRun, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(finished.output_dir)
    first, second = list_checkpoints(folder)
    weights = second / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert find_checkpoint(folder, "auto") == first
    assert "checkpoint-000004" in caplog.text and "bytes instead of" in caplog.text
    with pytest.raises(CheckpointError, match="bytes instead of"):
        find_checkpoint(folder, str(second))
    changed = bytearray((first / "optimizer.pt").read_bytes())
    changed[-1] ^= 1
    (first / "optimizer.pt").write_bytes(changed)
    with pytest.raises(CheckpointError, match="Every checkpoint"):
        find_checkpoint(folder, "auto")


def test_foreign_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no manifest\.json"):
        find_checkpoint(tmp_path, str(tmp_path))
    with pytest.raises(CheckpointError, match="not a folder"):
        find_checkpoint(tmp_path, str(tmp_path / "nothing"))
    assert find_checkpoint(tmp_path, "auto") is None


def test_another_models_checkpoint_is_refused(finished: ToyRun) -> None:
    with pytest.raises(CheckpointError, match="is a checkpoint of SeqBertForPreTraining, not of SeqBertForMaskedLM"):
        replace(finished, nsp=False).engine()


def test_missing_random_state_is_an_error(finished: ToyRun) -> None:
    newest = list_checkpoints(Path(finished.output_dir))[-1]
    (newest / "rng-0.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"rng-0\.safetensors is missing"):
        find_checkpoint(Path(finished.output_dir), str(newest))


def test_used_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty.*resume_from_checkpoint auto"):
        open_run_folder(EngineArguments(output_dir=str(tmp_path)))
    with pytest.raises(ValueError, match="is a file"):
        open_run_folder(EngineArguments(output_dir=str(tmp_path / "notes.txt")))


def test_no_pickle_runs_on_load(finished: ToyRun) -> None:
    class Bomb:
        def __reduce__(self):
            return (os.system, ("true",))

    newest = list_checkpoints(Path(finished.output_dir))[-1]
    torch.save({"state": Bomb()}, newest / "optimizer.pt")
    with pytest.raises(Exception, match="weights_only"):
        finished.engine().storage.load(newest)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_steps", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("base_learning_rate", 0.0, "above 0, or none"),
        ("layer_decay", 0.0, r"in \(0, 1\]"),
        ("layer_decay", 1.1, r"in \(0, 1\]"),
        ("ema_decay", 1.0, r"in \[0, 1\)"),
        ("adam_beta1", 1.0, r"in \[0, 1\)"),
        ("optim", "sgd", "adamw, lamb"),
        ("lr_scheduler_type", "steep", "linear, cosine"),
        ("mixed_precision", "fp8", "no, bf16, bf16_master"),
        ("hub_strategy", "sometimes", "end, every_save"),
        ("warmup_steps", -1, "at least 0"),
        ("save_total_limit", 0, "at least 1"),
    ],
)
def test_arguments_say_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}={value!r} must be .*{allowed}"):
        EngineArguments(output_dir="x", **{field: value})
