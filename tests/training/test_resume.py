"""Contract 6: a run that was killed and resumed is, bit for bit, the run that was not."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.toy import ToyRun, remains, run_in_process

# 12 examples in a shard, 24 in an epoch, 4 in a step: step 6 ends the first epoch.
KILLS = {
    "mid-epoch": {"kill_before_forward": 6},
    "mid-accumulation": {"kill_before_forward": 8},
    "epoch boundary": {"kill_before_forward": 13},
    "while the optimiser is written": {
        "kill_on_event": "open",
        "kill_on_path": "optimizer.pt",
        "kill_on_occurrence": 2,
    },
    "before the rename": {"kill_on_event": "os.rename", "kill_on_path": ".writing-", "kill_on_occurrence": 2},
}
SETTINGS = [
    dict(zip(("workers", "dropout", "packing", "nsp"), values))
    for values in itertools.product((0, 2), (0.0, 0.1), (False, True), (True, False))
]


def _check(folder: Path, toy: ToyRun, kill: dict) -> None:
    whole = replace(toy, output_dir=str(folder / "whole"))
    broken = replace(toy, output_dir=str(folder / "broken"))
    assert run_in_process(whole) == 0
    assert run_in_process(replace(broken, **kill)) == -9
    assert run_in_process(broken) == 0
    assert remains(broken.output_dir) == remains(whole.output_dir)
    assert not list(Path(broken.output_dir).glob(".writing-*"))


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_killed_anywhere(tmp_path: Path, kill: dict) -> None:
    _check(tmp_path, ToyRun(output_dir=""), kill)


@pytest.mark.parametrize("setting", SETTINGS[::5], ids=str)
def test_settings(tmp_path: Path, setting: dict) -> None:
    _check(tmp_path, ToyRun(output_dir="", **setting), KILLS["mid-accumulation"])


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_whole_grid(tmp_path: Path, setting: dict, kill: dict) -> None:
    _check(tmp_path, ToyRun(output_dir="", **setting), kill)


@pytest.mark.parametrize("kill", [{"kill_before_forward": 10}, {"kill_before_forward": 12}], ids=["before", "after"])
def test_phase_switch(tmp_path: Path, kill: dict) -> None:
    _check(tmp_path, ToyRun(output_dir="", phases=True), kill)


def test_master_weights(tmp_path: Path) -> None:
    _check(tmp_path, ToyRun(output_dir="", precision="bf16_master"), KILLS["mid-epoch"])


@pytest.mark.parametrize("precision", ["no", "bf16", "bf16_master"])
def test_averaged_weights_and_layer_decay(tmp_path: Path, precision: str) -> None:
    toy = ToyRun(output_dir="", precision=precision, ema_decay=0.9, layer_decay=0.5)
    _check(tmp_path, toy, KILLS["mid-accumulation"])
    finals = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert finals[0] == finals[1]
    assert remains(tmp_path / "whole")["average"]


def test_evaluating_more_often_changes_nothing(tmp_path: Path) -> None:
    results = []
    for eval_steps in (1, 4):
        toy = ToyRun(output_dir=str(tmp_path / str(eval_steps)), eval_steps=eval_steps, ema_decay=0.9)
        assert run_in_process(toy) == 0
        results.append([remains(toy.output_dir)[part] for part in ("weights", "average")])
    assert results[0] == results[1]


def _last(folder: str) -> Path:
    return sorted(Path(folder).glob("checkpoint-*"))[-1]


@pytest.mark.parametrize("lost", ["rng", "cursor", "optimizer", "average"])
def test_negative_control(tmp_path: Path, lost: str) -> None:
    """Whatever a checkpoint holds is needed: with one part reset, the resumed run differs."""
    toy = ToyRun(output_dir=str(tmp_path / "whole"), ema_decay=0.9)
    broken = replace(toy, output_dir=str(tmp_path / "broken"))
    assert run_in_process(toy) == 0
    assert run_in_process(replace(broken, kill_before_forward=9)) == -9
    checkpoint = _last(broken.output_dir)
    if lost == "rng":
        shutil.copy(_last(toy.output_dir) / "rng-0.safetensors", checkpoint)
    elif lost == "cursor":
        state = json.loads((checkpoint / "training_state.json").read_text())
        state["cursor"] = {"epoch": 0, "shard": 0, "position": 0}
        (checkpoint / "training_state.json").write_text(json.dumps(state))
    elif lost == "average":
        shutil.copy(checkpoint / "model.safetensors", checkpoint / "ema.safetensors")
    else:
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        for slots in state["state"].values():
            slots["exp_avg"].zero_()
        torch.save(state, checkpoint / "optimizer.pt")
    _sign_anew(checkpoint)
    assert run_in_process(broken) == 0
    part = "average" if lost == "average" else "weights"
    assert remains(broken.output_dir)[part] != remains(toy.output_dir)[part]


def _sign_anew(checkpoint: Path) -> None:
    """A manifest that fits the tampered files, so that only the content is wrong."""
    from hf_seqmodels.training.checkpoint import MANIFEST, finish_checkpoint

    (checkpoint / MANIFEST).unlink()
    aside = checkpoint.with_name("aside")
    checkpoint.rename(aside)
    finish_checkpoint(aside, checkpoint)
