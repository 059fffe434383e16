"""How recurrent weights begin: orthogonal for each gate, forget gates open, memories spread over a time span."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from transformers import initialization as init

from .recurrent_layernorm import NUM_GATES, LayerNormRecurrence


class RecurrentBeginning(Protocol):
    """What a configuration says of it; besides, it may have `forget_gate_bias` and `chrono_max_length`."""

    cell_type: str
    recurrent_init: str


@torch.no_grad()
def initialize_recurrence(module: nn.RNNBase | LayerNormRecurrence, config: RecurrentBeginning) -> None:
    """Writes all weights of one direction of one layer, but those of its norms.

    Every write is of a whole parameter: what a checkpoint has filled is marked as such, and only on the whole.
    """
    weights: list[torch.Tensor]
    if isinstance(module, nn.RNNBase):
        weights = [*module.all_weights[0]]
        # PyTorch's kernels add two biases; one is enough.
        init.zeros_(weights.pop(3))
    else:
        weights = [module.input_weight, module.recurrent_weight, module.input_bias]
    input_weight, recurrent_weight, input_bias, *others = weights
    init.copy_(input_bias, _bias(input_bias, config))
    if config.recurrent_init == "uniform":
        bound = 1 / math.sqrt(module.hidden_size)
        for weight in (input_weight, recurrent_weight, *others):
            init.uniform_(weight, -bound, bound)
        return
    gates = NUM_GATES[config.cell_type]
    init.copy_(input_weight, _by_gate(input_weight, gates, init.xavier_uniform_))
    begin = init.eye_ if config.recurrent_init == "identity" else init.orthogonal_
    init.copy_(recurrent_weight, _by_gate(recurrent_weight, gates, begin))
    for projection in others:
        init.xavier_uniform_(projection)


def _by_gate(like: torch.Tensor, gates: int, begin: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A weight `(gates * hidden, …)` of which each gate's part begins by itself."""
    weight = torch.empty_like(like)
    for gate in weight.chunk(gates):
        begin(gate)
    return weight


def _bias(like: torch.Tensor, config: RecurrentBeginning) -> torch.Tensor:
    """`(gates * hidden,)`: zero, but for the gates that decide how long a memory lasts."""
    bias = torch.zeros_like(like).view(NUM_GATES[config.cell_type], -1)
    longest = getattr(config, "chrono_max_length", None)
    if longest is not None:
        # A gate that is open for a share 1 - 1/t keeps a memory for about t steps (Tallec & Ollivier 2018).
        spread = torch.log(torch.empty_like(bias[0]).uniform_(1, longest - 1))
        bias[1] = spread
        if config.cell_type == "lstm":
            bias[0] = -spread
    elif config.cell_type == "lstm":
        bias[1] = getattr(config, "forget_gate_bias", 0.0)
    return bias.flatten()


__all__ = ["initialize_recurrence"]
