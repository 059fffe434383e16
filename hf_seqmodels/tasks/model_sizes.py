"""Models of one size: the width at which a model has about as many parameters as the others."""

from collections.abc import Callable

import torch
from torch import nn


def num_trained(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def fitting_width(build: Callable[[int], nn.Module], budget: int, multiple: int, what: str) -> int:
    """As `nearest_width`, of a user's budget.

    Raises:
        ValueError: even the narrowest model, which is called `what`, has more than twice the budget.
    """
    width = nearest_width(build, budget, multiple)
    if (size := _size_of(build, width)) > 2 * budget:
        raise ValueError(f"parameter_budget={budget} is too small: {what} has at least {size} parameters.")
    return width


def nearest_width(build: Callable[[int], nn.Module], budget: int, multiple: int = 1) -> int:
    """The width whose model has the number of trained parameters nearest to `budget`.

    Args:
        build: width -> a model, which grows with it. It is called under the meta device, so no memory is filled.
        budget: trained parameters.
        multiple: widths are multiples of it, such as of the number of heads.
    """
    high = 1
    while _size_of(build, high * multiple) < budget:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _size_of(build, middle * multiple) < budget else (low, middle)
    below, above = (_size_of(build, width * multiple) if width else 0 for width in (low, high))
    return (high if low == 0 or above - budget <= budget - below else low) * multiple


def _size_of(build: Callable[[int], nn.Module], width: int) -> int:
    with torch.device("meta"):
        return num_trained(build(width))


__all__ = ["fitting_width", "nearest_width", "num_trained"]
