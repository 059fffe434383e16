"""Layer-normalised cells (Ba et al. 2016, "Layer Normalization", section 3.1 and supplement), step by step."""

import torch
from torch import nn

from .compaction import Compaction
from .configuration_rnn import RecurrentConfig
from .layers import dropout

NUM_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class LayerNormRecurrence(nn.Module):
    """One direction of one layer whose pre-activations are normalised. No fused kernel does this.

    RNN: `h' = f(LN(W x + U h) + b)`. LSTM: `(i, f, g, o) = LN(U h) + LN(W x) + b`, `c' = σ(f) c + σ(i) tanh(g)`,
    `h' = σ(o) tanh(LN(c'))`. GRU: likewise for reset and update gate, `n = tanh(LN(W x) + b + r LN(U h))`.
    Gates lie in PyTorch's order.
    """

    def __init__(self, config: RecurrentConfig, input_size: int):
        super().__init__()
        self.hidden_size = hidden = config.hidden_size
        self.cell_type = config.cell_type
        self.activation = torch.relu if getattr(config, "nonlinearity", "tanh") == "relu" else torch.tanh
        self.dropout_rate = config.recurrent_dropout_prob
        gates = NUM_GATES[config.cell_type] * hidden
        self.input_weight = nn.Parameter(torch.empty(gates, input_size))
        self.recurrent_weight = nn.Parameter(torch.empty(gates, hidden))
        self.input_bias = nn.Parameter(torch.zeros(gates))
        # The GRU's reset and update gates are normalised apart from its candidate.
        self.widths = [2 * hidden, hidden] if config.cell_type == "gru" else [gates]
        self.recurrent_norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for width in self.widths)
        own_norms = config.cell_type != "rnn"  # whose sum with the recurrent part is normalised instead
        self.input_norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for width in self.widths if own_norms)
        self.cell_norm = nn.LayerNorm(hidden) if config.cell_type == "lstm" else None

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, compaction: Compaction | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """As `FusedRecurrence.forward`."""
        weight = dropout(self.recurrent_weight, self.dropout_rate, self.training)
        projected = self.project(inputs)
        real = compaction.real if compaction is not None else None
        outputs = []
        for step in range(inputs.shape[1]):
            new_hidden, new_cell = self.step(projected[:, step], hidden, cell, weight)
            if real is not None:
                # Behind a row's end its state stands still.
                goes_on = real[:, step, None]
                new_hidden = torch.where(goes_on, new_hidden, hidden)
                new_cell = None if new_cell is None or cell is None else torch.where(goes_on, new_cell, cell)
            hidden, cell = new_hidden, new_cell
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), hidden, cell

    def project(self, inputs: torch.Tensor) -> torch.Tensor:
        """What steps need of their inputs: `(batch, seq_len, input)` -> `(batch, seq_len, gates * hidden)`."""
        projected = nn.functional.linear(inputs, self.input_weight)
        if self.input_norms:
            projected = self._normalised(projected, self.input_norms) + self.input_bias
        return projected

    def step(
        self, projected: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor | None, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """State `(batch, hidden)` and cell after one token, of which `projected` `(batch, gates * hidden)` is."""
        recurrent = nn.functional.linear(hidden, weight)
        if self.cell_type == "rnn":
            return self.activation(self.recurrent_norms[0](projected + recurrent) + self.input_bias), None
        recurrent = self._normalised(recurrent, self.recurrent_norms)
        if self.cell_type == "gru":
            gates = self.input_bias.shape[0] // 3 * 2
            reset, update = torch.sigmoid(projected[:, :gates] + recurrent[:, :gates]).chunk(2, dim=-1)
            candidate = torch.tanh(projected[:, gates:] + reset * recurrent[:, gates:])
            return candidate + update * (hidden - candidate), None
        assert cell is not None and self.cell_norm is not None
        write, keep, candidate, show = (projected + recurrent).chunk(4, dim=-1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(candidate)
        return torch.sigmoid(show) * torch.tanh(self.cell_norm(cell)), cell

    def _normalised(self, values: torch.Tensor, norms: nn.ModuleList) -> torch.Tensor:
        """Each norm on its own stretch of the last dimension."""
        return torch.cat([norm(part) for norm, part in zip(norms, values.split(self.widths, dim=-1))], dim=-1)


__all__ = ["NUM_GATES", "LayerNormRecurrence"]
