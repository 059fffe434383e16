"""Recurrent layers against the textbook's equations, written out step by step in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hf_seqmodels import GRUConfig, GRUModel, LSTMConfig, LSTMModel, RNNConfig, RNNModel

INPUT, HIDDEN, BATCH, LENGTH = 5, 6, 3, 7
SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "embedding_size": INPUT,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "learn_initial_state": True,
}
CASES = {
    "tanh": (RNNModel, RNNConfig, {"nonlinearity": "tanh"}),
    "relu": (RNNModel, RNNConfig, {"nonlinearity": "relu"}),
    "lstm": (LSTMModel, LSTMConfig, {}),
    "projected": (LSTMModel, LSTMConfig, {"projection_size": 4}),
    "gru": (GRUModel, GRUConfig, {}),
}
# Sums of some ten float64 terms of order one, in another order, over seven steps.
EXACT = {"rtol": 0, "atol": 1e-13}

Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def build(case: str, **fields: Any) -> tuple[Any, Any]:
    """A model in float64, all of whose parameters are random, and its only recurrence."""
    model_class, config_class, own = CASES[case]
    model = model_class(config_class(**SIZES, **own, **fields)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.8, 0.8)
    return model, model.stack.layers[0].directions[0]


def affine(weight: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    """`W v + b` for each row."""
    return torch.einsum("oi,bi->bo", weight, values) + bias


def textbook(case: str, rnn: torch.nn.RNNBase) -> Step:
    """One step of the fused layers: input, hidden state and cell -> hidden state and cell."""
    input_weights, recurrent_weights = rnn.weight_ih_l0.split(HIDDEN), rnn.weight_hh_l0.split(HIDDEN)
    input_biases, recurrent_biases = rnn.bias_ih_l0.split(HIDDEN), rnn.bias_hh_l0.split(HIDDEN)

    def parts(x: torch.Tensor, h: torch.Tensor, gate: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            affine(input_weights[gate], x, input_biases[gate]),
            affine(recurrent_weights[gate], h, recurrent_biases[gate]),
        )

    def elman(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (torch.tanh if case == "tanh" else torch.relu)(sum(parts(x, h, 0))), c

    def lstm(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i, f, g, o = (sum(parts(x, h, gate)) for gate in range(4))
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return affine(rnn.weight_hr_l0, h) if case == "projected" else h, c

    def gru(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r, z = (sum(parts(x, h, gate)).sigmoid() for gate in range(2))
        of_input, of_state = parts(x, h, 2)
        return (1 - z) * (of_input + r * of_state).tanh() + z * h, c

    return {"lstm": lstm, "projected": lstm, "gru": gru}.get(case, elman)


def normed(values: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Ba et al. 2016, equation 3, with the 1e-5 of `nn.LayerNorm`."""
    centred = values - values.mean(-1, keepdim=True)
    return gain * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias


def textbook_layer_norm(case: str, cell: Any) -> Step:
    """One step of the layer-normalised cells (Ba et al. 2016, section 3.1 and supplement, equations 20-22, 24-27)."""
    bias = cell.input_bias

    def elman(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = affine(cell.input_weight, x) + affine(cell.recurrent_weight, h)
        activation = torch.tanh if case == "tanh" else torch.relu
        return activation(normed(total, cell.recurrent_norms[0].weight) + bias), c

    def lstm(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        of_state = normed(affine(cell.recurrent_weight, h), cell.recurrent_norms[0].weight)
        of_input = normed(affine(cell.input_weight, x), cell.input_norms[0].weight)
        i, f, g, o = (of_state + of_input + bias).split(HIDDEN, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * normed(c, cell.cell_norm.weight, cell.cell_norm.bias).tanh(), c

    def gru(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gates = 2 * HIDDEN
        of_state = normed(affine(cell.recurrent_weight[:gates], h), cell.recurrent_norms[0].weight)
        of_input = normed(affine(cell.input_weight[:gates], x), cell.input_norms[0].weight)
        r, z = (of_state + of_input + bias[:gates]).sigmoid().split(HIDDEN, dim=-1)
        of_state = normed(affine(cell.recurrent_weight[gates:], h), cell.recurrent_norms[1].weight)
        of_input = normed(affine(cell.input_weight[gates:], x), cell.input_norms[1].weight)
        return (1 - z) * (of_input + bias[gates:] + r * of_state).tanh() + z * h, c

    return {"lstm": lstm, "gru": gru}.get(case, elman)


def check_against(model: Any, step: Step) -> None:
    """The model's outputs and states are those of the step loop."""
    inputs = torch.randn(BATCH, LENGTH, INPUT, dtype=torch.float64)
    outputs = model(inputs_embeds=inputs)
    layer = model.stack.layers[0]
    hidden = layer.initial_hidden.expand(BATCH, -1, -1)[:, 0]
    cell = layer.initial_cell.expand(BATCH, -1, -1)[:, 0] if layer.has_cell else hidden
    for place in range(LENGTH):
        hidden, cell = step(inputs[:, place], hidden, cell)
        torch.testing.assert_close(outputs.last_hidden_state[:, place], hidden, **EXACT)
    state = outputs.past_key_values.layers[0]
    torch.testing.assert_close(state.hidden[:, 0], hidden, **EXACT)
    if layer.has_cell:
        torch.testing.assert_close(state.cell[:, 0], cell, **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_fused_layers_follow_the_equations(case: str) -> None:
    model, recurrence = build(case)
    check_against(model, textbook(case, recurrence.rnn))


@pytest.mark.parametrize("case", [case for case in CASES if case != "projected"])
def test_layer_normalised_cells_follow_the_equations(case: str) -> None:
    model, recurrence = build(case, layer_norm=True)
    check_against(model, textbook_layer_norm(case, recurrence))


def test_the_gru_resets_after_the_product() -> None:
    """The control: Cho et al.'s reset before the product is another function, which the comparison would notice."""
    model, recurrence = build("gru")
    fused = textbook("gru", recurrence.rnn)

    def reset_before(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rnn = recurrence.rnn
        pre = affine(rnn.weight_ih_l0, x, rnn.bias_ih_l0), affine(rnn.weight_hh_l0, h, rnn.bias_hh_l0)
        r, z, _ = (pre[0] + pre[1]).sigmoid().split(HIDDEN, dim=-1)
        last = slice(2 * HIDDEN, None)
        n = pre[0][:, last] + affine(rnn.weight_hh_l0[last], r * h, rnn.bias_hh_l0[last])
        return (1 - z) * n.tanh() + z * h, c

    check_against(model, fused)
    with pytest.raises(AssertionError):
        check_against(model, reset_before)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("case", ["tanh", "lstm", "gru"])
def test_residual_layers_add_their_input(case: str, layer_norm: bool) -> None:
    """Where widths agree: in the second layer here, not in the first."""
    model_class, config_class, own = CASES[case]
    config = config_class(**{**SIZES, **own, "num_hidden_layers": 2, "layer_norm": layer_norm})
    plain = model_class(config).double().eval()
    config.residual = True
    residual = model_class(config).double().eval()
    residual.load_state_dict(plain.state_dict())
    inputs = torch.randn(BATCH, LENGTH, INPUT, dtype=torch.float64)
    expected = plain(inputs_embeds=inputs, output_hidden_states=True).hidden_states
    got = residual(inputs_embeds=inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(got[1], expected[1], rtol=0, atol=0)
    torch.testing.assert_close(got[2], expected[1] + expected[2], **EXACT)
