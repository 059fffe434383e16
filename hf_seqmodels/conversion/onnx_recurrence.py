"""Recurrent layers as ONNX has them: its LSTM, GRU and RNN operators where they fit, else a Scan over single steps.

`torch.export` knows PyTorch's fused recurrences only as a loop unrolled over one length. What is put in their place
here has the same numbers, and any batch and length.
"""

from typing import Any

import torch
from torch import nn
from torch._higher_order_ops.scan import scan

from hf_seqmodels.models.compaction import Compaction
from hf_seqmodels.models.recurrent import FusedRecurrence, RecurrentLayer
from hf_seqmodels.models.recurrent_layernorm import LayerNormRecurrence

# Where ONNX's gates lie among PyTorch's: its LSTM has i, o, f, c for i, f, g, o; its GRU z, r, h for r, z, n.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}

Ends = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class OperatorRecurrence(nn.Module):
    """One direction of one layer by ONNX's own operator, which knows where rows end.

    Args:
        source: its weights are taken over, in ONNX's order.
    """

    def __init__(self, source: FusedRecurrence):
        super().__init__()
        self.cell_type = source.cell_type
        self.hidden_size = source.rnn.hidden_size
        self.attributes: dict[str, Any] = {"hidden_size": self.hidden_size}
        if self.cell_type == "gru":
            self.attributes["linear_before_reset"] = 1  # as in cuDNN and PyTorch
        if self.cell_type == "rnn":
            self.attributes["activations"] = ["Relu" if source.rnn.mode == "RNN_RELU" else "Tanh"]
        weights = [self._in_order(weight.detach()) for weight in source.rnn.all_weights[0]]
        self.input_weight, self.recurrent_weight = (nn.Buffer(weight.unsqueeze(0)) for weight in weights[:2])
        self.biases = nn.Buffer(torch.cat(weights[2:]).unsqueeze(0))

    def _in_order(self, weight: torch.Tensor) -> torch.Tensor:
        order = _GATES[self.cell_type]
        gates = weight.chunk(len(order))
        return torch.cat([gates[gate] for gate in order])

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, compaction: Compaction | None
    ) -> Ends:
        """As `FusedRecurrence.forward`; outputs are zero behind a row's end."""
        batch, length = inputs.shape[:2]
        lengths = None if compaction is None else compaction.lengths.to(torch.int32)
        operands = [inputs.transpose(0, 1), self.input_weight, self.recurrent_weight, self.biases, lengths]
        states = [hidden] if cell is None else [hidden, cell]
        outputs, *ends = torch.onnx.ops.symbolic_multi_out(
            _OPERATORS[self.cell_type],
            [*operands, *(state.unsqueeze(0) for state in states)],
            self.attributes,
            dtypes=[inputs.dtype] * (1 + len(states)),
            shapes=[(length, 1, batch, self.hidden_size), *[(1, batch, self.hidden_size)] * len(states)],
        )
        ends = [end[0] for end in ends]
        if compaction is not None:
            # onnxruntime gives zeros for a row without tokens, which keeps its state instead.
            kept = (compaction.lengths > 0).unsqueeze(-1)
            ends = [torch.where(kept, end, state) for end, state in zip(ends, states)]
        return outputs[:, 0].transpose(0, 1), ends[0], ends[1] if cell is not None else None


class PlainCell(nn.Module):
    """The equations of a fused recurrence, for single steps (`torch.nn.RNNCell` and so on, LSTM with projection).

    Args:
        source: its weights are shared.
    """

    input_weight: torch.Tensor
    recurrent_weight: torch.Tensor
    input_bias: torch.Tensor
    recurrent_bias: torch.Tensor
    projection: torch.Tensor

    def __init__(self, source: FusedRecurrence):
        super().__init__()
        self.cell_type = source.cell_type
        self.activation = torch.relu if source.rnn.mode == "RNN_RELU" else torch.tanh
        names = ("input_weight", "recurrent_weight", "input_bias", "recurrent_bias", "projection")
        for name, weight in zip(names, source.rnn.all_weights[0]):
            self.register_parameter(name, weight)
        self.projects = source.rnn.proj_size > 0

    def project(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `LayerNormRecurrence.project`."""
        return nn.functional.linear(inputs, self.input_weight, self.input_bias)

    def step(
        self, projected: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `LayerNormRecurrence.step`."""
        recurrent = nn.functional.linear(hidden, weight, self.recurrent_bias)
        if self.cell_type == "rnn":
            return self.activation(projected + recurrent), None
        if self.cell_type == "gru":
            own, others = projected.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
            reset, update = (torch.sigmoid(mine + other) for mine, other in zip(own[:2], others[:2]))
            candidate = torch.tanh(own[2] + reset * others[2])
            return candidate + update * (hidden - candidate), None
        assert cell is not None
        write, keep, candidate, show = (projected + recurrent).chunk(4, dim=-1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(candidate)
        hidden = torch.sigmoid(show) * torch.tanh(cell)
        if self.projects:
            hidden = nn.functional.linear(hidden, self.projection)
        return hidden, cell


class ScannedRecurrence(nn.Module):
    """One direction of one layer by ONNX's Scan: a step of its equations for each token.

    Args:
        cell: with `project`, `step` and `recurrent_weight`.
    """

    def __init__(self, cell: PlainCell | LayerNormRecurrence):
        super().__init__()
        self.cell = cell

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, compaction: Compaction | None
    ) -> Ends:
        """As `FusedRecurrence.forward`."""
        weight = self.cell.recurrent_weight
        real = inputs.new_ones(inputs.shape[:2], dtype=torch.bool) if compaction is None else compaction.real

        def step(
            states: list[torch.Tensor], token: tuple[torch.Tensor, torch.Tensor]
        ) -> tuple[list[torch.Tensor], torch.Tensor]:
            projected, goes_on = token
            new_hidden, new_cell = self.cell.step(
                projected, states[0], states[1] if cell is not None else None, weight
            )
            after = [new_hidden] if new_cell is None else [new_hidden, new_cell]
            after = [torch.where(goes_on.unsqueeze(-1), new, old) for new, old in zip(after, states)]
            return after, after[0].clone()

        begin = [state.contiguous() for state in (hidden, cell) if state is not None]
        ends, outputs = scan(step, begin, (self.cell.project(inputs).transpose(0, 1), real.transpose(0, 1)))
        return outputs.transpose(0, 1), ends[0], ends[1] if cell is not None else None


class SingleStep(nn.Module):
    """One direction of one layer for one token, within a Scan over a whole decoder.

    Args:
        cell: with `project`, `step` and `recurrent_weight`.
    """

    def __init__(self, cell: PlainCell | LayerNormRecurrence):
        super().__init__()
        self.cell = cell

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, compaction: Compaction | None
    ) -> Ends:
        """As `FusedRecurrence.forward`, of `inputs` `(batch, 1, input)` without padding."""
        projected = self.cell.project(inputs[:, 0])
        new_hidden, new_cell = self.cell.step(projected, hidden, cell, self.cell.recurrent_weight)
        return new_hidden.unsqueeze(1), new_hidden, new_cell


def replace_recurrences(module: nn.Module, single_steps: bool = False) -> None:
    """Puts what can be exported in place of every recurrence in `module`.

    Args:
        module: is changed.
        single_steps: each call gets one token.
    """
    for layer in module.modules():
        if isinstance(layer, RecurrentLayer):
            layer.directions = nn.ModuleList(_exportable(direction, single_steps) for direction in layer.directions)


def _exportable(direction: nn.Module, single_steps: bool) -> nn.Module:
    if isinstance(direction, FusedRecurrence):
        if not single_steps and not direction.rnn.proj_size:
            return OperatorRecurrence(direction)
        direction = PlainCell(direction)
    assert isinstance(direction, PlainCell | LayerNormRecurrence)
    return SingleStep(direction) if single_steps else ScannedRecurrence(direction)


__all__ = ["OperatorRecurrence", "PlainCell", "ScannedRecurrence", "SingleStep", "replace_recurrences"]
