"""Learning-rate schedules: the warm-up, the Transformer's, and where each ends."""

import math

import pytest

from hf_seqmodels.training.schedules import SCHEDULES, build_schedule


def test_inverse_sqrt_is_the_transformers() -> None:
    """Vaswani et al. 2017, equation 3, as a share of its peak, which it has at the end of the warm-up."""
    width, warmup = 512, 40
    factor = build_schedule("inverse_sqrt", warmup, 1000)
    published = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, 1001)]
    assert [factor(step) for step in range(1, 1001)] == pytest.approx([rate / max(published) for rate in published])
    assert build_schedule("inverse_sqrt", 0, 100)(4) == 0.5  # without a warm-up from the first step on


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_and_end(name: str) -> None:
    factor = build_schedule(name, 10, 100)
    assert [factor(step) for step in (1, 5, 10)] == pytest.approx([0.1, 0.5, 1.0])
    end = {"linear": 1 / 90, "wsd": 1 / 9, "constant": 1.0, "inverse_sqrt": math.sqrt(0.1)}
    end["cosine"] = 0.5 * (1 + math.cos(math.pi * 89 / 90))
    assert factor(100) == pytest.approx(end[name])


def test_unknown_schedule() -> None:
    with pytest.raises(ValueError, match="lr_scheduler_type='noam' is not known; choose one of linear"):
        build_schedule("noam", 1, 2)
