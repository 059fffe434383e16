"""The optimiser's groups: who decays, and who learns at which rate."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_seqmodels.training import CheckpointError, EngineArguments
from hf_seqmodels.training.optimizers import (
    build_optimizer,
    learning_rate_scales,
    parameter_groups,
    set_learning_rate,
    undecayed_names,
)
from hf_seqmodels.training.precision import MasterWeights
from tests.training.toy import ToyRun, layer_depths, run, run_in_process


class _Patches(nn.Module):
    """What a vision transformer has: bare position table and class token, layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.ones(1, 3, 4))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"position_embeddings", "cls_token"}

    def layer_depths(self) -> dict[str, int]:
        heads = {"head.weight": 3, "head.bias": 3}
        layers = {f"layers.{n}.{part}": n + 1 for n in range(2) for part in ("weight", "bias")}
        return {"position_embeddings": 0, "cls_token": 0, **layers, **heads}


@pytest.mark.parametrize("masters", [False, True])
def test_model_names_what_does_not_decay(masters: bool) -> None:
    model = _Patches()
    undecayed = undecayed_names(model)
    named = dict((MasterWeights(model) if masters else model).named_parameters())
    decayed, others = parameter_groups(named.items(), undecayed, 0.1)
    names = {id(parameter): name for name, parameter in named.items()}
    assert [names[id(p)] for p in decayed["params"]] == ["layers.0.weight", "layers.1.weight", "head.weight"]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {"position_embeddings", "cls_token", "head.bias"} < {names[id(p)] for p in others["params"]}
    assert "lr_scale" not in decayed  # the layout of checkpoints without layer-wise rates


def test_misspelt_name_is_refused() -> None:
    model = _Patches()
    model.no_weight_decay = lambda: {"pos_embed"}
    with pytest.raises(ValueError, match=r"no_weight_decay\(\) names \['pos_embed'\]"):
        undecayed_names(model)


@pytest.mark.parametrize("masters", [False, True])
def test_rate_falls_with_the_distance_from_the_head(masters: bool) -> None:
    model = _Patches()
    undecayed, scales = undecayed_names(model), learning_rate_scales(model, 0.5)
    named = dict((MasterWeights(model) if masters else model).named_parameters())
    groups = parameter_groups(named.items(), undecayed, 0.1, scales)
    optimizer = build_optimizer("adamw", groups, 1.0, (0.9, 0.999), 1e-12)
    set_learning_rate(optimizer, 0.25)
    by_id = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, depth in model.layer_depths().items():
        group = by_id[id(named[name])]
        assert group["lr"] == 0.25 * 0.5 ** (3 - depth)
        assert group["weight_decay"] == (0.0 if name in undecayed else 0.1)
    # Adam's first step moves each weight by its rate, whatever its gradient.
    token = named["cls_token"].detach().clone()
    for parameter in named.values():
        parameter.grad = torch.full_like(parameter, 7.0)
    optimizer.step()
    torch.testing.assert_close(token - named["cls_token"], torch.full_like(token, 0.25 * 0.125))


def test_models_that_cannot_say_their_depths() -> None:
    with pytest.raises(ValueError, match=r"layer_decay=0\.75 must be 1\.0 for Linear"):
        learning_rate_scales(nn.Linear(2, 2), 0.75)
    model = _Patches()
    model.layer_depths = lambda: {"head.weight": 3}
    with pytest.raises(ValueError, match=r"leaves out \['cls_token', 'head\.bias'"):
        learning_rate_scales(model, 0.75)
    model.layer_depths = lambda: {"neck.weight": 3}
    with pytest.raises(ValueError, match=r"layer_depths\(\) names \['neck\.weight'\]"):
        learning_rate_scales(model, 0.75)


class _Rates(ToyRun):
    """Compares each weight's rate at each step with the schedule and the depth."""

    def engine(self):
        engine = super().engine()
        named = {id(p): name for name, p in (engine.masters or engine.model).named_parameters()}
        depths, self.checked = layer_depths(engine.model), 0

        def check(optimizer: torch.optim.Optimizer, *_: object) -> None:
            peak = self.base_learning_rate * self.batch * self.accumulation / 256
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    scale = self.layer_decay ** (3 - depths[named[id(parameter)]])
                    expected = peak * engine.schedule(engine.state.step + 1) * scale
                    assert group["lr"] == pytest.approx(expected, rel=1e-12)
                    self.checked += 1

        engine.optimizer.register_step_pre_hook(check)
        return engine


@pytest.mark.parametrize("precision", ["no", "bf16_master"])
def test_rates_of_a_run(tmp_path: Path, precision: str) -> None:
    toy = _Rates(
        output_dir=str(tmp_path),
        precision=precision,
        steps=3,
        eval_steps=0,
        base_learning_rate=0.64,
        layer_decay=0.75,
    )
    result = run(toy)
    assert toy.checked == 3 * 46  # weights of the toy
    (rate,) = [entry["learning_rate"] for entry in result.history if "learning_rate" in entry]
    assert rate == pytest.approx(0.64 * 4 / 256 * (1 / 3))  # linear to 0 after step 3


@pytest.mark.parametrize(("there", "here"), [(1.0, 0.5), (0.5, 1.0), (0.5, 0.75)])
def test_resuming_with_another_layer_decay_is_refused(tmp_path: Path, there: float, here: float) -> None:
    toy = ToyRun(output_dir=str(tmp_path), steps=2, eval_steps=0, layer_decay=there)
    assert run_in_process(toy) == 0
    with pytest.raises(CheckpointError, match="Resume with the layer_decay that it was trained with"):
        replace(toy, layer_decay=here).engine()


def test_base_learning_rate_is_that_of_256_examples() -> None:
    args = EngineArguments(
        output_dir="x", per_device_train_batch_size=64, gradient_accumulation_steps=2, base_learning_rate=1e-3
    )
    assert args.peak_learning_rate(num_processes=4) == 2e-3
    assert EngineArguments(output_dir="x", learning_rate=5e-4).peak_learning_rate(num_processes=4) == 5e-4
