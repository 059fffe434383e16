"""Rare ways to lose work or to resume the wrong run: each of these once failed."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_seqmodels.training import CheckpointError, Phase
from hf_seqmodels.training.checkpoint import list_checkpoints, rotate, verify
from tests.training.toy import ToyRun, remains, run, run_in_process

TOY = ToyRun(output_dir="", eval_steps=0)


def _exit_code(target: Any, *args: Any) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    process.join(60)
    process.kill()
    return process.exitcode


def _names(folder: str | Path) -> list[str]:
    return [path.name for path in list_checkpoints(Path(folder))]


def _run_with_file_size_limit(toy: ToyRun, limit: int) -> None:
    engine = toy.engine()
    engine.storage.save_checkpoint(engine.state, engine.carried)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(CheckpointError, match=r"checkpoint-000002.*Earlier checkpoints are untouched"):
        engine.train()


# At these sizes safetensors (29 kB of weights) and torch.save (86 kB of moments) are cut short.
@pytest.mark.parametrize("limit", [8_000, 40_000], ids=["weights", "optimizer"])
def test_write_that_fails_halfway(tmp_path: Path, limit: int) -> None:
    """The libraries that write the large files report a full disk by errors of their own, not by OSError."""
    assert _exit_code(_run_with_file_size_limit, replace(TOY, output_dir=str(tmp_path)), limit) == 0
    assert _names(tmp_path) == ["checkpoint-000000"]
    verify(tmp_path / "checkpoint-000000")
    assert not list(tmp_path.glob(".writing-*"))


class _KeepOne(ToyRun):
    def arguments(self):
        args = super().arguments()
        args.save_total_limit = 1
        return args


def test_rotation_spares_the_newest_beside_damaged_later_ones(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path))
    assert run_in_process(toy) == 0
    for step in (6, 8):
        (tmp_path / f"checkpoint-{step:06d}" / "optimizer.pt").write_bytes(b"cut")
    # Resumes from step 4, saves step 5, and is killed.
    keep = {**vars(toy), "save_steps": 1, "kill_before_forward": 3}
    assert run_in_process(_KeepOne(**keep)) == -9
    assert _names(tmp_path) == ["checkpoint-000005", "checkpoint-000006", "checkpoint-000008"]
    verify(tmp_path / "checkpoint-000005")
    rotate(tmp_path, tmp_path / "checkpoint-000008", 1)
    assert _names(tmp_path) == ["checkpoint-000008"]


def test_damaged_last_checkpoint_is_written_again(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path))
    assert run_in_process(toy) == 0
    whole = remains(tmp_path)
    (tmp_path / "checkpoint-000008" / "optimizer.pt").write_bytes(b"cut")
    assert run_in_process(toy) == 0
    verify(tmp_path / "checkpoint-000008")
    assert remains(tmp_path) == whole


class _StoppedAtASave(_KeepOne):
    """A signal in the step after which a checkpoint is due; dies if that checkpoint is written twice."""

    def engine(self):
        engine = super().engine()
        engine.model.register_forward_pre_hook(self._signal)
        self.calls, self.renames = 0, 0
        sys.addaudithook(self._watch)
        return engine

    def _signal(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == 7:  # the first micro-batch of step 4
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[0]).endswith(".writing-checkpoint-000004"):
            self.renames += 1
            if self.renames == 2:
                os.kill(os.getpid(), signal.SIGKILL)


def test_stop_ends_the_step_it_falls_in_and_saves_it_once(tmp_path: Path) -> None:
    """A second save of the same step with one checkpoint to keep would have a moment without any."""
    assert run_in_process(_StoppedAtASave(**{**vars(TOY), "output_dir": str(tmp_path)})) == 0
    assert _names(tmp_path) == ["checkpoint-000004"]


def _run_in_own_group(toy: ToyRun) -> None:
    os.setpgrp()
    assert run(toy).stopped_by == "SIGTERM"


def test_signal_to_the_whole_process_group_spares_the_workers(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path), steps=4000, save_steps=1000, workers=2)
    process = multiprocessing.get_context("fork").Process(target=_run_in_own_group, args=(toy,))
    process.start()
    assert process.pid is not None
    time.sleep(2)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 0
    verify(list_checkpoints(tmp_path)[-1])


def test_launchers_accumulation_does_not_divide_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --gradient_accumulation_steps 4` sets a variable by which accelerate divides each loss."""
    results = []
    for name, steps in (("plain", None), ("launched", "4")):
        if steps is not None:
            monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", steps)
        toy = replace(TOY, output_dir=str(tmp_path / name), steps=2)
        assert run_in_process(toy) == 0
        results.append(remains(toy.output_dir)["weights"])
    assert results[0] == results[1]


def test_another_configuration_of_equal_shapes_is_refused(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path), steps=2)
    assert run_in_process(toy) == 0
    with pytest.raises(CheckpointError, match=r"config\.attention_probs_dropout_prob is 0\.1 there and 0\.0 here"):
        replace(toy, steps=4, dropout=0.0).engine()


class _OtherPhases(ToyRun):
    def engine(self):
        import tests.training.toy as module

        original = module.Engine
        module.Engine = lambda model, args, phases, **rest: original(model, args, self.cut(phases), **rest)
        try:
            return super().engine()
        finally:
            module.Engine = original

    def cut(self, phases: list[Phase]) -> list[Phase]:
        return [replace(phases[0], steps=0), phases[0]]


class _ShorterFirstPhase(_OtherPhases):
    def cut(self, phases: list[Phase]) -> list[Phase]:
        return [replace(phases[0], steps=2), replace(phases[0], steps=self.steps - 2)]


def test_phases_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Phase 'length 12': steps=0 must be at least 1"):
        run(_OtherPhases(**{**vars(TOY), "output_dir": str(tmp_path / "none")}))
    toy = replace(TOY, output_dir=str(tmp_path / "run"), steps=4)
    assert run_in_process(toy) == 0
    with pytest.raises(CheckpointError, match="saved at step 4 of phase 1, which ends at 2"):
        run(_ShorterFirstPhase(**{**vars(toy), "steps": 8}))


class _AddedPhase(_OtherPhases):
    def cut(self, phases: list[Phase]) -> list[Phase]:
        return [replace(phases[0], steps=4), replace(phases[0], steps=4)]


def test_a_phase_may_be_added_to_a_finished_run(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path), steps=4)
    assert run_in_process(toy) == 0
    assert _exit_code(run, _AddedPhase(**{**vars(toy), "steps": 8})) == 0
    assert remains(tmp_path)["step"] == 8


class _Lamb(ToyRun):
    def arguments(self):
        args = super().arguments()
        args.optim = "lamb"
        return args


def test_lamb_resumes_bitwise(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_optimizer")
    fields = {**vars(TOY), "steps": 4}
    whole, broken = (
        _Lamb(**{**fields, "output_dir": str(tmp_path / "a")}),
        {**fields, "output_dir": str(tmp_path / "b")},
    )
    assert run_in_process(whole) == 0
    assert run_in_process(_Lamb(**{**broken, "kill_before_forward": 6})) == -9
    assert run_in_process(_Lamb(**broken)) == 0
    weights = [(tmp_path / name / "checkpoint-000004" / "model.safetensors").read_bytes() for name in "ab"]
    states = [torch.load(tmp_path / name / "checkpoint-000004" / "optimizer.pt", weights_only=True) for name in "ab"]
    assert weights[0] == weights[1]
    assert states[0]["param_groups"] == states[1]["param_groups"]
