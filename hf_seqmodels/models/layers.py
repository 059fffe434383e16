"""Layers that several architectures share."""

import torch
from torch import nn
from transformers.activations import ACT2FN


def dropout(hidden_states: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Inverted dropout (Srivastava et al. 2014); same shape and dtype as `hidden_states`.

    PyTorch's CPU dropout draws one float per element, which takes longer than the matrix product it follows. Here 16
    random bits per element decide instead (6-9× faster), so on the CPU the rate is `p` rounded to a multiple of
    2^-16. On other devices, and under `torch.compile`, this is `torch.nn.functional.dropout`.
    """
    if not training or p == 0.0:
        return hidden_states
    if hidden_states.device.type != "cpu" or torch.compiler.is_compiling():
        return nn.functional.dropout(hidden_states, p, training=True)
    count = hidden_states.numel()
    # Four 16-bit draws from each 64-bit word of the global generator, whose state checkpoints carry.
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[:count].view(hidden_states.shape)
    dropped = round(p * 2**16)
    keep = torch.ge(draws, dropped - 2**15, out=torch.empty(hidden_states.shape, dtype=hidden_states.dtype))
    return hidden_states * keep.mul_(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` by `dropout` above."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(…)` -> `(…)`, zeroed at random while training."""
        return dropout(hidden_states, self.p, self.training)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): leaves out a residual branch for whole examples.

    Args:
        rate: share of the examples; those that remain are scaled up.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """`(batch, …)` -> the same, zero for some examples while training."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = torch.rand(branch.shape[0], *(1,) * (branch.dim() - 1), device=branch.device) >= self.rate
        return branch * (keep.to(branch.dtype) / (1.0 - self.rate))


class LayerScale(nn.Module):
    """A learned gain for each feature of a residual branch (Touvron et al. 2021, "Going deeper …", section 2)."""

    def __init__(self, dim: int, value: float):
        super().__init__()
        self.value = value
        self.scale = nn.Parameter(torch.full((dim,), float(value)))

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """`(…, dim)` -> the same."""
        return branch * self.scale


class FeedForward(nn.Module):
    """Two linear layers with an activation between them (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACT2FN[activation]
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(…, hidden)` -> the same."""
        return self.fc2(self.activation(self.fc1(hidden_states)))


__all__ = ["DropPath", "Dropout", "FeedForward", "LayerScale", "dropout"]
