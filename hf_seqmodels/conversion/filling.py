"""A model that is filled with converted weights: all of them, and nothing else."""

from typing import Any

import torch

Weights = dict[str, torch.Tensor]

# More names than these tell a reader nothing new.
_LISTED = 4


def filled_model(
    model_class: Any,
    config: Any,
    weights: Weights,
    like: torch.Tensor,
    fresh: tuple[str, ...] = (),
    **kwargs: Any,
) -> Any:
    """`model_class(config, **kwargs)` with copies of these weights, in eval mode.

    Args:
        like: a tensor of the dtype and in the place that the model shall have.
        fresh: beginnings of the names that keep their initial values, if `weights` lacks them.

    Raises:
        ValueError: the weights are not exactly those of the model; the first few that differ are named.
    """
    # Initial weights, overwritten below, take nothing from the caller's stream.
    with torch.random.fork_rng(devices=[]):
        model = model_class(config, **kwargs)
    # Before the weights come, so that float64 is not rounded on the way.
    model = model.to(device=like.device, dtype=like.dtype)
    own = model.state_dict()
    weights = {name: weight for name, weight in own.items() if name.startswith(fresh)} | weights
    wrong = [f"{name} is missing" for name in own if name not in weights]
    wrong += [f"{name} has no place" for name in weights if name not in own]
    wrong += [
        f"{name} has shape {tuple(weights[name].shape)}, not {tuple(weight.shape)}"
        for name, weight in own.items()
        if name in weights and weights[name].shape != weight.shape
    ]
    if wrong:
        more = f"; {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise ValueError(
            f"the weights do not fit this configuration of {model_class.__name__}: {'; '.join(wrong[:_LISTED])}{more}."
        )
    model.load_state_dict(weights)
    return model.eval()


__all__ = ["Weights", "filled_model"]
