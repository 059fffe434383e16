"""The claim about shared parameters: counts, a micro training, what is decided from rows, and the figure."""

import json

import numpy as np
import pytest
import torch

from hf_seqmodels.data.random import generator
from hf_seqmodels.tasks.compare.answering import FlattenedMLP, answers_of, as_batch, marked_symbols, matched_answerer
from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.parameters import (
    CLAIM,
    MODELS,
    NUM_SYMBOLS,
    PARAMETERS,
    SHARING,
    TIMES,
    count_parameters,
    measure_beyond,
)
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

MICRO = {"longest": 5, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "eval_examples": 6}


def rows_of(at: dict[str, tuple[float, ...]], seeds: int = 1) -> list[Row]:
    """Accuracies at 1, 2, 4 and 8 times the training length; parameters of the MLP alone grow."""
    rows: list[Row] = [
        {"model": model, "length": length, "num_parameters": 100 * (length if model == "mlp" else 1)}
        for model in MODELS
        for length in (20, 40)
    ]
    for model in MODELS:
        for seed in range(seeds):
            for times, accuracy in zip(TIMES, at.get(model, (1.0, 1.0, 0.9, 0.8))):
                common = {"model": model, "seed": seed, "times": times, "tested_length": 5 * times}
                rows.append({**common, "accuracy": accuracy, "num_parameters": 100, "steps": 2, "examples": 8})
    return rows


HELD = rows_of({"mlp": (1.0, 0.5, 0.3, 0.2)}, seeds=2)


@pytest.mark.parametrize("model", MODELS)
def test_a_cell_tests_multiples_of_the_length_and_repeats_itself(model: str) -> None:
    shares: list[float] = []
    rows = measure_beyond(shares.append, model=model, seed=1, **MICRO)
    assert [row["tested_length"] for row in rows] == [5, 10, 20, 40] and shares[-1] == 1
    assert all(0 <= row["accuracy"] <= 1 and row["examples"] == 8 for row in rows)
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_beyond(lambda share: None, model=model, seed=1, **MICRO) == rows
    assert json.loads(json.dumps(rows)) == rows


def test_only_positions_and_steps_of_their_own_add_parameters() -> None:
    rows = count_parameters(lambda share: None, lengths=[20, 160], matched_at=160)
    sizes = {model: [row["num_parameters"] for row in rows if row["model"] == model] for model in MODELS}
    assert {model for model, (short, long) in sizes.items() if short == long} == set(SHARING)
    assert sizes["seq_bert"][0] < sizes["seq_bert"][1] and 4 * sizes["mlp"][0] < sizes["mlp"][1]
    at_match = [long for _, long in sizes.values()]
    assert max(at_match) <= 1.1 * min(at_match)


def test_budgets_are_equal() -> None:
    for budget in BUDGETS:
        cells = [cell for cell in CLAIM.cells(budget) if "model" in cell.settings]
        assert {cell.settings["model"] for cell in cells} == set(MODELS)
        assert len({(cell.settings["max_steps"], cell.settings["batch_size"]) for cell in cells}) == 1


def test_one_symbol_is_marked_and_is_the_answer() -> None:
    symbols, answers = marked_symbols(generator(0, "test"), 50, 9, NUM_SYMBOLS)
    marked = symbols >= NUM_SYMBOLS
    assert (marked.sum(1) == 1).all()
    np.testing.assert_array_equal(symbols[marked] - NUM_SYMBOLS, answers)
    assert len(set(marked.argmax(1))) > 5


@pytest.mark.parametrize("kind", ["lstm", "vanilla_transformer", "mlp"])
def test_answers_are_read_where_the_loss_looks(kind: str) -> None:
    """One example, learned by heart, is answered; so output and label are of one place and one numbering."""
    torch.manual_seed(0)
    model = matched_answerer(kind, 3000, NUM_SYMBOLS, 9)
    assert 2000 < num_trained(model) < 4000 < PARAMETERS
    symbols, answers = marked_symbols(generator(0, "test"), 4, 9, NUM_SYMBOLS)
    batch = as_batch(kind, symbols, answers)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    np.testing.assert_array_equal(answers_of(kind, model.eval(), batch, NUM_SYMBOLS), answers)


def test_a_short_sequence_is_padded_for_the_mlp() -> None:
    model = FlattenedMLP(4, 18, 8, max_length=6)
    ids = torch.randint(2, 18, (3, 4))
    padded = torch.nn.functional.pad(ids, (0, 2), value=0)
    torch.testing.assert_close(model(ids).logits, model(padded).logits)


def test_the_verdict_follows_counts_and_accuracies() -> None:
    verdict = CLAIM.judge(HELD)
    assert verdict.holds and verdict.numbers["mlp_at_8"] == pytest.approx(20)
    assert not CLAIM.judge(rows_of({})).holds  # the MLP keeps its accuracy
    assert not CLAIM.judge(rows_of({"mlp": (1.0, 0.5, 0.3, 0.2), "gru": (1.0, 0.8, 0.5, 0.2)})).holds
    grown = [{**row, "num_parameters": 100 * row["length"]} if "length" in row else row for row in HELD]
    assert not CLAIM.judge(grown).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_and_texts(language: str) -> None:
    texts, verdict = claim_texts("parameters", language), CLAIM.judge(HELD)
    assert CLAIM.draw(HELD, texts.labels).keys() == texts.figures.keys()
    for text in (texts.how, texts.short, texts.holds, texts.fails):
        assert "{" not in texts.labels.fill(text, verdict.numbers)
