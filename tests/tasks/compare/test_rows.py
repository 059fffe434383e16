"""Means and spreads over seeds."""

import pytest

from hf_seqmodels.tasks.compare.rows import mean_of, select, summarise, values_of

ROWS = [
    {"model": "lstm", "seed": 0, "length": 4, "accuracy": 0.5},
    {"model": "lstm", "seed": 1, "length": 4, "accuracy": 0.7},
    {"model": "rnn", "seed": 0, "length": 4, "accuracy": 0.25},
    {"model": "rnn", "seed": 0, "length": 8, "accuracy": None},
    {"model": "rnn", "gates": 1},
]


def test_rows_that_have_all_values_are_selected() -> None:
    assert select(ROWS, model="lstm", seed=1) == [ROWS[1]]
    assert select(ROWS, gates=1) == [ROWS[4]]
    assert select(ROWS, gates=2) == []


def test_values_appear_once_in_their_order() -> None:
    assert values_of(ROWS, "model") == ["lstm", "rnn"]
    assert values_of(ROWS, "length") == [4, 8]


def test_seeds_are_summed_up() -> None:
    lstm, rnn = summarise(ROWS, "accuracy", ["model", "length"])
    assert lstm.keys == {"model": "lstm", "length": 4} and lstm.count == 2
    # Two values: their deviation is the distance over the root of 2; exact but for rounding.
    assert lstm.mean == pytest.approx(0.6) and lstm.spread == pytest.approx(0.2 / 2**0.5)
    assert (rnn.mean, rnn.spread, rnn.count) == (0.25, 0.0, 1)


def test_a_mean_of_nothing_is_refused() -> None:
    assert mean_of(ROWS, "accuracy", model="rnn") == 0.25
    with pytest.raises(ValueError, match=r"accuracy and \{'model': 'gru'\}"):
        mean_of(ROWS, "accuracy", model="gru")
