"""Variable length and shared parameters: how many there are by length, and accuracy beyond the training length."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from hf_seqmodels.data.random import generator
from hf_seqmodels.tasks.compare.answering import (
    ENCODER_DECODERS,
    LEARNING_RATES,
    NUM_SYMBOLS,
    PARAMETERS,
    RECURRENT,
    answers_of,
    as_batch,
    build_answerer,
    marked_symbols,
    matched_answerer,
    matched_width,
)
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.training import fit
from hf_seqmodels.tasks.model_sizes import num_trained

SHORTEST = 4
SHARING = (*RECURRENT, *ENCODER_DECODERS)
MODELS = (*SHARING, "seq_bert", "mlp")
TIMES = (1, 2, 4, 8)
LENGTHS = (20, 40, 80, 160, 320, 640, 1280)
KEPT = 0.9


def count_parameters(progress: Progress, *, lengths: list[int], matched_at: int) -> list[Row]:
    """Trained parameters by the longest sequence that a model must take; at `matched_at` all are of one size."""
    rows = []
    for number, model in enumerate(MODELS):
        width = matched_width(model, PARAMETERS, NUM_SYMBOLS, matched_at)
        for length in lengths:
            with torch.device("meta"):
                size = num_trained(build_answerer(model, width, NUM_SYMBOLS, length))
            rows.append({"model": model, "length": length, "num_parameters": size})
        progress((number + 1) / len(MODELS))
    return rows


def measure_beyond(
    progress: Progress,
    *,
    model: str,
    longest: int,
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    eval_examples: int,
    seed: int,
) -> list[Row]:
    """Accuracy at multiples of the longest training length; which of the symbols was marked?"""
    torch.manual_seed(seed)
    network = matched_answerer(model, PARAMETERS, NUM_SYMBOLS, longest * max(TIMES))

    def batch_of(step: int) -> dict[str, torch.Tensor]:
        rng = generator(seed, "parameters/train", step)
        length = int(rng.integers(SHORTEST, longest + 1))
        return as_batch(model, *marked_symbols(rng, batch_size, length, NUM_SYMBOLS))

    fit(network, batch_of, max_steps, learning_rate, progress, lr_scheduler_type="wsd")
    rows = []
    for times in TIMES:
        rng = generator(seed, "parameters/test", times)
        symbols, answers = marked_symbols(rng, eval_examples, longest * times, NUM_SYMBOLS)
        right = answers_of(model, network, as_batch(model, symbols, answers), NUM_SYMBOLS) == answers
        rows.append(
            {
                "model": model,
                "seed": seed,
                "times": times,
                "tested_length": longest * times,
                "accuracy": float(right.mean()),
                "num_parameters": num_trained(network),
                "steps": max_steps,
                "examples": max_steps * batch_size,
            }
        )
    return rows


def cells(budget: BudgetName) -> list[Cell]:
    """A count, and a training for each model and seed."""
    max_steps = {"quick": 600, "standard": 1500, "full": 4000}[budget]
    longest = 20
    found = [
        Cell("parameters-count", count_parameters, {"lengths": list(LENGTHS), "matched_at": longest * max(TIMES)}, 2)
    ]
    for seed in range(num_seeds(budget)):
        for model in MODELS:
            settings = {
                "model": model,
                "longest": longest,
                "max_steps": max_steps,
                "batch_size": 64,
                "learning_rate": LEARNING_RATES[model],
                "eval_examples": 500,
                "seed": seed,
            }
            found.append(Cell(f"parameters-{model}-{seed}", measure_beyond, settings, 3.5 * max_steps / 600))
    return found


def judge(rows: Sequence[Row]) -> Verdict:
    """The criterion of the text `how`."""
    counted = [row for row in rows if "length" in row]
    shortest, longest = (pick(row["length"] for row in counted) for pick in (min, max))

    def growth(model: str) -> float:
        sizes = [mean_of(counted, "num_parameters", model=model, length=length) for length in (shortest, longest)]
        return sizes[1] / sizes[0]

    def accuracy(model: str, times: int) -> float:
        return mean_of(rows, "accuracy", model=model, times=times)

    kept = {model: accuracy(model, 2) / max(accuracy(model, 1), 1e-9) for model in MODELS}
    holds = (
        all(growth(model) == 1 for model in SHARING)
        and growth("mlp") > 1
        and all(kept[model] >= KEPT for model in RECURRENT)
        and kept["mlp"] < KEPT
    )
    tested = [row for row in rows if "tested_length" in row]
    numbers: dict[str, float | int | str] = {
        "shortest": shortest,
        "longest": longest,
        "kept_percent": 100 * KEPT,
        "trained": min(row["tested_length"] for row in tested),
        "farthest": max(row["tested_length"] for row in tested),
        "most_times": max(TIMES),
        "steps": tested[0]["steps"],
        "largest_growth_shared": max(growth(model) for model in SHARING),
        "growth_seq_bert": growth("seq_bert"),
        "growth_mlp": growth("mlp"),
    }
    for model in MODELS:
        numbers |= {f"{model}_at_{times}": 100 * accuracy(model, times) for times in (1, 2, max(TIMES))}
    return Verdict(holds, numbers)


def draw(rows: Sequence[Row], labels: Labels) -> dict[str, Figure]:
    """Parameters by length, and accuracy beyond the training length."""
    figure, (sizes, accuracies) = panels(2)
    counted = [row for row in rows if "length" in row]
    draw_lines(sizes, counted, labels, x="length", y="num_parameters", log_x=True, log_y=True, legend=False)
    sizes.legend(fontsize=8, loc="upper left")
    tested = [row for row in rows if "tested_length" in row]
    draw_lines(accuracies, tested, labels, x="tested_length", y="accuracy", log_x=True, legend=False)
    accuracies.axhline(1 / NUM_SYMBOLS, color="grey", linestyle="--")
    accuracies.axvline(min(row["tested_length"] for row in select(tested, times=1)), color="grey", linestyle=":")
    accuracies.set_ylim(0, 1.05)
    return {"lengths": figure}


CLAIM = Claim("parameters", cells, judge, draw)
