"""Fast dropout is dropout: its rate, its scale, its place in training, its random state."""

import math

import pytest
import torch

from hf_seqmodels.models.layers import Dropout, dropout

COUNT = 400_000


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(dtype: torch.dtype, rate: float) -> None:
    result = dropout(torch.ones(COUNT, dtype=dtype), rate, training=True)
    assert result.dtype == dtype
    dropped = (result == 0).double().mean().item()
    assert abs(dropped - rate) < 5 * math.sqrt(rate * (1 - rate) / COUNT)
    kept = result[result != 0]
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - rate), rel=max(1e-4, torch.finfo(dtype).eps))


def test_expectation_is_kept_to_the_rate_it_has() -> None:
    """The rate is rounded to a multiple of 2^-16, and the scale follows the rounded rate, not the asked one."""
    rate = 0.3
    used = round(rate * 2**16) / 2**16
    kept = dropout(torch.ones(100, dtype=torch.float64), rate, training=True).max().item()
    assert kept == 1 / (1 - used) != 1 / (1 - rate)


def test_extreme_rates() -> None:
    ones = torch.ones(COUNT)
    assert dropout(ones, 0.0, training=True) is ones
    assert dropout(ones, 0.9, training=False) is ones
    assert torch.equal(dropout(ones, 1e-6, training=True), ones)  # rounds to a rate of 0, and a scale of 1
    assert dropout(ones, 0.9999, training=True).isfinite().all()


def test_neighbours_are_independent() -> None:
    """Four elements share a random word; none of them may know of the others."""
    kept = (dropout(torch.ones(COUNT), 0.5, training=True) != 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):
        correlation = 4 * (kept[:-lag] * kept[lag:]).mean().item()
        assert abs(correlation) < 5 / math.sqrt(COUNT), lag


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5), (0, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert dropout(torch.ones(shape), 0.5, training=True).shape == shape


def test_a_view_is_not_changed() -> None:
    whole = torch.ones(6, 4)
    result = dropout(whole.t()[1:3], 0.5, training=True)
    assert result.shape == (2, 6) and torch.equal(whole, torch.ones(6, 4))


def test_the_global_random_state_decides() -> None:
    states = torch.randn(50, 20)
    state = torch.random.get_rng_state()
    first, second = (dropout(states, 0.3, training=True) for _ in range(2))
    torch.random.set_rng_state(state)
    again = dropout(states, 0.3, training=True)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_gradients_go_where_values_went() -> None:
    states = torch.randn(40, 10, dtype=torch.float64, requires_grad=True)
    result = dropout(states, 0.4, training=True)
    result.sum().backward()
    assert torch.equal(states.grad != 0, result != 0)
    torch.testing.assert_close(states.grad * states, result)


def test_the_module_switches_with_the_model() -> None:
    module, states = Dropout(0.5), torch.ones(100)
    assert (module(states) == 0).any()
    assert module.eval()(states) is states
    assert isinstance(module, torch.nn.Dropout)
