"""Contracts 4 and 6 where the state is carried from step to step: neither cuts nor interruptions leave a trace."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.modeling_outputs import CausalLMOutput

from hf_seqmodels.data.packing import PaddedCollator
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.training import CheckpointError, Engine, Phase
from hf_seqmodels.training.carried import CarriedStates
from hf_seqmodels.training.checkpoint import MANIFEST, finish_checkpoint, verify
from tests.training.toy import ToyPairs, ToyRun, remains, run, run_in_process, run_in_two_processes
from tests.training.toy_streams import ToyStreams, last_checkpoint

TOY = ToyStreams(output_dir="")
CUT = {"micro_batches_and_rows": "[2, 4]"}


@pytest.mark.parametrize("model_type", ["rnn", "lstm", "gru"])
def test_chunks_are_one_long_sequence(model_type: str) -> None:
    """The losses of all chunks, the state carried, are those of whole streams in one forward."""
    toy = replace(TOY, model_type=model_type, double=True)
    model, dataset = toy.build_model().eval(), toy.dataset()
    carried = CarriedStates(RecurrentCache, 1, 8)
    bounds = dataset.chunk_bounds(0)
    assert len(bounds) > 4
    total, parts = 0.0, []
    for chunk in range(len(bounds) - 1):
        examples = [dataset[(0, chunk, stream)] for stream in range(8)]
        batch = {
            "input_ids": torch.tensor([example["input_ids"].tolist() for example in examples]),
            "shift_labels": torch.tensor([example["shift_labels"].tolist() for example in examples]),
        }
        parts.append(batch)
        batch, past = carried.split(0, {**batch, "continues": examples[0]["continues"]})
        outputs = model(**batch, **past, num_items_in_batch=1)
        carried.keep(0, outputs)
        total += outputs.loss.item()
    whole = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    expected = model(**whole, num_items_in_batch=1).loss.item()
    assert abs(total - expected) < 1e-9  # float64 sums in another order
    forgetful = sum(model(**part, num_items_in_batch=1).loss.item() for part in parts)
    assert abs(forgetful - expected) > 1e-3


def _weights(toy: ToyStreams, folder: Path) -> dict[str, torch.Tensor]:
    toy = replace(toy, output_dir=str(folder))
    if toy.processes == 1:
        assert run_in_process(toy) == 0
    else:
        assert run_in_two_processes(toy) == [0, 0]
    return load_file(folder / "model.safetensors")


EXACT = replace(TOY, double=True, dropout=0.0, batch=8, accumulation=1, eval_steps=0, save_steps=0)


@pytest.mark.parametrize("cut", [(4, 2, 1), (2, 4, 1), (4, 1, 2), (2, 2, 2)], ids=str)
def test_cut_leaves_no_trace(tmp_path: Path, cut: tuple[int, int, int]) -> None:
    whole = _weights(EXACT, tmp_path / "whole")
    batch, accumulation, processes = cut
    pieces = _weights(replace(EXACT, batch=batch, accumulation=accumulation, processes=processes), tmp_path / "pieces")
    for name, expected in whole.items():
        # float64 sums in another order, after 8 steps of Adam, which magnifies them.
        torch.testing.assert_close(pieces[name], expected, rtol=0, atol=1e-9)


class _Forgetful(ToyStreams):
    def engine(self) -> Engine:
        engine = super().engine()
        engine.carried.split = lambda slot, batch: ({k: v for k, v in batch.items() if k != "continues"}, {})
        return engine


def test_the_state_matters(tmp_path: Path) -> None:
    """Negative control: without the carried state, training is visibly another."""
    whole = _weights(EXACT, tmp_path / "whole")
    forgetful = _weights(_Forgetful(**vars(EXACT)), tmp_path / "forgetful")
    assert max((forgetful[name] - whole[name]).abs().max() for name in whole) > 1e-4


def _check(folder: Path, toy: ToyStreams, **kill: Any) -> None:
    whole, broken = (replace(toy, output_dir=str(folder / name)) for name in ("whole", "broken"))
    assert run_in_process(whole) == 0
    assert run_in_process(replace(broken, **kill)) == -9
    assert run_in_process(broken) == 0
    assert remains(broken.output_dir) == remains(whole.output_dir)
    assert remains(whole.output_dir)["carried"]


SETTINGS: dict[str, dict[str, Any]] = {
    "workers": {"workers": 2},
    "gru, random lengths": {"model_type": "gru", "random_bptt": True},
    "averaged, autocast": {"ema_decay": 0.9, "precision": "bf16"},
    "master weights": {"precision": "bf16_master"},
    "activation checkpointing": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_killed_and_resumed(tmp_path: Path, setting: dict[str, Any]) -> None:
    # Two micro-batches a step: dies in the second one of step 4, with the checkpoint of step 2.
    _check(tmp_path, replace(TOY, **setting), kill_before_forward=8)


@pytest.mark.parametrize("kill", [10, 12], ids=["before", "after"])
def test_phase_switch(tmp_path: Path, kill: int) -> None:
    _check(tmp_path, replace(TOY, phases=True, save_steps=1), kill_before_forward=kill)


def test_killed_while_the_state_is_written(tmp_path: Path) -> None:
    kill = {"kill_on_event": "os.rename", "kill_on_path": ".writing-", "kill_on_occurrence": 2}
    _check(tmp_path, TOY, **kill)


def test_activation_checkpointing_changes_nothing(tmp_path: Path) -> None:
    toy = replace(EXACT, dropout=0.1)
    plain = _weights(toy, tmp_path / "plain")
    again = _weights(replace(toy, gradient_checkpointing=True), tmp_path / "again")
    for name, expected in plain.items():
        torch.testing.assert_close(again[name], expected, rtol=0, atol=1e-9)  # as above


def test_two_processes_resume_bitwise(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path / "whole"), processes=2, batch=2)
    broken = replace(toy, output_dir=str(tmp_path / "broken"))
    assert run_in_two_processes(toy) == [0, 0]
    assert run_in_two_processes(replace(broken, kill_before_forward=8)) != [0, 0]
    assert run_in_two_processes(broken) == [0, 0]
    assert len(remains(toy.output_dir)["carried"]) == 2
    assert remains(broken.output_dir) == remains(toy.output_dir)


class _Stopped(ToyStreams):
    def engine(self) -> Engine:
        engine, calls = super().engine(), []

        def stop(*_: Any) -> None:
            calls.append(1)
            if len(calls) == 5:  # in step 3, which has no checkpoint of its own
                os.kill(os.getpid(), signal.SIGTERM)

        engine.model.register_forward_pre_hook(stop)
        return engine


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_by_sigterm_and_resumed(tmp_path: Path, workers: int) -> None:
    toy = replace(TOY, workers=workers, eval_steps=0)
    whole, broken = (replace(toy, output_dir=str(tmp_path / name)) for name in ("whole", "broken"))
    assert run_in_process(whole) == 0
    assert run_in_process(_Stopped(**vars(broken))) == 0
    assert last_checkpoint(broken.output_dir).name == "checkpoint-000003"
    assert run_in_process(broken) == 0
    assert remains(broken.output_dir) == remains(whole.output_dir)


def _tamper(checkpoint: Path, change: Any) -> None:
    """Changes the carried state, with a manifest that fits, so that only the content is wrong."""
    (checkpoint / MANIFEST).unlink()
    checkpoint.rename(aside := checkpoint.with_name("aside"))
    change(aside / "carried-0.safetensors")
    finish_checkpoint(aside, checkpoint)


def _zero(path: Path) -> None:
    named = {name: torch.zeros_like(tensor) for name, tensor in load_file(path).items()}
    save_file(named, path, CUT)


def test_resuming_needs_the_state(tmp_path: Path) -> None:
    toy = replace(TOY, save_steps=1)
    whole, broken = (replace(toy, output_dir=str(tmp_path / name)) for name in ("whole", "broken"))
    assert run_in_process(whole) == 0
    assert run_in_process(replace(broken, kill_before_forward=6)) == -9
    checkpoint = last_checkpoint(broken.output_dir)
    verify(checkpoint)
    _tamper(checkpoint, _zero)
    assert run_in_process(broken) == 0
    assert remains(broken.output_dir)["weights"] != remains(whole.output_dir)["weights"]


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path), steps=2)
    assert run_in_process(toy) == 0
    with pytest.raises(CheckpointError, match=r"a step had 2 micro-batch\(es\) of 4 rows, this run has 4 of 2"):
        replace(toy, steps=4, batch=2, accumulation=4).engine()
    _tamper(tmp_path / "checkpoint-000002", lambda path: save_file({}, path, CUT))
    with pytest.raises(CheckpointError, match="no state of micro-batch 1"):
        replace(toy, steps=4).engine().train()
    _tamper(tmp_path / "checkpoint-000002", Path.unlink)
    with pytest.raises(CheckpointError, match=r"Cannot restore the carried states from .*carried-0"):
        replace(toy, steps=4).engine()


class _Stateless(ToyRun):
    def engine(self) -> Engine:
        import tests.training.toy as module

        original = module.Engine
        module.Engine = lambda model, args, phases, **rest: original(
            model, args, [replace(phase, carries=RecurrentCache) for phase in phases], **rest
        )
        try:
            return super().engine()
        finally:
            module.Engine = original


class _Silent(ToyStreams):
    def build_model(self) -> Any:
        model = super().build_model()
        forward = model.forward

        def silent(past_key_values: Any = None, **kwargs: Any) -> CausalLMOutput:
            return CausalLMOutput(loss=forward(**kwargs).loss)

        model.forward = silent
        return model


def test_models_without_a_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SeqBertForPreTraining takes no past_key_values"):
        _Stateless(output_dir=str(tmp_path / "bert")).engine()
    with pytest.raises(ValueError, match="returned no past_key_values"):
        run(_Silent(output_dir=str(tmp_path / "silent")))


def test_token_budgets_and_carried_states_exclude_each_other(tmp_path: Path) -> None:
    phase = Phase("x", 8, ToyPairs(8, False), PaddedCollator(0), 2, token_budget=24, carries=RecurrentCache)
    with pytest.raises(ValueError, match="token_budget=24 does not go with carried states"):
        Engine(TOY.build_model(), replace(TOY, output_dir=str(tmp_path)).arguments(), [phase], count_items=len)
