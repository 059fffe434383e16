"""Models of one size: the width at which a model has about as many parameters as the others."""

import bisect
from collections.abc import Callable

import torch
from torch import nn

from hf_seqmodels.tasks.long_range_models import num_trained

_MOST_MULTIPLES = 512


def nearest_width(build: Callable[[int], nn.Module], budget: int, multiple: int = 1) -> int:
    """The width whose model has the number of trained parameters nearest to `budget`.

    Args:
        build: width -> a model, which grows with it. It is called under the meta device, so no memory is filled.
        budget: trained parameters.
        multiple: widths are multiples of it, such as of the number of heads.

    Raises:
        ValueError: the widest model that is tried has less.
    """

    def size_of(multiples: int) -> int:
        with torch.device("meta"):
            return num_trained(build(multiples * multiple))

    if size_of(_MOST_MULTIPLES) < budget:
        raise ValueError(
            f"budget={budget} is more than the {size_of(_MOST_MULTIPLES)} of width {_MOST_MULTIPLES * multiple}: "
            f"raise multiple={multiple}."
        )
    # The nearest is the first that reaches the budget, or the one before.
    reaching = bisect.bisect_left(range(1, _MOST_MULTIPLES), budget, key=size_of) + 1
    return multiple * min(max(reaching - 1, 1), reaching, key=lambda multiples: abs(size_of(multiples) - budget))


__all__ = ["nearest_width"]
