"""The cheap dropout drops as much as it should, and remembers what it drew."""

import pytest
import torch

from hf_seqmodels.models.layers import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rate_and_scale(p: float, dtype: torch.dtype) -> None:
    count = 400_000
    dropped = dropout(torch.ones(count, dtype=dtype), p, training=True)
    share = (dropped == 0).double().mean().item()
    # Five standard deviations of a binomial share: a false alarm in two million runs.
    assert abs(share - p) < 5 * (p * (1 - p) / count) ** 0.5
    kept = dropped[dropped != 0].unique()
    assert len(kept) == 1
    assert kept.item() == pytest.approx(1 / (1 - p), rel=2 * torch.finfo(dtype).eps + 2**-14)


def test_neighbours_are_independent() -> None:
    kept = (dropout(torch.ones(200_000), 0.5, training=True) != 0).double()
    for distance in (1, 2, 3, 4, 8):
        correlation = torch.corrcoef(torch.stack([kept[:-distance], kept[distance:]]))[0, 1]
        assert abs(correlation) < 5 / 200_000**0.5


def test_same_state_same_mask_and_gradient() -> None:
    values = torch.randn(7, 13, requires_grad=True)
    state = torch.get_rng_state()
    first = dropout(values, 0.3, training=True)
    torch.set_rng_state(state)
    assert torch.equal(first, dropout(values, 0.3, training=True))
    first.sum().backward()
    assert torch.equal(values.grad == 0, first == 0)


def test_off_in_evaluation_and_at_zero() -> None:
    values = torch.randn(5)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0).train()(values) is values
