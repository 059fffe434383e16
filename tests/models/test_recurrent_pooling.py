"""Poolers of recurrent states: each against its definition on the real tokens alone, wherever the padding lies."""

import pytest
import torch

from hf_seqmodels.models.recurrent_pooling import build_pooler

POOLINGS = ("last", "mean", "max", "attention")
WIDTH = 6
# Padding on the left, on the right, inside and on both sides; none; one token.
KEPT = torch.tensor(
    [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]]
).bool()


def by_hand(pooling: str, states: torch.Tensor, bidirectional: bool, pooler: torch.nn.Module) -> torch.Tensor:
    """Of the real tokens of one row `(length, width)`."""
    if pooling == "last":
        return torch.cat([states[-1, : WIDTH // 2], states[0 if bidirectional else -1, WIDTH // 2 :]])
    if pooling == "mean":
        return sum(states) / len(states)
    if pooling == "max":
        return torch.stack([max(column) for column in states.T])
    scores = [
        (torch.tanh(pooler.projection.weight @ state + pooler.projection.bias) @ pooler.context.weight[0]).exp()
        for state in states
    ]
    return sum(score * state for score, state in zip(scores, states)) / sum(scores)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_real_tokens_alone_count(pooling: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    pooler = build_pooler(pooling, WIDTH, bidirectional).double()
    states = torch.randn(*KEPT.shape, WIDTH, dtype=torch.float64)
    states[~KEPT] = 1e6
    pooled = pooler(states, KEPT)
    for row, kept, result in zip(states, KEPT, pooled):
        expected = by_hand(pooling, row[kept], bidirectional, pooler)
        assert torch.allclose(result, expected, rtol=0, atol=1e-13)  # rounding of sums of up to five float64 terms


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_gradient_reaches_padding_and_bfloat16_works(pooling: str) -> None:
    pooler = build_pooler(pooling, WIDTH, True).bfloat16()
    states = torch.randn(*KEPT.shape, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    pooled = pooler(states, KEPT)
    assert pooled.dtype == torch.bfloat16
    pooled.sum().backward()
    assert states.grad is not None and not states.grad[~KEPT].any() and states.grad[KEPT].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_without_tokens_stays_finite(pooling: str) -> None:
    pooled = build_pooler(pooling, WIDTH, False)(torch.randn(2, 3, WIDTH), torch.zeros(2, 3, dtype=torch.bool))
    assert pooled.isfinite().all()


def test_unknown_pooling_is_named() -> None:
    with pytest.raises(ValueError, match="pooling='cls' is not known; choose one of last, mean, max, attention"):
        build_pooler("cls", WIDTH, False)
