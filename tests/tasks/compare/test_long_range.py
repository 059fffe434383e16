"""The claim about long distances: micro trainings, what counts as right, what is decided from rows, and the figure."""

import json

import numpy as np
import pytest
import torch

from hf_seqmodels.data.long_range import PROBLEMS, AddingProblem, collate
from hf_seqmodels.data.random import generator
from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.long_range import (
    CHANCE,
    CLAIM,
    arguments,
    is_right,
    measure_recall,
    problem_of,
)
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.long_range_arguments import MODELS
from hf_seqmodels.tasks.long_range_models import build_model, matched_config
from hf_seqmodels.tasks.model_sizes import num_trained

MICRO = {"length": 4, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "eval_examples": 6}


def rows_of(at: dict[str, tuple[float, float]], seeds: int = 1) -> list[Row]:
    """Accuracies at the shortest and the longest T, the same in all problems."""
    return [
        {
            "problem": problem,
            "model": model,
            "length": length,
            "seed": seed,
            "accuracy": accuracy,
            "num_parameters": 100,
            "steps": 2,
            "examples": 8,
        }
        for problem in PROBLEMS
        for model, accuracies in at.items()
        for length, accuracy in zip((10, 40), accuracies)
        for seed in range(seeds)
    ]


HELD = {"rnn": (0.8, 0.3), "lstm": (0.9, 0.5), "gru": (0.9, 0.6), "seq_bert": (0.9, 0.9)}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("model", MODELS)
def test_a_cell_trains_and_tests_and_repeats_itself(model: str, problem: str) -> None:
    shares: list[float] = []
    (row,) = measure_recall(shares.append, problem=problem, model=model, seed=1, **MICRO)
    assert 0 <= row["accuracy"] <= 1 and row["examples"] == 8 and shares[-1] == 1
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_recall(lambda share: None, problem=problem, model=model, seed=1, **MICRO) == [row]
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("problem", PROBLEMS)
def test_models_are_of_one_size(problem: str) -> None:
    for length in (10, 40, 160):
        task = problem_of(problem, length)
        with torch.device("meta"):
            sizes = [num_trained(build_model(matched_config(arguments(), model, task), task)) for model in MODELS]
        assert max(sizes) <= 1.1 * min(sizes)


def test_budgets_are_equal() -> None:
    for budget in BUDGETS:
        cells = CLAIM.cells(budget)
        assert len({cell.name for cell in cells}) == len(cells)
        assert {cell.settings["model"] for cell in cells} == set(MODELS)
        assert len({(cell.settings["max_steps"], cell.settings["batch_size"]) for cell in cells}) == 1


def test_what_is_right_and_what_comes_without_memory() -> None:
    adding, copy = problem_of("adding", 9), problem_of("copy", 9)
    labels = torch.tensor([0.5, 1.5])
    assert is_right(adding, torch.tensor([[0.55], [1.3]]), labels).tolist() == [True, False]
    symbols = torch.randint(8, (2, 29))
    logits = torch.nn.functional.one_hot(symbols, 9).float()
    assert is_right(copy, logits, symbols).shape == (2, 10) and is_right(copy, logits, symbols).all()
    assert not is_right(copy, logits, (symbols + 1) % 8).any()
    rng = generator(0, "test")
    sums = collate([AddingProblem(4).example(rng) for _ in range(4000)])["labels"]
    hit = is_right(adding, torch.ones(4000, 1), sums).double().mean().item()
    # Of 4000 draws the deviation is 0.0062; four times that is allowed.
    np.testing.assert_allclose(hit, CHANCE["adding"], atol=0.025)


def test_the_verdict_follows_the_means() -> None:
    verdict = CLAIM.judge(rows_of(HELD, seeds=2))
    assert verdict.holds and verdict.numbers["gated"] == "gru"
    assert verdict.numbers["far_seq_bert"] == pytest.approx(90)
    for model, accuracies in (("seq_bert", (0.9, 0.35)), ("rnn", (0.8, 0.55)), ("seq_bert", (1.0, 0.45))):
        assert not CLAIM.judge(rows_of({**HELD, model: accuracies})).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_and_texts(language: str) -> None:
    texts, rows = claim_texts("long_range", language), rows_of(HELD, seeds=2)
    assert CLAIM.draw(rows, texts.labels).keys() == texts.figures.keys()
    verdict = CLAIM.judge(rows)
    for text in (texts.how, texts.short, texts.holds, texts.fails):
        assert "{" not in texts.labels.fill(text, verdict.numbers)
