"""The claim that gates cost compute."""

import pytest
import torch
from matplotlib.container import BarContainer

from hf_seqmodels.tasks.compare.claim import BUDGETS, BudgetName, Row, num_seeds
from hf_seqmodels.tasks.compare.claims.gates import (
    CLAIM,
    MATCHES,
    MODELS,
    build,
    matched_width,
    measure_gates,
    num_recurrent,
)
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.compare.training import stage


def made_rows(gru_decoding: float) -> list[Row]:
    """Two repetitions; decoding with the GRU takes so many microseconds, with the RNN 10."""
    costs = {"rnn": (1, 10.0), "gru": (3, gru_decoding), "lstm": (4, 40.0)}
    return [
        {
            **{"model": model, "match": match, "seed": seed, "hidden_size": 8},
            **{"num_parameters": 100 * gates, "flops": 10 * gates},
            **{"training_microseconds": 5.0 * gates + seed, "decoding_microseconds": decoding},
        }
        for match in MATCHES
        for seed in range(2)
        for model, (gates, decoding) in costs.items()
    ]


def test_costs_at_the_same_width_and_size() -> None:
    shares: list[float] = []
    rows = measure_gates(stage(shares.append, 0, 1), hidden_size=24, batch_size=2, length=4, rounds=1, seed=3)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    for measure in ("num_parameters", "flops"):
        one, three, four = (mean_of(rows, measure, match="width", model=model) for model in MODELS)
        assert (three / one, four / one) == (3, 4)
    sizes = [mean_of(rows, "num_parameters", match="size", model=model) for model in MODELS]
    assert max(sizes) / min(sizes) < 1.2  # a width this small is far from the next one
    assert len({row["hidden_size"] for row in select(rows, match="size")}) == 3
    assert all(row["training_microseconds"] > 0 and row["decoding_microseconds"] > 0 for row in rows)
    assert {row["seed"] for row in rows} == {3} and len(rows) == 6


@pytest.mark.parametrize("budget", BUDGETS)
def test_models_have_one_size(budget: BudgetName) -> None:
    hidden_size = CLAIM.cells(budget)[0].settings["hidden_size"]
    with torch.device("meta"):
        built = [build(model, matched_width(model, hidden_size)) for model in MODELS]
    sizes = [num_recurrent(model) for model in built]
    assert max(sizes) / min(sizes) < 1.1, sizes


@pytest.mark.parametrize("budget", BUDGETS)
def test_cells_are_alone_and_repeated(budget: BudgetName) -> None:
    cells = CLAIM.cells(budget)
    assert len(cells) == num_seeds(budget) == len({cell.name for cell in cells})
    assert all(cell.exclusive for cell in cells)


def test_the_verdict_is_that_of_times() -> None:
    held, failed = CLAIM.judge(made_rows(gru_decoding=16.0)), CLAIM.judge(made_rows(gru_decoding=14.0))
    assert held.holds and not failed.holds
    assert held.numbers["width_gru_decoding"] == 1.6 and failed.numbers["width_gru_decoding"] == 1.4
    assert held.numbers["size_lstm_flops"] == 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures(language: str) -> None:
    texts = claim_texts("gates", language)
    figures = CLAIM.draw(made_rows(16.0), texts.labels)
    assert list(figures) == list(texts.figures)
    first = next(bars for bars in figures["ratios"].axes[0].containers if isinstance(bars, BarContainer))
    assert [bar.get_height() for bar in first] == pytest.approx([1, 1, 1, 1])  # the RNN's own
