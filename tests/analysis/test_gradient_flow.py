"""Gradients at every step: against a loop written out by hand, and what they say of RNN and LSTM."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

import hf_seqmodels as hs
from hf_seqmodels.analysis import gradient_flow
from hf_seqmodels.analysis.gradient_flow import GradientFlow

CONFIGS = {"rnn": hs.RNNConfig, "lstm": hs.LSTMConfig, "gru": hs.GRUConfig}
CLASSIFIERS = {
    "rnn": hs.RNNForSequenceClassification,
    "lstm": hs.LSTMForSequenceClassification,
    "gru": hs.GRUForSequenceClassification,
}
KINDS = pytest.mark.parametrize("kind", CONFIGS)
BATCH, STEPS, HIDDEN = 3, 7, 5


def toy(kind: str, **fields: Any) -> Any:
    sizes = {"vocab_size": 11, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_labels": 1}
    return CLASSIFIERS[kind](CONFIGS[kind](**{**sizes, **fields})).double()


def squared_error(outputs: Any) -> torch.Tensor:
    return (outputs.logits[:, 0] - torch.arange(BATCH, dtype=torch.float64)).square()


def cell_step(kind: str, rnn: Any, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """One step of the definitions in PyTorch's documentation."""
    from_input = nn.functional.linear(x, rnn.weight_ih_l0, rnn.bias_ih_l0)
    from_state = nn.functional.linear(h, rnn.weight_hh_l0, rnn.bias_hh_l0)
    if kind == "rnn":
        return torch.tanh(from_input + from_state), None
    if kind == "lstm":
        i, f, g, o = (from_input + from_state).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        # A node of its own for what goes on to the next step: the cell's gradient with h held.
        return o.sigmoid() * c.tanh(), c.clone()
    (ri, zi, ni), (rh, zh, nh) = from_input.chunk(3, dim=-1), from_state.chunk(3, dim=-1)
    r, z = (ri + rh).sigmoid(), (zi + zh).sigmoid()
    n = torch.tanh(ni + r * nh)
    return (1 - z) * n + z * h, None


def by_hand(kind: str, model: Any, inputs: torch.Tensor) -> dict[str, np.ndarray]:
    """`(layers, steps)` norms by `retain_grad` in a written-out loop."""
    layers = model.model.stack.layers
    states = [(torch.zeros(BATCH, HIDDEN, dtype=torch.float64),) * 2 for _ in layers]
    kept: dict[str, list[list[torch.Tensor]]] = {"hidden": [[] for _ in layers], "cell": [[] for _ in layers]}
    for x in inputs.unbind(1):
        for number, layer in enumerate(layers):
            h, c = cell_step(kind, layer.directions[0].rnn, x, *states[number])
            for name, state in (("hidden", h), ("cell", c)):
                if state is not None:
                    state.retain_grad()
                    kept[name][number].append(state)
            states[number] = (h, c)
            x = h + x if layer.residual else h
    squared_error(type("Outputs", (), {"logits": model.classifier(x)})).sum().backward()
    return {
        name: np.array([[0 if s.grad is None else s.grad.norm(dim=-1).mean() for s in layer] for layer in of_layers])
        for name, of_layers in kept.items()
        if of_layers[0]
    }


@KINDS
@pytest.mark.parametrize("residual", [False, True])
def test_norms_are_those_of_a_loop_written_out(kind: str, residual: bool) -> None:
    model = toy(kind, residual=residual)
    inputs = torch.randn(BATCH, STEPS, HIDDEN, dtype=torch.float64)
    expected = by_hand(kind, model, inputs)
    flow = gradient_flow(model, inputs, loss=squared_error)
    assert flow.hidden.shape == (2, STEPS)
    # float64, and sums of few terms in another order.
    np.testing.assert_allclose(flow.hidden, expected["hidden"], rtol=1e-10)
    assert (flow.cell is not None) == (kind == "lstm")
    if flow.cell is not None:
        np.testing.assert_allclose(flow.cell, expected["cell"], rtol=1e-10)
        assert (flow.cell[:, -1] == 0).all() and (flow.cell[:, :-1] > 0).all()


@KINDS
def test_a_language_model_at_its_last_step(kind: str) -> None:
    config = CONFIGS[kind](vocab_size=11, hidden_size=HIDDEN, num_hidden_layers=2)
    classes = {"rnn": hs.RNNForCausalLM, "lstm": hs.LSTMForCausalLM, "gru": hs.GRUForCausalLM}
    model = classes[kind](config).double()
    ids = torch.randint(11, (BATCH, STEPS + 1))
    flow = gradient_flow(model, ids[:, :-1], targets=ids[:, -1])
    probabilities = model(ids[:, :-1]).logits[:, -1].softmax(-1)
    by_formula = (probabilities - nn.functional.one_hot(ids[:, -1], 11)) @ model.get_output_embeddings().weight
    np.testing.assert_allclose(flow.hidden[1, -1], by_formula.norm(dim=-1).mean().item(), rtol=1e-10)
    changed = gradient_flow(model, ids[:, :-1], targets=(ids[:, -1] + 1) % 11)
    assert not np.allclose(flow.hidden, changed.hidden, rtol=1e-3)


def test_attention_gradients_are_those_at_the_layers_outputs() -> None:
    config = hs.SeqBertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, num_labels=1
    )
    model = hs.SeqBertForSequenceClassification(config).double().eval()
    ids = torch.randint(11, (BATCH, STEPS))
    flow = gradient_flow(model, ids, loss=squared_error)
    probes = []

    def add_zeros(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        probes.append(torch.zeros_like(output).requires_grad_())
        return output + probes[-1]

    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(add_zeros)
    gradients = torch.autograd.grad(squared_error(model(ids)).sum(), probes)
    expected = torch.stack([gradient.norm(dim=-1).mean(0) for gradient in gradients])
    np.testing.assert_allclose(flow.hidden, expected.numpy(), rtol=1e-10)
    assert (flow.hidden[0] > 0).all()
    assert flow.hidden[1, 0] > 0 and not flow.hidden[1, 1:].any()  # the classifier sees [CLS] alone
    assert flow.cell is None and np.isnan(flow.log_slopes[1])


def test_gradients_of_an_rnn_vanish_exponentially_and_those_of_an_lstm_do_not() -> None:
    steps = 80
    inputs = torch.randn(8, steps, 2)
    sizes = {"embedding_size": 2, "hidden_size": 32, "num_hidden_layers": 1, "recurrent_init": "uniform"}

    def flow_of(kind: str, **fields: Any) -> GradientFlow:
        torch.manual_seed(0)
        model = CLASSIFIERS[kind](CONFIGS[kind](num_labels=1, **sizes, **fields)).double()
        return gradient_flow(model, inputs.double(), loss=lambda outputs: outputs.logits)

    rnn = flow_of("rnn")
    # A straight line on a logarithmic scale.
    assert np.corrcoef(rnn.distances, np.log(rnn.hidden[0]))[0, 1] < -0.99
    assert rnn.hidden[0, 0] < 1e-12 * rnn.hidden[0, -1]
    shut, usual, open_ = (flow_of("lstm", forget_gate_bias=bias) for bias in (-1.0, 1.0, 2.0))
    # Measured with three seeds: RNN -0.41 to -0.56; LSTM -0.91 to -0.94, -0.15 to -0.17 and -0.006 to -0.017.
    slopes = [flow.log_slopes[0] for flow in (shut, rnn, usual, open_)]
    assert slopes == sorted(slopes) and slopes[1] < 2 * slopes[2] and slopes[2] < 4 * slopes[3] < 0
    assert open_.hidden[0, 0] > 0.1 * open_.hidden[0, -2]  # after 78 steps
    assert open_.cell_log_slopes is not None and -0.05 < open_.cell_log_slopes[0] < 0


def test_the_log_slope_is_that_of_an_exponential() -> None:
    norms = 3 * 0.9 ** np.arange(20)[::-1]
    flow = GradientFlow(np.stack([norms, np.where(np.arange(20) < 5, 0, norms), np.zeros(20)]))
    np.testing.assert_allclose(flow.log_slopes[:2], np.log(0.9), rtol=1e-9)
    assert np.isnan(flow.log_slopes[2]) and flow.cell_log_slopes is None
    assert flow.distances[[0, -1]].tolist() == [19, 0]


@KINDS
def test_it_leaves_no_trace_and_batches_do_not_matter(kind: str) -> None:
    model = toy(kind, hidden_dropout_prob=0.5, learn_initial_state=True).train()
    inputs = torch.randn(BATCH, STEPS, HIDDEN, dtype=torch.float64)
    loss = lambda outputs: outputs.logits.square()  # noqa: E731
    flow = gradient_flow(model, inputs, loss=loss)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    model.requires_grad_(False)
    for repeated in (inputs, inputs.repeat(2, 1, 1)):
        np.testing.assert_allclose(gradient_flow(model, repeated, loss=loss).hidden, flow.hidden, rtol=1e-10)
    rows = [gradient_flow(model, row, loss=loss).hidden for row in inputs.split(1)]
    np.testing.assert_allclose(np.mean(rows, axis=0), flow.hidden, rtol=1e-10)


@KINDS
def test_layer_normalised_cells(kind: str) -> None:
    flow = gradient_flow(
        toy(kind, layer_norm=True), torch.randn(BATCH, STEPS, HIDDEN, dtype=torch.float64), loss=squared_error
    )
    assert flow.hidden.shape == (2, STEPS) and (flow.hidden > 0).all()


def test_refusals() -> None:
    model = toy("lstm")
    ids = torch.randint(11, (BATCH, STEPS))
    for given in ({}, {"targets": ids[:, 0], "loss": squared_error}):
        with pytest.raises(ValueError, match="Exactly one of targets and loss"):
            gradient_flow(model, ids, **given)
    with pytest.raises(ValueError, match=r"targets of shape \(3, 7\) do not fit; \(3,\)"):
        gradient_flow(model, ids, targets=ids)
    for inputs in (ids[0], ids[:, :0], torch.zeros(3, 7)):
        with pytest.raises(ValueError, match=r"must be \(batch, seq_len\) ids or"):
            gradient_flow(model, inputs, loss=squared_error)
    with pytest.raises(ValueError, match="bidirectional=True"):
        gradient_flow(toy("gru", bidirectional=True), ids, loss=squared_error)
    with pytest.raises(ValueError, match="pooling='mean'"):
        gradient_flow(toy("gru", pooling="mean"), ids, loss=squared_error)
    assert not any(module._forward_hooks for module in model.modules())
    vit = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(ValueError, match="ViTModel takes no inputs_embeds"):
        gradient_flow(vit, torch.zeros(1, 2, 8), loss=squared_error)
