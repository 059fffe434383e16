"""Long-range dependence: accuracy on adding, copying after a pause and associative recall, as the distance grows."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from hf_seqmodels.data.long_range import (
    PROBLEMS,
    AssociativeRecallProblem,
    LongRangeProblem,
    collate,
)
from hf_seqmodels.data.random import generator
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.training import Batch, fit
from hf_seqmodels.tasks.long_range_arguments import MODELS, LongRangeArguments
from hf_seqmodels.tasks.long_range_models import build_model, matched_config
from hf_seqmodels.tasks.model_sizes import num_trained

PARAMETERS = 8000
GATED = ("lstm", "gru")
ATTENTION = "seq_bert"
LEARNING_RATES = {"rnn": 3e-3, "lstm": 1e-2, "gru": 1e-2, ATTENTION: 5e-3}
TOLERANCE = 0.1  # how near the sum a right answer of the adding problem is
RECALLED_PAIRS = 2
MARGIN = 0.1
# Accuracy without any memory: the share of sums within the tolerance of 1 (of density 1 - |sum - 1|), a guess at one
# of 8 symbols, and at one of 8 values.
CHANCE = {"adding": 2 * TOLERANCE - TOLERANCE**2, "copy": 1 / 8, "recall": 1 / 8}
_EVALUATED = 250  # examples of a batch


def measure_recall(
    progress: Progress,
    *,
    problem: str,
    length: int,
    model: str,
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    eval_examples: int,
    seed: int,
) -> list[Row]:
    """One model, trained on new examples of one length and tested on others."""
    task = problem_of(problem, length)
    config = matched_config(arguments(), model, task)
    torch.manual_seed(seed)
    network: Any = build_model(config, task)
    width = getattr(config, "embedding_size", None) or config.hidden_size

    def batch_of(step: int, split: str = "train", size: int = batch_size) -> Batch:
        rng = generator(seed, f"{task.purpose}/compare/{split}", step)
        return collate([task.example(rng) for _ in range(size)], width)

    fit(network, batch_of, max_steps, learning_rate, progress, lr_scheduler_type="wsd")
    right = total = 0
    with torch.inference_mode():
        for number, start in enumerate(range(0, eval_examples, _EVALUATED)):
            batch = batch_of(number, "test", min(_EVALUATED, eval_examples - start))
            hits = is_right(task, network(**batch).logits, batch["labels"])
            right, total = right + int(hits.sum()), total + hits.numel()
    return [
        {
            "problem": problem,
            "model": model,
            "length": length,
            "seed": seed,
            "accuracy": right / total,
            "num_parameters": num_trained(network),
            "steps": max_steps,
            "examples": max_steps * batch_size,
        }
    ]


def problem_of(name: str, length: int) -> LongRangeProblem:
    """The problem of that name and length; recall is of two pairs, so that a short training has a chance."""
    if name == "recall":
        return AssociativeRecallProblem(length, RECALLED_PAIRS)
    return PROBLEMS[name](length)


def arguments() -> LongRangeArguments:
    """Sizes of the models."""
    return LongRangeArguments(parameter_budget=PARAMETERS, seq_bert_heads=1)


def is_right(task: LongRangeProblem, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(batch,)` sums that are near enough, or `(batch, symbols)` symbols that are the right ones."""
    if not task.num_recalled:
        return (logits[:, 0] - labels).abs() < TOLERANCE
    return logits[:, -task.num_recalled :].argmax(-1) == labels[:, -task.num_recalled :]


def cells(budget: BudgetName) -> list[Cell]:
    """One training for each problem, length, model and seed."""
    lengths = {"quick": (10, 20, 40), "standard": (10, 20, 40, 80), "full": (10, 20, 40, 80, 160)}[budget]
    max_steps = {"quick": 500, "standard": 1000, "full": 2000}[budget]
    found = []
    for seed in range(num_seeds(budget)):
        for problem in PROBLEMS:
            for length in lengths:
                for model in MODELS:
                    settings = {
                        "problem": problem,
                        "length": length,
                        "model": model,
                        "max_steps": max_steps,
                        "batch_size": 64,
                        "learning_rate": LEARNING_RATES[model],
                        "eval_examples": 500,
                        "seed": seed,
                    }
                    seconds = max_steps * (2.5 + 0.1 * problem_of(problem, length).num_steps) / 1000
                    found.append(
                        Cell(f"long_range-{problem}-{length}-{model}-{seed}", measure_recall, settings, seconds)
                    )
    return found


def judge(rows: Sequence[Row]) -> Verdict:
    """The criterion of the text `how`: means over the problems."""
    shortest, longest = (pick(row["length"] for row in rows) for pick in (min, max))

    def mean(model: str, length: int) -> float:
        """Each problem counts alike."""
        found = [mean_of(rows, "accuracy", model=model, length=length, problem=problem) for problem in PROBLEMS]
        return sum(found) / len(found)

    near, far = ({model: mean(model, length) for model in MODELS} for length in (shortest, longest))
    gated = max(GATED, key=lambda model: far[model])
    lost = {model: near[model] - far[model] for model in MODELS}
    holds = (
        far[gated] >= far["rnn"] + MARGIN
        and far[ATTENTION] >= far["rnn"] + MARGIN
        and lost[ATTENTION] <= max(lost["rnn"], lost[gated])
    )
    numbers: dict[str, float | int | str] = {
        "shortest": shortest,
        "longest": longest,
        "steps": rows[0]["steps"],
        "pairs": RECALLED_PAIRS,
        "tolerance": TOLERANCE,
        "margin": 100 * MARGIN,
        "gated": gated,
    }
    for model in MODELS:
        numbers |= {f"near_{model}": 100 * near[model], f"far_{model}": 100 * far[model]}
        for problem in PROBLEMS:
            accuracy = mean_of(rows, "accuracy", model=model, length=longest, problem=problem)
            numbers[f"{problem}_{model}"] = 100 * accuracy
    numbers |= {f"chance_{problem}": 100 * chance for problem, chance in CHANCE.items()}
    return Verdict(holds, numbers)


def draw(rows: Sequence[Row], labels: Labels) -> dict[str, Figure]:
    """A panel for each problem."""
    figure, axes = panels(len(PROBLEMS), columns=len(PROBLEMS))
    for panel, problem in zip(axes, PROBLEMS):
        shown = select(rows, problem=problem)
        draw_lines(panel, shown, labels, x="length", y="accuracy", log_x=True, legend=panel is axes[-1])
        panel.axhline(CHANCE[problem], color="grey", linestyle="--")
        panel.set_ylim(0, 1.05)
        panel.set_title(labels(problem))
    return {"accuracy": figure}


CLAIM = Claim("long_range", cells, judge, draw)
