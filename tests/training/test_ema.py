"""Averaged weights: their formula, what is evaluated and kept, and what a checkpoint must hold."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hf_seqmodels.training import CheckpointError
from hf_seqmodels.training.checkpoint import list_checkpoints
from hf_seqmodels.training.ema import AveragedWeights
from hf_seqmodels.training.precision import MasterWeights
from tests.training.toy import ToyRun, run_in_process

TOY = ToyRun(output_dir="", steps=4, eval_steps=0, ema_decay=0.9)


def _model() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    return model


def _bits(model: nn.Module) -> dict[str, tuple[int, torch.dtype, bytes]]:
    """Where each tensor lies, its dtype, and its bytes."""
    return {
        name: (tensor.data_ptr(), tensor.dtype, tensor.detach().clone().flatten().view(torch.uint8).numpy().tobytes())
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def test_average_is_the_formula() -> None:
    model = _model()
    average = AveragedWeights(model, model.named_parameters(), decay=0.3)
    expected = {name: p.detach().double() for name, p in model.named_parameters() if p.requires_grad}
    for step in range(1, 9):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        average.update(step)
        # The warm-up rules up to step 2: 2/11, 3/12; then 4/13 is above 0.3.
        d = [2 / 11, 3 / 12, 0.3][min(step, 3) - 1]
        for name in expected:
            expected[name] = d * expected[name] + (1 - d) * model.get_parameter(name).detach().double()
    with average.swapped_in():
        for name, value in expected.items():
            # eight roundings to float32 of numbers around 1
            torch.testing.assert_close(model.get_parameter(name).double(), value, rtol=0, atol=1e-6)


def test_decay_at_long_run_is_the_decay() -> None:
    average = AveragedWeights(_model(), [], decay=0.9999)
    assert average.decay_at(10) == 11 / 20
    assert average.decay_at(10**6) == 0.9999


@pytest.mark.parametrize("masters", [False, True])
def test_swap_restores_bitwise(masters: bool) -> None:
    model = _model()
    source = MasterWeights(model) if masters else model
    average = AveragedWeights(model, source.named_parameters(), decay=0.9)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    if masters:
        source.publish()
    before, frozen = _bits(model), model[2].bias.detach().clone()
    with pytest.raises(KeyError, match="inside"), average.swapped_in():
        after = _bits(model)
        assert model[0].weight.dtype == (torch.bfloat16 if masters else torch.float32)
        assert torch.equal(model[2].bias, frozen)
        raise KeyError("inside")
    assert _bits(model) == before
    changed = {name for name in before if after[name][2] != before[name][2]}
    assert changed == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight"}


def test_under_masters_the_full_precision_is_float32() -> None:
    model = _model()
    masters = MasterWeights(model)
    average = AveragedWeights(model, masters.named_parameters(), decay=0.9)
    start = copy.deepcopy([p.detach() for p in masters.parameters() if p.requires_grad])
    with masters.full_precision(), average.swapped_in():
        values = [p for p in model.parameters() if p.requires_grad]
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert all(torch.equal(value, first) for value, first in zip(values, start))
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


class _Watching(ToyRun):
    """Computes the average again in a naive loop, and compares what is evaluated with it."""

    def engine(self):
        engine = super().engine()
        # The average follows what the optimiser changes: the masters, where there are any.
        self.source = dict((engine.masters or engine.model).named_parameters())
        self.expected = {name: p.detach().double() for name, p in self.source.items()}
        self.taken = 0
        engine.optimizer.register_step_post_hook(self._follow)
        return engine

    def _follow(self, *_: object) -> None:
        self.taken += 1
        d = min(self.ema_decay, (1 + self.taken) / (10 + self.taken))
        for name, p in self.source.items():
            self.expected[name] = d * self.expected[name] + (1 - d) * p.detach().double()
        self.raw = {name: p.detach().clone() for name, p in self.source.items()}

    def evaluate(self, engine):
        # float32 roundings of numbers below 2; and in bfloat16 one more, to 8 bits
        close = {"rtol": 0.0 if engine.masters is None else 2**-8, "atol": 1e-6}
        for name, weight in engine.model.named_parameters():
            torch.testing.assert_close(weight.double(), self.expected[name], **close)
        # Negative control: the raw weights are far from that.
        table = "bert.embeddings.word_embeddings.weight"
        assert not torch.isclose(self.raw[table].double(), self.expected[table], **close).all()
        (Path(self.output_dir) / "evaluated").touch()
        return {"loss": 0.0}


@pytest.mark.parametrize("precision", ["no", "bf16_master"])
def test_average_is_evaluated_and_kept(tmp_path: Path, precision: str) -> None:
    toy = _Watching(**{**vars(TOY), "output_dir": str(tmp_path), "precision": precision, "eval_steps": 2})
    assert run_in_process(toy) == 0
    assert (tmp_path / "evaluated").exists()
    last = list_checkpoints(tmp_path)[-1]
    raw, average = load_file(last / "model.safetensors"), load_file(last / "ema.safetensors")
    final = load_file(tmp_path / "model.safetensors")
    assert final.keys() == raw.keys() == average.keys()
    for name, value in final.items():
        assert torch.equal(value, average[name]) and value.dtype == torch.float32
    assert any(not torch.equal(raw[name], average[name]) for name in raw)


def test_checkpoint_without_averages_is_refused(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path), ema_decay=0.0)
    assert run_in_process(toy) == 0
    assert not list(tmp_path.rglob("ema.safetensors"))
    with pytest.raises(CheckpointError, match=r"no ema\.safetensors.*Resume with ema_decay=0"):
        replace(toy, ema_decay=0.9).engine()


def test_averages_are_not_dropped_silently(tmp_path: Path) -> None:
    toy = replace(TOY, output_dir=str(tmp_path))
    assert run_in_process(toy) == 0
    with pytest.raises(CheckpointError, match="which ema_decay=0 would lose"):
        replace(toy, ema_decay=0.0).engine()


def test_averages_of_other_weights_are_refused(tmp_path: Path) -> None:
    average = AveragedWeights(nn.Linear(2, 2), nn.Linear(2, 2).named_parameters(), decay=0.9)
    save_file({"weight": torch.ones(2, 2), "gain": torch.ones(2)}, tmp_path / "ema.safetensors")
    with pytest.raises(CheckpointError, match=r"other weights than are trained here: \['bias', 'gain'\]"):
        average.load(tmp_path)
