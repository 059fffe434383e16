"""The stack of recurrent layers behind RNN, LSTM and GRU: one fused call for each layer, direction and sequence."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .compaction import Compaction
from .configuration_rnn import RecurrentConfig
from .layers import dropout
from .recurrent_dropout import FeatureDropout
from .recurrent_layernorm import LayerNormRecurrence

# A gate's pre-activation at which the sigmoid is exactly 0 or 1 in every precision, float16's range included.
_SHUT = 1e4

# Hidden state, and an LSTM's cell: `(batch, directions, size)` each.
State = tuple[torch.Tensor, torch.Tensor | None]


class FusedRecurrence(nn.Module):
    """One direction of one layer, by PyTorch's fused kernels (cuDNN, oneDNN).

    Padding lies behind each row's end (see `Compaction`), so outputs need no care. The state at a row's end is its
    last output; but an LSTM's cell comes out of the kernel only at the batch's end, so over padding it is held: an
    input that is 1 on padding opens the forget gate and shuts the input gate, exactly. Units without bounds (ReLU)
    could grow over padding until they overflow, and 0 times infinity is no gradient: the same input shuts them.
    """

    def __init__(self, config: RecurrentConfig, input_size: int):
        super().__init__()
        self.cell_type = config.cell_type
        self.dropout_rate = config.recurrent_dropout_prob
        size: dict[str, Any] = {"input_size": input_size, "hidden_size": config.hidden_size, "batch_first": True}
        self.rnn: nn.RNNBase
        if config.cell_type == "lstm":
            self.rnn = nn.LSTM(**size, proj_size=getattr(config, "projection_size", None) or 0)
        elif config.cell_type == "gru":
            self.rnn = nn.GRU(**size)
        else:
            self.rnn = nn.RNN(**size, nonlinearity=getattr(config, "nonlinearity", "tanh"))

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, compaction: Compaction | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Runs over the whole sequence.

        Args:
            inputs: `(batch, seq_len, input)`.
            hidden: `(batch, state)` before the first token.
            cell: `(batch, hidden)` of an LSTM, else `None`.
            compaction: where rows end; `None` if none has padding.

        Returns:
            Outputs `(batch, seq_len, state)`, undefined behind a row's end; hidden state and cell at each row's end.
        """
        weights: list[torch.Tensor] = [*self.rnn.all_weights[0]]
        weights[1] = dropout(weights[1], self.dropout_rate, self.training)
        if compaction is not None and self.rnn.mode in ("LSTM", "RNN_RELU"):
            inputs = torch.cat([inputs, (~compaction.real).unsqueeze(-1).to(inputs.dtype)], dim=-1)
            weights[0] = torch.cat([weights[0], self._padding_column(weights[0])], dim=-1)
        if self.cell_type != "lstm":
            kernel = torch.gru if self.cell_type == "gru" else getattr(torch, self.rnn.mode.lower())
            outputs, final = kernel(inputs, hidden.unsqueeze(0), weights, *self._settings())
            return outputs, _end(outputs, final, hidden, compaction), None
        assert cell is not None
        if inputs.shape[1] == 1 and compaction is None and not self.rnn.proj_size:
            # oneDNN arranges the weights anew at every call, which for a single step takes longer than the step.
            hidden, cell = torch.lstm_cell(inputs.squeeze(1), (hidden, cell), *weights)
            return hidden.unsqueeze(1), hidden, cell
        state = (hidden.unsqueeze(0), cell.unsqueeze(0))
        with warnings.catch_warnings():
            # True, and nothing that anyone can change: PyTorch's own kernel runs then.
            warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
            outputs, final, final_cell = torch.lstm(inputs, state, weights, *self._settings())
        return outputs, _end(outputs, final, hidden, compaction), final_cell.squeeze(0)

    def _settings(self) -> tuple[bool, int, float, bool, bool, bool]:
        """Of the kernels: has biases, layers, dropout between them, training, bidirectional, batch first."""
        return True, 1, 0.0, self.training, False, True

    def _padding_column(self, input_weight: torch.Tensor) -> torch.Tensor:
        """`(gates * hidden, 1)`: shuts a ReLU; shuts an LSTM's input gate and opens its forget gate, and no more."""
        if self.cell_type == "rnn":
            return input_weight.new_full((self.rnn.hidden_size, 1), -_SHUT)
        column = input_weight.new_zeros(4, self.rnn.hidden_size, 1)
        column[0], column[1] = -_SHUT, _SHUT
        return column.flatten(0, 1)


def _end(
    outputs: torch.Tensor, final: torch.Tensor, initial: torch.Tensor, compaction: Compaction | None
) -> torch.Tensor:
    return final.squeeze(0) if compaction is None else compaction.last(outputs, initial.to(outputs.dtype))


class RecurrentLayer(GradientCheckpointingLayer):
    """One layer: a recurrence from left to right, and one from right to left if it is bidirectional."""

    def __init__(self, config: RecurrentConfig, input_size: int):
        super().__init__()
        recurrence = LayerNormRecurrence if config.layer_norm else FusedRecurrence
        self.directions = nn.ModuleList(recurrence(config, input_size) for _ in range(config.num_directions))
        self.residual = config.residual and input_size == config.output_size
        self.has_cell = config.cell_type == "lstm"
        self.state_shape = (config.num_directions, config.state_size)
        self.cell_shape = (config.num_directions, config.hidden_size)
        if config.learn_initial_state:
            self.initial_hidden = nn.Parameter(torch.zeros(self.state_shape))
            if self.has_cell:
                self.initial_cell = nn.Parameter(torch.zeros(self.cell_shape))

    def initial_state(self, inputs: torch.Tensor) -> State:
        """The state before the first token of `inputs` `(batch, …)`."""
        if hasattr(self, "initial_hidden"):
            hidden = self.initial_hidden.expand(inputs.shape[0], -1, -1)
            return hidden, self.initial_cell.expand(inputs.shape[0], -1, -1) if self.has_cell else None
        hidden = inputs.new_zeros(inputs.shape[0], *self.state_shape)
        return hidden, inputs.new_zeros(inputs.shape[0], *self.cell_shape) if self.has_cell else None

    def forward(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor | None = None,
        cell: torch.Tensor | None = None,
        compaction: Compaction | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """`(batch, seq_len, input)` and the state before it -> `(batch, seq_len, output)` and the state after it.

        Args:
            hidden: `(batch, directions, state)`; `None` begins with the initial state.
            cell: `(batch, directions, hidden)` of an LSTM.
        """
        if hidden is None:
            hidden, cell = self.initial_state(inputs)
        outputs, hiddens, cells = [], [], []
        for number, direction in enumerate(self.directions):
            backwards = number == 1
            own_cell = None if cell is None else cell[:, number].to(inputs.dtype)
            output, end, end_cell = direction(
                _flipped(inputs, compaction) if backwards else inputs,
                hidden[:, number].to(inputs.dtype),
                own_cell,
                compaction,
            )
            outputs.append(_flipped(output, compaction) if backwards else output)
            hiddens.append(end)
            cells.append(end_cell)
        joined = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        if self.residual:
            joined = joined + inputs
        return joined, torch.stack(hiddens, dim=1), torch.stack(cells, dim=1) if self.has_cell else None


def _flipped(values: torch.Tensor, compaction: Compaction | None) -> torch.Tensor:
    return values.flip(1) if compaction is None else compaction.flip(values)


@dataclass(frozen=True)
class StackOutput:
    """What a stack makes of a sequence.

    Args:
        last_hidden_state: `(batch, seq_len, output)` after dropout, zero on padding.
        undropped: the same before dropout.
        states: of each layer after the sequence.
        hidden_states: on request, the stack's input and each layer's output.
    """

    last_hidden_state: torch.Tensor
    undropped: torch.Tensor
    states: list[State]
    hidden_states: tuple[torch.Tensor, ...] | None = None


class RecurrentStack(nn.Module):
    """The layers and the dropout around them."""

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        sizes = [config.input_size] + [config.output_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(RecurrentLayer(config, size) for size in sizes)
        self.input_dropout = FeatureDropout(config.input_dropout_prob, config.locked_dropout)
        self.hidden_dropout = FeatureDropout(config.hidden_dropout_prob, config.locked_dropout)
        self.output_dropout = FeatureDropout(config.output_dropout_prob, config.locked_dropout)

    def forward(
        self,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        states: list[State] | None = None,
        output_hidden_states: bool = False,
    ) -> StackOutput:
        """Runs all layers.

        Args:
            inputs: `(batch, seq_len, input)`.
            attention_mask: `(batch, seq_len)`, 0 on padding, which may lie anywhere; a row may be padding alone, and
                keeps its state then.
            states: of each layer before the sequence; `None` begins anew.
        """
        compaction = None
        # Compiled code looks at no values: it takes every mask for one with padding.
        if attention_mask is not None and (torch.compiler.is_compiling() or not bool((attention_mask != 0).all())):
            compaction = Compaction.from_mask(attention_mask)
            inputs = compaction.compact(inputs)
        hidden_states = self.input_dropout(inputs)
        recorded = [hidden_states]
        ends: list[State] = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                hidden_states = self.hidden_dropout(hidden_states)
            hidden, cell = (None, None) if states is None else states[number]
            hidden_states, hidden, cell = layer(hidden_states, hidden, cell, compaction)
            recorded.append(hidden_states)
            ends.append((hidden, cell))
        dropped = self.output_dropout(hidden_states)
        recorded[-1] = dropped
        if compaction is not None:
            dropped, hidden_states = compaction.restore(dropped), compaction.restore(hidden_states)
            recorded = [compaction.restore(layer) for layer in recorded] if output_hidden_states else []
        return StackOutput(dropped, hidden_states, ends, tuple(recorded) if output_hidden_states else None)


__all__ = ["FusedRecurrence", "RecurrentLayer", "RecurrentStack", "StackOutput", "State"]
