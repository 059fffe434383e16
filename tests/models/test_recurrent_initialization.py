"""How recurrent models begin, and what weights that a checkpoint lacks come back as."""

import math
import pathlib
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hf_seqmodels import (
    GRUConfig,
    GRUForCausalLM,
    GRUModel,
    LSTMConfig,
    LSTMForCausalLM,
    LSTMForTokenClassification,
    LSTMModel,
    RNNConfig,
    RNNForCausalLM,
    RNNModel,
)

HIDDEN, INPUT = 24, 10
SIZES: dict[str, Any] = {"vocab_size": 50, "embedding_size": INPUT, "hidden_size": HIDDEN}
CASES = {"rnn": (RNNModel, RNNConfig, 1), "lstm": (LSTMModel, LSTMConfig, 4), "gru": (GRUModel, GRUConfig, 3)}


def weights_of(model: Any, layer_norm: bool) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of each direction of each layer: input weight, recurrent weight, sum of the biases."""
    found = []
    for layer in model.stack.layers:
        for cell in layer.directions:
            if layer_norm:
                found.append((cell.input_weight, cell.recurrent_weight, cell.input_bias))
            else:
                rnn = cell.rnn
                found.append((rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0))
    return found


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_recurrent_weights_are_orthogonal_in_each_gate(kind: str, layer_norm: bool) -> None:
    model_class, config_class, gates = CASES[kind]
    model = model_class(config_class(**SIZES, layer_norm=layer_norm, bidirectional=True))
    blocks = []
    for input_weight, recurrent_weight, _ in weights_of(model, layer_norm):
        bound = math.sqrt(6 / (input_weight.shape[1] + HIDDEN))  # Glorot & Bengio 2010, of one gate
        assert 0.9 * bound < input_weight.abs().max() <= bound
        assert input_weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        for block in recurrent_weight.chunk(gates):
            torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN), rtol=0, atol=1e-5)  # float32 QR
            blocks.append(block)
    assert len(blocks) == 4 * gates
    assert not any(torch.allclose(a, b) for n, a in enumerate(blocks) for b in blocks[:n])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_forget_gates_begin_open_by_one_bias(layer_norm: bool) -> None:
    for bias in (1.0, 0.0, 2.5):
        model = LSTMModel(LSTMConfig(**SIZES, layer_norm=layer_norm, forget_gate_bias=bias))
        for _, _, total in weights_of(model, layer_norm):
            write, keep, candidate, show = total.chunk(4)
            assert (keep == bias).all()
            assert not torch.cat([write, candidate, show]).any()
    for kind in ("rnn", "gru"):
        model_class, config_class, _ = CASES[kind]
        model = model_class(config_class(**SIZES, layer_norm=layer_norm))
        assert not any(total.any() for _, _, total in weights_of(model, layer_norm))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_chrono_spreads_memories_over_the_span(kind: str, layer_norm: bool) -> None:
    """Tallec & Ollivier 2018, section 2.2: b_f = log U(1, T - 1), b_i = -b_f; such a gate keeps for 1 + e^b steps."""
    model_class, config_class, gates = CASES[kind]
    model = model_class(config_class(**{**SIZES, "hidden_size": 400}, layer_norm=layer_norm, chrono_max_length=100))
    for _, _, total in weights_of(model, layer_norm):
        parts = total.chunk(gates)
        keeps = parts[1].exp()
        # the update gate in a GRU; in [1, 99] up to float32's rounding, uniformly: mean 50 ± 5 standard errors
        assert keeps.min() > 0.999 and keeps.max() < 99.01
        assert keeps.mean().item() == pytest.approx(50, abs=5 * 98 / math.sqrt(12 * 400))
        assert keeps.min() < 3 and keeps.max() > 97
        if kind == "lstm":
            assert torch.equal(parts[0], -parts[1])
        others = [parts[0], parts[2]] if kind == "gru" else parts[2:]
        assert not torch.cat(others).any()


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_identity_and_uniform(kind: str, layer_norm: bool) -> None:
    model_class, config_class, gates = CASES[kind]
    model = model_class(config_class(**SIZES, layer_norm=layer_norm, recurrent_init="identity"))
    for _, recurrent_weight, _ in weights_of(model, layer_norm):
        assert torch.equal(recurrent_weight, torch.eye(HIDDEN).repeat(gates, 1))
    model = model_class(config_class(**SIZES, layer_norm=layer_norm, recurrent_init="uniform"))
    bound = 1 / math.sqrt(HIDDEN)
    for input_weight, recurrent_weight, _ in weights_of(model, layer_norm):
        for weight in (input_weight, recurrent_weight):
            assert 0.95 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_an_irnn_begins_by_remembering_everything() -> None:
    """Le et al. 2015: with ReLU and the identity, the state is the sum of what came in, if that is positive."""
    model = RNNModel(RNNConfig(**SIZES, num_hidden_layers=1, nonlinearity="relu", recurrent_init="identity"))
    weight = weights_of(model, False)[0][0]
    with torch.no_grad():
        weight.abs_()
    inputs = torch.rand(2, 40, INPUT)
    expected = (inputs.sum(1) @ weight.T).detach()
    torch.testing.assert_close(model(inputs_embeds=inputs).last_hidden_state[:, -1], expected, rtol=1e-5, atol=0)


def test_embeddings_states_and_heads() -> None:
    config = LSTMConfig(**SIZES, learn_initial_state=True, layer_norm=True, use_crf=True, num_labels=9)
    model = LSTMForTokenClassification(config)
    assert 0.095 < model.model.embed_tokens.weight.abs().max() <= 0.1
    for layer in model.model.stack.layers:
        assert not layer.initial_hidden.any() and not layer.initial_cell.any()
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert norms and all((norm.weight == 1).all() and (norm.bias is None or not norm.bias.any()) for norm in norms)
    assert 0 < model.crf.transitions.abs().max() <= 0.1 and not model.classifier.bias.any()


@pytest.mark.parametrize("embedding_size", [HIDDEN, INPUT])
def test_a_tied_table_begins_as_embeddings(embedding_size: int) -> None:
    """±initializer_range, not the output layer's Xavier, which would be three times as wide here."""
    model = GRUForCausalLM(GRUConfig(vocab_size=50, hidden_size=HIDDEN, embedding_size=embedding_size))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert 0.095 < model.lm_head.weight.abs().max() <= 0.1
    assert not model.lm_head.bias.any()


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_what_a_checkpoint_lacks_is_initialised_and_what_it_holds_is_kept(
    kind: str, layer_norm: bool, tmp_path: pathlib.Path
) -> None:
    """Of each second layer the recurrent weights and biases are taken out of the file."""
    model_class, config_class, gates = CASES[kind]
    model = model_class(config_class(**SIZES, layer_norm=layer_norm, learn_initial_state=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(5, 6)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    saved = load_file(file)
    lost = ("layers.1.directions.0.rnn.weight_hh", "layers.1.directions.0.rnn.bias", "layers.1.initial", "norms")
    lost += ("layers.1.directions.0.recurrent_weight", "layers.1.directions.0.input_bias", "cell_norm")
    kept = {name: value for name, value in saved.items() if not any(part in name for part in lost)}
    assert len(kept) < len(saved)
    save_file(kept, file, metadata={"format": "pt"})
    again = model_class.from_pretrained(tmp_path)
    for name, value in again.state_dict().items():
        if name in kept:
            assert torch.equal(value, kept[name]), name
    _, recurrent_weight, bias = weights_of(again, layer_norm)[1]
    for block in recurrent_weight.chunk(gates):
        torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN), rtol=0, atol=1e-5)
    expected = torch.zeros_like(bias)
    if kind == "lstm":
        expected[HIDDEN : 2 * HIDDEN] = 1
    assert torch.equal(bias, expected)
    assert not again.stack.layers[1].initial_hidden.any()
    assert all((norm.weight == 1).all() for norm in again.modules() if isinstance(norm, nn.LayerNorm))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_class", [RNNForCausalLM, LSTMForCausalLM, GRUForCausalLM])
def test_models_begin_in_half_precision_too(
    model_class: type[Any], dtype: torch.dtype, tmp_path: pathlib.Path
) -> None:
    config = model_class.config_class(**SIZES, learn_initial_state=True)
    model = model_class._from_config(config, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    for _, recurrent_weight, _ in weights_of(model.model, False):
        block = recurrent_weight[:HIDDEN].float()
        # each entry is rounded to some 2^-9 of itself
        torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN), rtol=0, atol=2e-2)
    model.save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path, dtype=dtype)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
