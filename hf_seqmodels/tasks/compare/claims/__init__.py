"""The claims of the story, in its order; each module has one, called `CLAIM`."""

import importlib

from hf_seqmodels.tasks.compare.claim import Claim

CLAIMS = (
    "parameters",
    "gradients",
    "long_range",
    "gates",
    "parallelism",
    "bottleneck",
    "alignment",
    "quadratic",
    "pretraining",
    "objectives",
    "data_hunger",
    "positions",
)


def load_claim(name: str) -> Claim:
    """Imports a claim's module, and what it needs, only when it is asked for.

    Raises:
        ValueError: there is no claim of this name.
    """
    if name not in CLAIMS:
        raise ValueError(f"claims: {name!r} is none. Allowed: {', '.join(CLAIMS)}.")
    return importlib.import_module(f"{__name__}.{name}").CLAIM


__all__ = ["CLAIMS", "load_claim"]
