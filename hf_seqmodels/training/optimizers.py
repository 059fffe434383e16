"""Optimisers and their parameter groups."""

from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = ("adamw", "lamb")


def undecayed_names(model: nn.Module) -> set[str]:
    """Parameters that weight decay must leave alone: biases, norms, and embedding tables.

    A model may name others by a method `no_weight_decay() -> set[str]` (timm's convention).
    """
    answer = getattr(model, "no_weight_decay", None)
    names = set(answer()) if callable(answer) else set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or isinstance(module, nn.Embedding):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def build_optimizer(
    name: str,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    undecayed: set[str],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
) -> torch.optim.Optimizer:
    """The optimiser over two groups, with and without weight decay.

    Args:
        name: "adamw" (Loshchilov & Hutter 2019; PyTorch's fused kernel) or "lamb" (You et al. 2020; from the package
            pytorch_optimizer, extra `[lamb]`).
        named_parameters: what to train; parameters without gradient are left out.
        undecayed: names of the group without decay.

    Raises:
        ValueError: `name` is unknown, or its package is not installed.
    """
    parameters = [(key, parameter) for key, parameter in named_parameters if parameter.requires_grad]
    groups = [
        {"params": [p for key, p in parameters if key not in undecayed], "weight_decay": weight_decay},
        {"params": [p for key, p in parameters if key in undecayed], "weight_decay": 0.0},
    ]
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
