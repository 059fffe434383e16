"""Gates cost compute: FLOPs, parameters and time of RNN, GRU and LSTM, as wide and as large as each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.tasks.benchmark.measure import Step
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.costs import (
    optimizer_of,
    time_steps,
    training_step,
)
from hf_seqmodels.tasks.compare.figures import close, panels, style_of
from hf_seqmodels.tasks.compare.rows import mean_of, select, summarise
from hf_seqmodels.tasks.compare.training import stage
from hf_seqmodels.tasks.model_sizes import nearest_width, num_trained
from hf_seqmodels.training.flops import recurrent_flops

MODELS = ("rnn", "gru", "lstm")
MATCHES = ("width", "size")
_TIMES = ("training_microseconds", "decoding_microseconds")
_MEASURES = ("flops", "num_parameters", *_TIMES)
_LAYERS = 2
_VOCAB_SIZE = 64
_DECODED = 32  # tokens of a decoding step
_SLOWER = 1.5  # times the RNN's time per token
_VECTOR = 4  # numbers that go through a processor at once, at least: widths that are no multiples of it are slow
_BAR = 0.27  # width of a bar, where groups are 1 apart


def measure_gates(
    progress: Progress, hidden_size: int, batch_size: int, length: int, rounds: int, seed: int
) -> list[Row]:
    """Costs of the recurrent layers alone, without a vocabulary, which would cost all of them the same.

    Args:
        hidden_size: of those of the same width; the others have as many parameters as the GRU of this width.
        batch_size, length: of a training step. Decoding is for one sequence, token by token.
        rounds: of which times are medians.
    """
    torch.manual_seed(seed)
    training: dict[str, Step] = {}
    decoding: dict[str, Step] = {}
    rows: list[Row] = []
    for match in MATCHES:
        for model in MODELS:
            width = hidden_size if match == "width" else matched_width(model, hidden_size)
            network = build(model, width)
            rows.append(
                {
                    "model": model,
                    "match": match,
                    "seed": seed,
                    "hidden_size": width,
                    "num_parameters": num_recurrent(network),
                    "flops": recurrent_flops(model, width, _LAYERS),
                }
            )
            training[f"{match} {model}"] = _training(network, batch_size, length)
            decoding[f"{match} {model}"] = _decoding(build(model, width))
    trained = time_steps(training, rounds, stage(progress, 0, 0.8))
    decoded = time_steps(decoding, rounds, stage(progress, 0.8, 1))
    for row in rows:
        name = f"{row['match']} {row['model']}"
        row["training_microseconds"] = trained[name].median / (batch_size * length) * 1e6
        row["decoding_microseconds"] = decoded[name].median / _DECODED * 1e6
    return rows


def build(model: str, hidden_size: int) -> PreTrainedModel:
    """Two layers, their input as wide as they are."""
    config = AutoConfig.for_model(model, vocab_size=_VOCAB_SIZE, hidden_size=hidden_size, num_hidden_layers=_LAYERS)
    return AutoModel.from_config(config)


def num_recurrent(model: nn.Module) -> int:
    """Parameters of the recurrent layers."""
    return num_trained(model.get_submodule("stack"))


def matched_width(model: str, hidden_size: int) -> int:
    """The width at which the recurrent layers have as many parameters as the GRU's of `hidden_size`."""
    with torch.device("meta"):
        budget = num_recurrent(build("gru", hidden_size))
    return nearest_width(lambda width: build(model, width).get_submodule("stack"), budget, _VECTOR)


def _training(model: PreTrainedModel, batch_size: int, length: int) -> Step:
    model.train()
    ids = torch.randint(_VOCAB_SIZE, (batch_size, length))
    return training_step(optimizer_of(model), lambda: model(ids, use_cache=False).last_hidden_state.square().mean())


def _decoding(model: PreTrainedModel) -> Step:
    model.eval()
    ids = torch.randint(_VOCAB_SIZE, (1, 1))
    cache = None

    @torch.inference_mode()
    def step() -> None:
        nonlocal cache
        for _ in range(_DECODED):
            cache = model(ids, past_key_values=cache, use_cache=True).past_key_values

    return step


def cells(budget: BudgetName) -> list[Cell]:
    """A cell for each repetition: times differ by chance, though nothing else does."""
    hidden_size = {"quick": 384, "standard": 512, "full": 640}[budget]
    seconds = {"quick": 15, "standard": 30, "full": 50}[budget]
    settings = {"hidden_size": hidden_size, "batch_size": 16, "length": 64, "rounds": 7}
    return [
        Cell(f"gates-{seed}", measure_gates, {**settings, "seed": seed}, seconds, exclusive=True)
        for seed in range(num_seeds(budget))
    ]


def judge(rows: list[Row]) -> Verdict:
    """It holds if, at the same width, GRU and LSTM take over 1.5 times the RNN's time, in training and decoding."""
    numbers: dict[str, float | int | str] = {"slower": _SLOWER}
    for match in MATCHES:
        for measure in _MEASURES:
            for model in ("gru", "lstm"):
                ratio = mean_of(rows, measure, match=match, model=model) / mean_of(
                    rows, measure, match=match, model="rnn"
                )
                numbers[f"{match}_{model}_{measure.removesuffix('_microseconds')}"] = close(ratio)
    for model in MODELS:
        numbers[f"{model}_width"] = round(mean_of(rows, "hidden_size", match="size", model=model))
    numbers["width"] = round(mean_of(rows, "hidden_size", match="width"))
    slower = [numbers[f"width_{model}_{phase}"] for model in ("gru", "lstm") for phase in ("training", "decoding")]
    return Verdict(all(float(ratio) > _SLOWER for ratio in slower), numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Costs as multiples of the RNN's; times as they are."""
    ratios, axes = panels(2)
    for panel, match in zip(axes, MATCHES):
        own = select(rows, match=match)
        groups = [_Group(labels(f"{name}_short"), own, name, mean_of(own, name, model="rnn")) for name in _MEASURES]
        _draw_groups(panel, groups, labels, labels("ratio"))
        panel.set_title(labels(match), fontsize=10)
    times, axes = panels(2)
    for panel, measure in zip(axes, _TIMES):
        groups = [_Group(labels(match), select(rows, match=match), measure, 1.0) for match in MATCHES]
        _draw_groups(panel, groups, labels, labels(measure))
    return {"ratios": ratios, "times": times}


@dataclass(frozen=True)
class _Group:
    """Bars beside each other: a measure of every model, in some unit."""

    name: str
    rows: list[Row]
    measure: str
    unit: float


def _draw_groups(panel: Axes, groups: Sequence[_Group], labels: Labels, title: str) -> None:
    for place, model in enumerate(MODELS):
        found = [summarise(select(group.rows, model=model), group.measure, ["model"])[0] for group in groups]
        panel.bar(
            [index + _BAR * (place - 1) for index in range(len(groups))],
            [summary.mean / group.unit for summary, group in zip(found, groups)],
            0.9 * _BAR,
            yerr=[s.spread / group.unit for s, group in zip(found, groups)] if found[0].count > 1 else None,
            capsize=3,
            color=style_of(model)[0],
            label=labels(model),
        )
    panel.set_xticks(range(len(groups)), [group.name for group in groups], fontsize=8)
    panel.set_ylabel(title)
    panel.grid(alpha=0.3, axis="y")
    panel.legend(fontsize=8)


CLAIM = Claim("gates", cells, judge, draw)
