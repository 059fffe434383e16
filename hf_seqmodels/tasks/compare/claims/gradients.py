"""Vanishing and exploding gradients: what of the last step's loss reaches each earlier step, by architecture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from hf_seqmodels.analysis import GradientFlow, gradient_flow, source_gradient_flow
from hf_seqmodels.data.random import generator
from hf_seqmodels.models.recurrent import FusedRecurrence
from hf_seqmodels.tasks.compare.answering import (
    ENCODER_DECODERS,
    LEARNING_RATES,
    NUM_SYMBOLS,
    PARAMETERS,
    RECURRENT,
    as_batch,
    matched_answerer,
    random_symbols,
)
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import draw_bars, draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.training import Batch, fit
from hf_seqmodels.tasks.model_sizes import num_trained

MODELS = (*RECURRENT, "rnn_large", "attention_seq2seq", "vanilla_transformer", "seq_bert")
ATTENTION = ("attention_seq2seq", "vanilla_transformer", "seq_bert")
GATED = ("lstm", "gru")
LARGE_GAIN, LARGE_LEARNING_RATE = 2.0, 1e-2
# How recurrent weights and gates can begin. `uniform` is PyTorch's own default.
BEGINNINGS: dict[str, tuple[str, dict[str, Any], float | None]] = {
    "rnn_uniform": ("rnn", {"recurrent_init": "uniform"}, None),
    "rnn_orthogonal": ("rnn", {"recurrent_init": "orthogonal"}, None),
    "rnn_gain": ("rnn", {"recurrent_init": "uniform"}, LARGE_GAIN),
    "lstm_closed": ("lstm", {"recurrent_init": "uniform", "forget_gate_bias": 0.0}, None),
    "lstm_one": ("lstm", {"recurrent_init": "uniform", "forget_gate_bias": 1.0}, None),
    "lstm_chrono": ("lstm", {"recurrent_init": "uniform", "chrono_max_length": 0}, None),
}
VANISHES, HOLDS, EXPLODES = 0.9, 0.95, 1.05
_POINTS = 24  # of a curve that are kept


def measure_gradients(
    progress: Progress, *, model: str, length: int, max_steps: int, batch_size: int, learning_rate: float, seed: int
) -> list[Row]:
    """Curves of a new model, and of the same after a short training on naming the first of `length` symbols."""
    kind, fields, gain = _recipe(model, length)
    network, flows = _new(kind, fields, gain, length, seed), {}
    flows["new"] = _flow(kind, network, length, seed)
    if max_steps:
        fit(
            network,
            lambda step: _first_symbol(kind, generator(seed, "gradients/train", step), batch_size, length),
            max_steps,
            learning_rate,
            progress,
        )
        flows["trained"] = _flow(kind, network, length, seed)
    rows = []
    for state, flow in flows.items():
        norms = flow.hidden[0]
        common = {"model": model, "seed": seed, "state": state, "num_parameters": num_trained(network)}
        rows.append({**common, "factor": float(np.exp(flow.log_slopes[0])), "reaching": float(norms[0] / norms[-1])})
        for place in np.unique(np.linspace(0, length - 1, min(_POINTS, length)).round().astype(int)):
            norm = float(norms[place])
            rows.append({**common, "distance": int(length - 1 - place), "norm": norm if norm > 0 else None})
    return rows


def measure_beginnings(progress: Progress, *, length: int, seed: int) -> list[Row]:
    """The factor of one step in new RNNs and LSTMs, by how they begin."""
    rows: list[Row] = []
    for number, (name, (kind, fields, gain)) in enumerate(BEGINNINGS.items()):
        fields = {**fields, **({"chrono_max_length": length} if "chrono_max_length" in fields else {})}
        network = _new(kind, fields, gain, length, seed)
        factor = float(np.exp(_flow(kind, network, length, seed).log_slopes[0]))
        rows.append({"beginning": name, "seed": seed, "step_factor": factor, "num_parameters": num_trained(network)})
        progress((number + 1) / len(BEGINNINGS))
    return rows


def _recipe(model: str, length: int) -> tuple[str, dict[str, Any], float | None]:
    """Of a name in `MODELS`: the kind of model, fields of its configuration, and the gain of recurrent weights."""
    if model == "rnn_large":
        return BEGINNINGS["rnn_gain"]
    if model in GATED:
        return model, {"recurrent_init": "uniform", "chrono_max_length": length}, None
    if model == "rnn":
        return BEGINNINGS["rnn_uniform"]
    if model == "attention_seq2seq":
        return model, {"recurrent_init": "uniform", "cell_type": "rnn"}, None
    return model, {}, None


def _new(kind: str, fields: dict[str, Any], gain: float | None, length: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = matched_answerer(kind, PARAMETERS, NUM_SYMBOLS, length, fields)
    if gain is not None:
        _scale_recurrence(network, gain)
    return network


@torch.no_grad()
def _scale_recurrence(network: nn.Module, gain: float) -> None:
    """Recurrent weights of deviation gain / √hidden_size, whose spectral radius is about `gain` (Girko's law)."""
    for module in network.modules():
        if isinstance(module, FusedRecurrence):
            weight = module.rnn.all_weights[0][1]
            weight.mul_(gain / (weight.std() * weight.shape[1] ** 0.5))


def _first_symbol(kind: str, rng: np.random.Generator, batch_size: int, length: int) -> Batch:
    symbols = random_symbols(rng, batch_size, length, NUM_SYMBOLS)
    return as_batch(kind, symbols, symbols[:, 0])


def _flow(kind: str, network: Any, length: int, seed: int) -> GradientFlow:
    """On held-out examples, in float64: gradients far below float32's smallest number are some, too."""
    batch = _first_symbol(kind, generator(seed, "gradients/test"), 16, length)
    ids, labels = batch["input_ids"], batch["labels"]
    network.double()
    if kind in ENCODER_DECODERS:
        flow = source_gradient_flow(network, ids, labels)
    else:
        flow = gradient_flow(
            network, ids, loss=lambda outputs: nn.functional.cross_entropy(outputs.logits, labels, reduction="none")
        )
    network.float()
    return flow


def cells(budget: BudgetName) -> list[Cell]:
    """One for each model and seed, and the beginnings of recurrent weights."""
    length = {"quick": 100, "standard": 200, "full": 400}[budget]
    max_steps = {"quick": 100, "standard": 300, "full": 500}[budget]
    scale = length * max_steps / (100 * 100)
    found = []
    for seed in range(num_seeds(budget)):
        for model in MODELS:
            settings = {
                "model": model,
                "length": length,
                "max_steps": max_steps,
                "batch_size": 32,
                "learning_rate": LARGE_LEARNING_RATE if model == "rnn_large" else LEARNING_RATES[model],
                "seed": seed,
            }
            found.append(Cell(f"gradients-{model}-{seed}", measure_gradients, settings, 2 * scale))
        settings = {"length": length, "seed": seed}
        found.append(Cell(f"gradients-beginnings-{seed}", measure_beginnings, settings, length / 100))
    return found


def judge(rows: Sequence[Row]) -> Verdict:
    """The criterion of the text `how`: factors of one step in new models."""
    factor = {model: mean_of(rows, "factor", model=model, state="new") for model in MODELS}
    kept = [*GATED, *ATTENTION]
    holds = (
        factor["rnn"] < VANISHES
        and factor["rnn_large"] > EXPLODES
        and all(HOLDS < factor[model] < EXPLODES for model in kept)
    )
    numbers: dict[str, float | int | str] = {f"factor_{model}": factor[model] for model in MODELS}
    numbers |= {f"reaching_{model}": mean_of(rows, "reaching", model=model, state="new") for model in MODELS}
    for name in BEGINNINGS:
        numbers[f"factor_{name}"] = mean_of(rows, "step_factor", beginning=name)
    numbers |= {"vanishes": VANISHES, "holds": HOLDS, "explodes": EXPLODES, "gain": LARGE_GAIN}
    distance = max(row["distance"] for row in rows if "distance" in row)
    numbers |= {"distance": distance, "length": distance + 1}
    return Verdict(holds, numbers)


def draw(rows: Sequence[Row], labels: Labels) -> dict[str, Figure]:
    """Norms against the distance, new and trained; the factor of a step, by the beginning."""
    curves, axes = panels(2)
    for panel, state in zip(axes, ("new", "trained")):
        shown = [row for row in select(rows, state=state) if "distance" in row]
        draw_lines(panel, shown, labels, x="distance", y="norm", log_y=True, legend=False)
        panel.set_title(labels(state))
    axes[0].legend(fontsize=8, loc="lower left")
    beginnings, (panel,) = panels(1)
    draw_bars(panel, [row for row in rows if "beginning" in row], labels, y="step_factor", by="beginning")
    panel.axvline(1, color="grey", linestyle="--")
    return {"curves": curves, "beginnings": beginnings}


CLAIM = Claim("gradients", cells, judge, draw)
