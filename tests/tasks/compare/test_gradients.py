"""The claim about gradients: micro cells, what is decided from rows, the figures, and the scaled recurrence."""

import json

import pytest
import torch

from hf_seqmodels.tasks.compare.answering import build_answerer
from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.gradients import (
    BEGINNINGS,
    CLAIM,
    MODELS,
    _new,
    _recipe,
    _scale_recurrence,
    measure_beginnings,
    measure_gradients,
)
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

MICRO = {"length": 6, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3}
HELD = {
    "rnn": 0.6,
    "lstm": 0.97,
    "gru": 0.98,
    "rnn_large": 1.2,
    "attention_seq2seq": 0.99,
    "vanilla_transformer": 1.0,
    "seq_bert": 1.01,
}


def rows_of(factors: dict[str, float], seeds: int = 1) -> list[Row]:
    """What cells would say of models whose gradients change by these factors."""
    rows: list[Row] = []
    for model, factor in factors.items():
        for seed in range(seeds):
            for state in ("new", "trained"):
                common = {"model": model, "seed": seed, "state": state, "num_parameters": 100}
                rows.append({**common, "factor": factor, "reaching": factor**9})
                rows += [{**common, "distance": distance, "norm": factor**distance} for distance in range(10)]
    return rows + [{"beginning": name, "seed": 0, "step_factor": 0.5} for name in BEGINNINGS]


@pytest.mark.parametrize("model", MODELS)
def test_a_cell_measures_a_new_model_and_a_trained_one_and_repeats_itself(model: str) -> None:
    shares: list[float] = []
    rows = measure_gradients(shares.append, model=model, seed=1, **MICRO)
    for state in ("new", "trained"):
        own = [row for row in rows if row["state"] == state]
        assert own[0]["factor"] > 0 and own[0]["reaching"] > 0
        assert sorted(row["distance"] for row in own[1:]) == list(range(6))
    assert rows[0]["factor"] != rows[len(rows) // 2]["factor"]  # training changed it
    assert shares[-1] == 1
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_gradients(lambda share: None, model=model, seed=1, **MICRO) == rows
    assert json.loads(json.dumps(rows)) == rows


def test_beginnings() -> None:
    rows = measure_beginnings(lambda share: None, length=30, seed=0)
    factor = {row["beginning"]: row["step_factor"] for row in rows}
    assert list(factor) == list(BEGINNINGS)
    # What each is about: Girko's law for uniform weights, σ(0) and σ(1) of the forget gate.
    assert 0.4 < factor["rnn_uniform"] < 0.7 < factor["rnn_orthogonal"] < 1 < factor["rnn_gain"]
    assert factor["lstm_closed"] < factor["lstm_one"] < factor["lstm_chrono"] < 1


def test_large_weights_have_the_spectral_radius_that_they_are_said_to_have() -> None:
    torch.manual_seed(0)
    network = build_answerer("rnn", 200, 4, 5, {"recurrent_init": "uniform"})
    weight = network.model.stack.layers[0].directions[0].rnn.weight_hh_l0
    before = torch.linalg.eigvals(weight.detach()).abs().max()
    _scale_recurrence(network, 2.0)
    after = torch.linalg.eigvals(weight.detach()).abs().max()
    # Girko's law holds at infinite width; at 200 units it is off by a few percent.
    assert before == pytest.approx(3**-0.5, rel=0.1) and after == pytest.approx(2, rel=0.1)


def test_models_are_of_one_size_and_budget() -> None:
    for budget in BUDGETS:
        cells = [cell for cell in CLAIM.cells(budget) if "model" in cell.settings]
        assert len({cell.name for cell in CLAIM.cells(budget)}) == len(CLAIM.cells(budget))
        assert len({(cell.settings["max_steps"], cell.settings["batch_size"]) for cell in cells}) == 1
        assert {cell.settings["model"] for cell in cells} == set(MODELS)
    sizes = [num_trained(_new(*_recipe(model, 100), length=100, seed=0)) for model in MODELS]
    assert max(sizes) <= 1.1 * min(sizes)


def test_the_verdict_follows_the_factors() -> None:
    verdict = CLAIM.judge(rows_of(HELD, seeds=2))
    assert verdict.holds and verdict.numbers["factor_rnn"] == pytest.approx(0.6)
    assert verdict.numbers["distance"] == 9 and verdict.numbers["length"] == 10
    for model, factor in (("rnn", 0.95), ("rnn_large", 1.0), ("lstm", 0.9), ("vanilla_transformer", 1.2)):
        assert not CLAIM.judge(rows_of({**HELD, model: factor})).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_and_texts(language: str) -> None:
    texts, rows = claim_texts("gradients", language), rows_of(HELD, seeds=2)
    assert CLAIM.draw(rows, texts.labels).keys() == texts.figures.keys()
    verdict = CLAIM.judge(rows)
    for text in (texts.how, texts.short, texts.holds, texts.fails):
        assert "{" not in texts.labels.fill(text, verdict.numbers)
