"""The claim that attention's cost is quadratic."""

import pytest
import torch

from hf_seqmodels.tasks.compare.claim import BUDGETS, BudgetName, Row, num_seeds
from hf_seqmodels.tasks.compare.claims import quadratic
from hf_seqmodels.tasks.compare.claims.quadratic import ATTENTION, CLAIM, LAYERS, RECURRENT
from hf_seqmodels.tasks.compare.rows import select, values_of
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts

LENGTHS = (64, 128, 256, 512)


def made_rows(**powers: float) -> list[Row]:
    """Powers of the length: 2 for attention and 1 for the rest, but for those of `powers`."""
    rows: list[Row] = []
    for model in (*ATTENTION, *LAYERS, *RECURRENT):
        power = powers.get(model, 2 if model in ATTENTION else 1)
        for length in LENGTHS:
            row: Row = {"model": model, "seed": 0, "length": length, "milliseconds": 1e-3 * length**power}
            memory = 1 if model == "attention_sdpa" else power
            rows.append({**row, "memory_mib": 0.01 * (2 if model in RECURRENT else 1) * length**memory})
    return rows


def test_memory_and_time_are_measured() -> None:
    shares: list[float] = []
    rows = quadratic.measure_growth(shares.append, hidden_size=16, num_heads=2, lengths=[128, 256], rounds=1, seed=1)
    assert shares == sorted(shares) and shares[-1] == 1
    assert values_of(rows, "model") == [
        *("attention_eager", "layer_eager", "attention_sdpa", "layer_sdpa"),
        *RECURRENT,
    ]
    assert all(row["milliseconds"] > 0 and row["seed"] == 1 for row in rows)
    sizes = values_of(rows, "num_parameters")
    assert len(sizes) == 3 and max(sizes) / min(sizes) < 1.1


def test_eager_attention_keeps_the_weights_of_all_pairs_and_sdpa_does_not() -> None:
    rows = quadratic.measure_growth(lambda share: None, 16, 2, [128, 256], 1, 0)
    memory = {
        name: [row["memory_mib"] * 2**20 for row in select(rows, model=name)] for name in values_of(rows, "model")
    }
    for length, eager, sdpa in zip((128, 256), memory["attention_eager"], memory["attention_sdpa"], strict=True):
        weights = 2 * length**2 * 4
        assert weights < eager < 1.5 * weights
        assert sdpa < weights
    assert memory["attention_sdpa"][1] == pytest.approx(2 * memory["attention_sdpa"][0], rel=0.01)


def test_both_kernels_compute_the_same() -> None:
    inputs = torch.randn(1, 10, 48)
    eager, sdpa = (quadratic._attention(kernel, 2)(inputs) for kernel in ("eager", "sdpa"))
    # Float32 of values around 1, summed in another order.
    assert torch.allclose(eager, sdpa, atol=1e-5)
    torch.manual_seed(0)
    layer = quadratic.transformer_layer(16, 2, "eager")
    other = quadratic.transformer_layer(16, 2, "sdpa")
    other.load_state_dict(layer.state_dict())
    states = torch.randn(1, 10, 16)
    assert torch.allclose(layer(states), other(states), atol=1e-5)


@pytest.mark.parametrize("budget", BUDGETS)
def test_cells_are_alone_and_repeated(budget: BudgetName) -> None:
    cells = CLAIM.cells(budget)
    assert len(cells) == num_seeds(budget) == len({cell.name for cell in cells})
    assert all(cell.exclusive for cell in cells)


def test_the_verdict_is_that_of_exponents() -> None:
    held = CLAIM.judge(made_rows())
    assert held.holds
    assert held.numbers["attention_eager_memory_exponent"] == 2 and held.numbers["lstm_time_exponent"] == 1
    assert held.numbers["fitted_from"] == 128
    assert held.numbers["layer_eager_lstm_memory_crossing"] == "no_crossing"
    assert not CLAIM.judge(made_rows(attention_eager=1.4)).holds
    assert not CLAIM.judge(made_rows(attention_sdpa=1.4)).holds
    assert not CLAIM.judge(made_rows(gru=1.6)).holds
    assert CLAIM.judge(made_rows(layer_eager=0.5)).holds  # whole layers are told of, not judged


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures(language: str) -> None:
    texts = claim_texts("quadratic", language)
    figures = CLAIM.draw(made_rows(), texts.labels)
    assert list(figures) == list(texts.figures)
    assert all(len(figure.axes[0].get_legend().get_texts()) == 4 for figure in figures.values())
