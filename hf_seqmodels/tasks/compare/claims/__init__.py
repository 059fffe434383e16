"""The claims of the story, in its order; each module has one, called `CLAIM`."""

import importlib
import importlib.util

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


def available() -> tuple[str, ...]:
    """The names of the claims that have a module."""
    return tuple(name for name in CLAIMS if importlib.util.find_spec(f"{__name__}.{name}") is not None)


def load_claim(name: str) -> Claim:
    """Imports a claim's module, and what it needs, only when it is asked for.

    Raises:
        ValueError: there is no claim of this name.
    """
    if name not in available():
        raise ValueError(f"claims: {name!r} is none. Allowed: {', '.join(available())}.")
    return importlib.import_module(f"{__name__}.{name}").CLAIM


__all__ = ["CLAIMS", "available", "load_claim"]
