"""Seq2Seq's bottleneck: whether a copy is without mistakes, by the length of the source, with attention and without.

Cho et al. 2014, "On the Properties of Neural Machine Translation", section 4; Bahdanau et al. 2015, section 5.2.2.
"""

from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure

from hf_seqmodels.data.copying import CopyingTask
from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor
from hf_seqmodels.tasks.bottleneck import collate, score_written
from hf_seqmodels.tasks.bottleneck_arguments import MODELS, BottleneckArguments
from hf_seqmodels.tasks.bottleneck_models import build_model, matched_config
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import close, draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of
from hf_seqmodels.tasks.compare.training import Batch, fit, stage
from hf_seqmodels.tasks.model_sizes import num_trained

LEARNT = 0.5  # of the sources of a length, more than these must be copied without a mistake

_EPOCH_EXAMPLES = 6400
_BUCKET_WINDOW = 640
_TRAINING_SHARE = 0.9  # of a cell's time

_TASKS: dict[BudgetName, dict[str, Any]] = {
    "quick": {"name": "copy", "shortest": 3, "longest": 26, "num_symbols": 16},
    "standard": {"name": "copy", "shortest": 3, "longest": 34, "num_symbols": 20},
    "full": {"name": "copy", "shortest": 5, "longest": 60, "num_symbols": 24},
}
_SETTINGS: dict[BudgetName, dict[str, Any]] = {
    "quick": {"parameter_budget": 60_000, "max_steps": 1500, "bucket_width": 4, "eval_examples": 150},
    "standard": {"parameter_budget": 112_000, "max_steps": 2000, "bucket_width": 4, "eval_examples": 150},
    "full": {"parameter_budget": 250_000, "max_steps": 4000, "bucket_width": 8, "eval_examples": 200},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "seq2seq": {},
    "attention_seq2seq": {},
    "vanilla_transformer": {"normalize_before": True},
}
_LEARNING_RATES = {"seq2seq": 5e-3, "attention_seq2seq": 5e-3, "vanilla_transformer": 2e-3}
# On one core: a step of the quick budget, and how many times as long one of the others takes.
_SECONDS_PER_STEP = {"seq2seq": 0.017, "attention_seq2seq": 0.017, "vanilla_transformer": 0.039}
_SLOWER: dict[BudgetName, float] = {"quick": 1.0, "standard": 1.9, "full": 4.0}


def measure_copying(
    progress: Progress,
    *,
    model: str,
    config: dict[str, Any],
    task: dict[str, Any],
    parameter_budget: int,
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    bucket_width: int,
    eval_examples: int,
    seed: int,
) -> list[Row]:
    """Trains a model to write its source again, and counts its mistakes on new sources.

    Args:
        model: of `bottleneck_arguments.MODELS`.
        config: fields of its configuration; its sizes follow from `parameter_budget`.
        task: of `CopyingTask`.
        parameter_budget: about as many parameters as it has.
        max_steps: of training; every step has new examples.
        batch_size: examples of a step.
        learning_rate: at its peak.
        bucket_width: lengths that are reported together.
        eval_examples: new sources for each bucket.
        seed: of weights and examples.

    Returns:
        A row for each bucket of lengths: `model`, `seed`, `num_parameters`, `shortest`, `longest` and `length` (their
        middle) of the sources in symbols, `exact_match`, `token_accuracy`, and the budget: `steps`, `examples`.
    """
    copying = CopyingTask(**task)
    args = BottleneckArguments(parameter_budget=parameter_budget, config_overrides={model: config})
    torch.manual_seed(seed)
    copier = build_model(matched_config(args, model, copying))
    dataset = GeneratedExamples(copying, _EPOCH_EXAMPLES, seed)
    stream = BatchStream(dataset, seed, batch_size, bucket_window=_BUCKET_WINDOW).micro_batches(Cursor())

    def batch_of(step: int) -> Batch:
        keys, _ = next(stream)
        return collate([dataset[key] for key in keys])

    fit(copier, batch_of, max_steps, learning_rate, stage(progress, 0, _TRAINING_SHARE))
    rows = []
    starts = range(copying.shortest, copying.longest + 1, bucket_width)
    for number, shortest in enumerate(starts, start=1):
        bucket = replace(copying, shortest=shortest, longest=min(shortest + bucket_width - 1, copying.longest))
        exact_match, token_accuracy = score(copier, GeneratedExamples(bucket, eval_examples, seed, "validation"))
        rows.append(
            {
                "model": model,
                "seed": seed,
                "num_parameters": num_trained(copier),
                "shortest": bucket.shortest,
                "longest": bucket.longest,
                "length": (bucket.shortest + bucket.longest) / 2,
                "exact_match": exact_match,
                "token_accuracy": token_accuracy,
                "steps": max_steps,
                "examples": max_steps * batch_size,
            }
        )
        stage(progress, _TRAINING_SHARE, 1)(number / len(starts))
    return rows


def score(copier: Any, dataset: GeneratedExamples) -> tuple[float, float]:
    """Share of the sources that are written again without a mistake, and of the tokens that stand where they belong.

    Args:
        copier: an encoder–decoder, which writes greedily.
        dataset: all its examples make one batch.
    """
    batch = collate([dataset[Key(0, 0, index)] for index in range(len(dataset))])
    labels = batch.pop("labels")
    written = copier.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=labels.shape[1])
    examples, exact, tokens, right = score_written(written[:, 1:], labels).sum(0).tolist()
    return exact / examples, right / tokens


def cells(budget: BudgetName) -> list[Cell]:
    """One for each model and seed."""
    return [
        Cell(
            f"bottleneck-{model}-{seed}",
            measure_copying,
            {
                "model": model,
                "config": CONFIGS[model],
                "task": _TASKS[budget],
                **_SETTINGS[budget],
                "batch_size": 64,
                "learning_rate": _LEARNING_RATES[model],
                "seed": seed,
            },
            _SETTINGS[budget]["max_steps"] * _SECONDS_PER_STEP[model] * _SLOWER[budget],
        )
        for model in MODELS
        for seed in range(num_seeds(budget))
    ]


def judge(rows: list[Row]) -> Verdict:
    """It holds if every model has learnt the shortest sources, and those with attention, alone, the longest."""
    first, last = (pick((row["length"], row["shortest"], row["longest"]) for row in rows) for pick in (min, max))
    numbers: dict[str, float | int | str] = {
        "learnt": round(100 * LEARNT),
        "shortest": f"{first[1]}–{first[2]}",
        "longest": f"{last[1]}–{last[2]}",
    }
    short, long = (
        {model: mean_of(rows, "exact_match", model=model, length=length) for model in MODELS}
        for length in (first[0], last[0])
    )
    for model in MODELS:
        numbers[f"{model}_short"] = close(100 * short[model])
        numbers[f"{model}_long"] = close(100 * long[model])
        numbers[f"{model}_tokens"] = close(100 * mean_of(rows, "token_accuracy", model=model, length=last[0]))
    with_attention = [long[model] for model in MODELS if model != "seq2seq"]
    return Verdict(min(short.values()) > LEARNT and min(with_attention) > LEARNT >= long["seq2seq"], numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Both measures against the length of the source."""
    figure, axes = panels(2)
    for panel, measure in zip(axes, ("exact_match", "token_accuracy")):
        draw_lines(panel, rows, labels, x="length", y=measure)
        panel.set_ylim(-0.03, 1.03)
    axes[0].axhline(LEARNT, color="#999999", linestyle="--", linewidth=1)
    return {"by_length": figure}


CLAIM = Claim("bottleneck", cells, judge, draw)
