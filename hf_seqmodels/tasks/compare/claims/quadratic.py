"""Attention's quadratic cost: memory and time of one layer against length, beside those of a recurrent layer."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_seqmodels.models.attention import eager_attention_forward
from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.configuration_rnn import GRUConfig, LSTMConfig
from hf_seqmodels.models.modeling_bert import SeqBertLayer
from hf_seqmodels.models.recurrent import RecurrentLayer
from hf_seqmodels.tasks.benchmark.measure import Step
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.costs import time_steps
from hf_seqmodels.tasks.compare.curves import exponent, worded_crossings
from hf_seqmodels.tasks.compare.figures import close, draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select, values_of
from hf_seqmodels.tasks.compare.training import saved_bytes
from hf_seqmodels.tasks.model_sizes import nearest_width, num_trained

_CONFIGS = {"lstm": LSTMConfig, "gru": GRUConfig}
RECURRENT = tuple(_CONFIGS)
ATTENTION = ("attention_eager", "attention_sdpa")
LAYERS = ("layer_eager", "layer_sdpa")
_OCTAVES = 2  # doublings, up to the longest, that exponents are fitted to
_LIMIT = 1.5  # an exponent above it is nearer to 2, one below it nearer to 1

Part = Callable[[torch.Tensor], torch.Tensor]


def measure_growth(
    progress: Progress, hidden_size: int, num_heads: int, lengths: list[int], rounds: int, seed: int
) -> list[Row]:
    """Memory and time of forward and backward, for one sequence of each length.

    Args:
        hidden_size: of the Transformer's layer; the recurrent ones have as many parameters.
        num_heads: of attention.
        rounds: of which times are medians.
    """
    torch.manual_seed(seed)
    parts: dict[str, tuple[Part, int, int | None]] = {}
    for kernel in ("eager", "sdpa"):
        parts[f"attention_{kernel}"] = _attention(kernel, num_heads), 3 * hidden_size, None
        layer = transformer_layer(hidden_size, num_heads, kernel)
        parts[f"layer_{kernel}"] = layer, hidden_size, num_trained(layer)
    for model in RECURRENT:
        width = nearest_width(partial(recurrent_layer, model), num_trained(layer))
        recurrent = recurrent_layer(model, width)
        parts[model] = _first(recurrent), width, num_trained(recurrent)
    steps: dict[str, Step] = {}
    rows: list[Row] = []
    for name, (part, width, size) in parts.items():
        for length in lengths:
            inputs = torch.randn(1, length, width, requires_grad=True)
            with saved_bytes() as saved:
                outputs = part(inputs)
            del outputs
            steps[f"{name} {length}"] = _step(part, inputs)
            row: Row = {"model": name, "seed": seed, "length": length, "memory_mib": saved[0] / 2**20}
            rows.append(row if size is None else {**row, "num_parameters": size})
    timings = time_steps(steps, rounds, progress)
    for row in rows:
        row["milliseconds"] = timings[f"{row['model']} {row['length']}"].median * 1e3
    return rows


def transformer_layer(hidden_size: int, num_heads: int, kernel: str) -> nn.Module:
    """A layer of SeqBert: attention and feed-forward network."""
    config = SeqBertConfig(
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config._attn_implementation = kernel
    return SeqBertLayer(config)


def recurrent_layer(model: str, hidden_size: int) -> nn.Module:
    """A layer of LSTM or GRU, its input as wide."""
    return RecurrentLayer(_CONFIGS[model](hidden_size=hidden_size), hidden_size)


def _attention(kernel: str, num_heads: int) -> Part:
    """Attention without projections, from queries, keys and values beside each other."""
    interface = ALL_ATTENTION_FUNCTIONS.get_interface(kernel, eager_attention_forward)
    module = nn.Module()  # kernels ask it whether it is training and causal
    module.is_causal = False  # type: ignore[assignment]

    def part(inputs: torch.Tensor) -> torch.Tensor:
        query, key, value = (each.unflatten(-1, (num_heads, -1)).transpose(1, 2) for each in inputs.chunk(3, -1))
        return interface(module, query, key, value, None, scaling=query.shape[-1] ** -0.5, dropout=0.0)[0]

    return part


def _first(module: nn.Module) -> Part:
    return lambda inputs: module(inputs)[0]


def _step(part: Part, inputs: torch.Tensor) -> Step:
    def step() -> None:
        part(inputs).sum().backward()

    return step


def cells(budget: BudgetName) -> list[Cell]:
    """A cell for each repetition: times differ by chance; memory is exact."""
    longest = {"quick": 2048, "standard": 4096, "full": 4096}[budget]
    rounds = {"quick": 5, "standard": 5, "full": 9}[budget]
    seconds = {"quick": 10, "standard": 35, "full": 60}[budget]
    lengths = [2**power for power in range(6, longest.bit_length())]
    settings = {"hidden_size": 64, "num_heads": 2, "lengths": lengths, "rounds": rounds}
    return [
        Cell(f"quadratic-{seed}", measure_growth, {**settings, "seed": seed}, seconds, exclusive=True)
        for seed in range(num_seeds(budget))
    ]


def judge(rows: list[Row]) -> Verdict:
    """It holds if the exponents of attention alone are nearer to 2 than to 1, and those of LSTM and GRU are not.

    Of attention these are the time by either kernel, and the memory where it keeps its weights (eager).
    """
    lengths = sorted(values_of(rows, "length"))
    curves = {
        (model, y): [mean_of(rows, y, model=model, length=length) for length in lengths]
        for model in values_of(rows, "model")
        for y in ("memory_mib", "milliseconds")
    }
    exponents = {key: exponent(lengths, curve, _OCTAVES) for key, curve in curves.items()}
    numbers: dict[str, float | int | str] = {
        "limit": _LIMIT,
        "longest": lengths[-1],
        "fitted_from": min(length for length in lengths if length >= lengths[-1] / 2**_OCTAVES),
    }
    for (model, y), value in exponents.items():
        kind = "memory" if y == "memory_mib" else "time"
        numbers[f"{model}_{kind}_exponent"] = close(value)
        numbers[f"{model}_{kind}"] = close(curves[model, y][-1])
    for layer, model in itertools.product(LAYERS, RECURRENT):
        for y, kind in (("memory_mib", "memory"), ("milliseconds", "time")):
            crossing = worded_crossings(lengths, curves[layer, y], curves[model, y])
            numbers[f"{layer}_{model}_{kind}_crossing"] = crossing
    quadratic = [("attention_eager", "memory_mib"), *((model, "milliseconds") for model in ATTENTION)]
    linear = [(model, y) for model in RECURRENT for y in ("memory_mib", "milliseconds")]
    holds = all(exponents[key] > _LIMIT for key in quadratic) and all(exponents[key] < _LIMIT for key in linear)
    return Verdict(holds, numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Memory and time: of attention alone, and of whole layers, each beside LSTM and GRU."""
    return {"attention": _draw(rows, labels, ATTENTION), "layer": _draw(rows, labels, LAYERS)}


def _draw(rows: list[Row], labels: Labels, models: Sequence[str]) -> Figure:
    own = [row for model in (*models, *RECURRENT) for row in select(rows, model=model)]
    figure, axes = panels(2)
    for panel, y in zip(axes, ("memory_mib", "milliseconds")):
        draw_lines(panel, own, labels, x="length", y=y, log_x=True, log_y=True)
    return figure


CLAIM = Claim("quadratic", cells, judge, draw)
