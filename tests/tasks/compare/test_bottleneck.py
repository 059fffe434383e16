"""The claim of the bottleneck: a micro cell, what is decided from rows, and the figure."""

import json

import pytest
import torch

from hf_seqmodels.data.copying import CopyingTask
from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.tasks.bottleneck_arguments import MODELS, BottleneckArguments
from hf_seqmodels.tasks.bottleneck_models import build_model, matched_config
from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.bottleneck import CLAIM, CONFIGS, measure_copying, score
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

MICRO = {
    "task": {"name": "copy", "shortest": 1, "longest": 5, "num_symbols": 3},
    "parameter_budget": 4000,
    "max_steps": 4,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "bucket_width": 2,
    "eval_examples": 6,
}


def rows_of(exact: dict[str, tuple[float, float]], seeds: int = 1) -> list[Row]:
    """Exact match of each model on the shortest and longest sources."""
    return [
        {
            "model": model,
            "seed": seed,
            "num_parameters": 100,
            "shortest": start,
            "longest": start + 3,
            "length": start + 1.5,
            "exact_match": value + 0.01 * seed,
            "token_accuracy": value + 0.01 * seed,
        }
        for model, values in exact.items()
        for start, value in zip((3, 23), values)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_a_cell_measures_every_length_and_repeats_itself(model: str) -> None:
    shares: list[float] = []
    rows = measure_copying(shares.append, model=model, config=CONFIGS[model], seed=1, **MICRO)
    assert [(row["shortest"], row["longest"], row["length"]) for row in rows] == [(1, 2, 1.5), (3, 4, 3.5), (5, 5, 5)]
    assert all(0 <= row["exact_match"] <= row["token_accuracy"] <= 1 for row in rows)
    assert rows[0]["steps"] == 4 and rows[0]["examples"] == 32
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_copying(lambda share: None, model=model, config=CONFIGS[model], seed=1, **MICRO) == rows
    assert json.loads(json.dumps(rows)) == rows


class Parrot:
    """Writes its source again, but every symbol 4 as 5."""

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: object) -> torch.Tensor:
        start = torch.ones(len(input_ids), 1, dtype=torch.long)
        return torch.cat([start, input_ids.masked_fill(input_ids == 4, 5)], dim=1)


def test_the_score_counts_mistakes() -> None:
    task = CopyingTask("copy", 3, 3, num_symbols=2)
    dataset = GeneratedExamples(task, 40, seed=0)
    sources = [dataset[0, 0, index]["input_ids"] for index in range(40)]
    exact_match, token_accuracy = score(Parrot(), dataset)
    assert exact_match == sum(4 not in source for source in sources) / 40 > 0
    assert token_accuracy == sum(token != 4 for source in sources for token in source) / 160


@pytest.mark.parametrize("budget", BUDGETS)
def test_models_are_compared_at_the_same_size_and_budget(budget: str) -> None:
    cells = CLAIM.cells(budget)
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.settings["seed"] for cell in cells}) == {"quick": 1, "standard": 3, "full": 5}[budget]
    for name in ("task", "max_steps", "batch_size", "parameter_budget"):
        assert len({json.dumps(cell.settings[name]) for cell in cells}) == 1
    settings = cells[0].settings
    args = BottleneckArguments(parameter_budget=settings["parameter_budget"], config_overrides=CONFIGS)
    with torch.device("meta"):
        sizes = [
            num_trained(build_model(matched_config(args, model, CopyingTask(**settings["task"])))) for model in MODELS
        ]
    assert max(sizes) < 1.1 * min(sizes)


def test_it_holds_if_only_attention_reaches_the_longest() -> None:
    good = {"seq2seq": (0.9, 0.1), "attention_seq2seq": (1.0, 0.8), "vanilla_transformer": (1.0, 0.6)}
    verdict = CLAIM.judge(rows_of(good, seeds=2))
    assert verdict.holds
    assert verdict.numbers["seq2seq_long"] == 10.5 and verdict.numbers["vanilla_transformer_long"] == 60.5
    assert (verdict.numbers["shortest"], verdict.numbers["longest"]) == ("3–6", "23–26")
    for model, values in (
        ("seq2seq", (0.9, 0.6)),  # no bottleneck
        ("seq2seq", (0.4, 0.1)),  # it has learnt nothing, so its fall says nothing
        ("attention_seq2seq", (1.0, 0.4)),
        ("vanilla_transformer", (1.0, 0.4)),
    ):
        assert not CLAIM.judge(rows_of({**good, model: values})).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_and_figures_fit(language: str) -> None:
    texts = claim_texts("bottleneck", language)
    rows = rows_of(dict.fromkeys(MODELS, (1.0, 0.5)), seeds=2)
    numbers = CLAIM.judge(rows).numbers
    for text in (texts.claim, texts.how, texts.short, texts.holds, texts.fails):
        texts.labels.fill(text, numbers)
    figures = CLAIM.draw(rows, texts.labels)
    assert list(figures) == list(texts.figures)
    exact, tokens = figures["by_length"].axes
    assert exact.get_ylabel() == texts.labels("exact_match") and tokens.get_xlabel() == texts.labels("length")
    # A line with its error bars for each model.
    assert len(exact.containers) == len(tokens.containers) == len(MODELS)
