"""Optimisers and their parameter groups."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_seqmodels.training.errors import CheckpointError

OPTIMIZERS = ("adamw", "lamb")


Group = dict[str, Any]


def undecayed_names(model: nn.Module) -> set[str]:
    """Parameters that weight decay must leave alone: biases, norms, and embedding tables.

    A model names others, such as position tables and class tokens that are bare parameters, by a method
    `no_weight_decay() -> set[str]` (timm's convention).

    Raises:
        ValueError: the model names something that is no parameter of it.
    """
    answer = getattr(model, "no_weight_decay", None)
    names = set(answer()) if callable(answer) else set()
    _require_parameters(model, "no_weight_decay()", names)
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or isinstance(module, nn.Embedding):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def learning_rate_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Factor of the learning rate by parameter: `layer_decay` ** (greatest depth - depth).

    Layers near the input keep more of what pretraining has taught them (Clark et al. 2020, "ELECTRA", appendix B;
    Bao et al. 2022, "BEiT", section 3.1).

    Args:
        model: answers `layer_depths() -> dict[str, int]`, the depth of each parameter: 0 for embeddings, n for the
            n-th layer, one more than the last layer for heads.
        layer_decay: in (0, 1).

    Raises:
        ValueError: the model has no such method, leaves a trained parameter out, or names something that is none.
    """
    answer = getattr(model, "layer_depths", None)
    if not callable(answer):
        raise ValueError(
            f"layer_decay={layer_decay!r} must be 1.0 for {type(model).__name__}, which has no layer_depths()."
        )
    depths: dict[str, int] = answer()
    _require_parameters(model, "layer_depths()", set(depths))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if trained - depths.keys():
        raise ValueError(f"{type(model).__name__}.layer_depths() leaves out {sorted(trained - depths.keys())}.")
    deepest = max(depths.values())
    return {name: layer_decay ** (deepest - depth) for name, depth in depths.items()}


def _require_parameters(model: nn.Module, method: str, names: set[str]) -> None:
    unknown = names - {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if unknown:
        raise ValueError(f"{type(model).__name__}.{method} names {sorted(unknown)}, which are no parameters of it.")


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    undecayed: set[str],
    weight_decay: float,
    scales: dict[str, float] | None = None,
) -> list[Group]:
    """The optimiser's groups: with and without weight decay, and with `scales` so for each factor, `lr_scale`.

    Args:
        named_parameters: what to train; parameters without gradient are left out.
        undecayed: names of those without decay.
        weight_decay: of the others.
        scales: of `learning_rate_scales`; by default all learn at the same rate.
    """
    parameters = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    if scales is None:
        return [
            {"params": [p for name, p in parameters if name not in undecayed], "weight_decay": weight_decay},
            {"params": [p for name, p in parameters if name in undecayed], "weight_decay": 0.0},
        ]
    groups: dict[tuple[float, bool], Group] = {}
    for name, parameter in parameters:
        key = (scales[name], name in undecayed)
        decay = 0.0 if name in undecayed else weight_decay
        group = groups.setdefault(key, {"params": [], "weight_decay": decay, "lr_scale": scales[name]})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives each group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * _scale(group)


def check_groups(optimizer: torch.optim.Optimizer, saved: list[Group], folder: Path) -> None:
    """Compares the sizes and learning rates' factors of a checkpoint's groups with those of the optimiser.

    Raises:
        CheckpointError: they differ, so that weights would learn at another rate or get another weight's moments.
    """
    there, here = ([(_scale(group), len(group["params"])) for group in g] for g in (saved, optimizer.param_groups))
    if there != here:
        raise CheckpointError(
            f"{folder}: its optimiser's groups have the (learning rate factor, number of weights) {there}, those of "
            f"this run {here}. Resume with the layer_decay that it was trained with."
        )


def _scale(group: Group) -> float:
    return group.get("lr_scale", 1.0)


def build_optimizer(
    name: str, groups: list[Group], learning_rate: float, betas: tuple[float, float], epsilon: float
) -> torch.optim.Optimizer:
    """The optimiser over `parameter_groups`.

    Args:
        name: "adamw" (Loshchilov & Hutter 2019; PyTorch's fused kernel) or "lamb" (You et al. 2020; from the package
            pytorch_optimizer, extra `[lamb]`).

    Raises:
        ValueError: `name` is unknown, or its package is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=epsilon, fused=True)
    if name == "lamb":
        try:
            from pytorch_optimizer import Lamb
        except ImportError as error:
            raise ValueError("optim='lamb' needs the extra: pip install 'hf_seqmodels[lamb]'.") from error
        # The paper's trust ratio covers the decay; the package would by default decay outside it.
        return Lamb(groups, lr=learning_rate, betas=betas, eps=epsilon, weight_decouple=False)
    raise ValueError(f"optim={name!r} is not known; choose one of {', '.join(OPTIMIZERS)}.")
