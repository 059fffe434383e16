"""Recurrent stacks against torch.nn's RNN, LSTM and GRU with the same weights, which run packed or row by row."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from hf_seqmodels import GRUConfig, GRUModel, LSTMConfig, LSTMModel, RNNConfig, RNNModel
from hf_seqmodels.models.compaction import Compaction
from hf_seqmodels.models.recurrent import FusedRecurrence

INPUT, HIDDEN, LAYERS = 5, 6, 2
SIZES: dict[str, Any] = {"vocab_size": 11, "embedding_size": INPUT, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS}
CASES = {
    "tanh": (RNNModel, RNNConfig, {}, nn.RNN, {}),
    "relu": (RNNModel, RNNConfig, {"nonlinearity": "relu"}, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTMModel, LSTMConfig, {}, nn.LSTM, {}),
    "projected": (LSTMModel, LSTMConfig, {"projection_size": 4}, nn.LSTM, {"proj_size": 4}),
    "gru": (GRUModel, GRUConfig, {}, nn.GRU, {}),
}
MASKS = {
    "none": [[1] * 6, [1] * 6, [1] * 6],
    "right": [[1, 1, 1, 0, 0, 0], [1] * 6, [1, 0, 0, 0, 0, 0]],
    "left": [[0, 0, 0, 1, 1, 1], [1] * 6, [0, 0, 0, 0, 0, 1]],
    "middle": [[1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0]],
}
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order
SINGLE = {"rtol": 0, "atol": 2e-6}  # some float32 roundings of values of order one


def pair(case: str, bidirectional: bool, dtype: torch.dtype = torch.float64, **fields: Any) -> tuple[Any, nn.RNNBase]:
    """Our model and torch's with the same random weights."""
    model_class, config_class, own, torch_class, torch_own = CASES[case]
    model = model_class(config_class(**SIZES, **own, bidirectional=bidirectional, **fields)).to(dtype).eval()
    sizes = {"num_layers": LAYERS, "bidirectional": bidirectional, "batch_first": True}
    reference = torch_class(INPUT, HIDDEN, **sizes, **torch_own).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5)
    weights = {}
    for number, layer in enumerate(model.stack.layers):
        for suffix, direction in zip(("", "_reverse"), layer.directions):
            for name, value in direction.rnn.state_dict().items():
                weights[name.replace("_l0", f"_l{number}{suffix}")] = value
    reference.load_state_dict(weights)
    return model, reference


def real_rows(values: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Each row's real tokens."""
    return [row[kept] for row, kept in zip(values, mask.bool())]


def by_layer(state: torch.Tensor) -> torch.Tensor:
    """torch's `(layers * directions, batch, size)` as ours, `(layers, batch, directions, size)`."""
    return state.unflatten(0, (LAYERS, -1)).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_states_and_gradients_are_those_of_packed_rows(
    case: str, bidirectional: bool, side: str, dtype: torch.dtype
) -> None:
    model, reference = pair(case, bidirectional, dtype)
    mask = torch.tensor(MASKS[side])
    inputs = torch.randn(*mask.shape, INPUT, dtype=dtype)
    inputs[mask == 0] = 100.0  # what stands on padding is no matter
    tolerance = EXACT if dtype == torch.float64 else SINGLE

    outputs = model(inputs_embeds=inputs, attention_mask=mask)
    packed, states = reference(pack_sequence(real_rows(inputs, mask), enforce_sorted=False))
    expected = unpack_sequence(packed)
    for ours, theirs in zip(real_rows(outputs.last_hidden_state, mask), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)
    assert not outputs.last_hidden_state[mask == 0].any()
    cached = outputs.past_key_values.layers
    hidden, cell = states if isinstance(states, tuple) else (states, None)
    torch.testing.assert_close(torch.stack([layer.hidden for layer in cached]), by_layer(hidden), **tolerance)
    if cell is not None:
        torch.testing.assert_close(torch.stack([layer.cell for layer in cached]), by_layer(cell), **tolerance)

    sum(row.square().sum() for row in real_rows(outputs.last_hidden_state, mask)).backward()
    sum(row.square().sum() for row in expected).backward()
    for number, layer in enumerate(model.stack.layers):
        for suffix, direction in zip(("", "_reverse"), layer.directions):
            for name, parameter in direction.rnn.named_parameters():
                theirs = getattr(reference, name.replace("_l0", f"_l{number}{suffix}"))
                # sums over three rows of up to six tokens, of order ten
                torch.testing.assert_close(parameter.grad, theirs.grad, rtol=1e-5, atol=10 * tolerance["atol"])


@pytest.mark.parametrize("case", ["tanh", "lstm", "gru"])
def test_in_bfloat16_padding_costs_no_precision(case: str) -> None:
    """Against float64, our padded batch errs at most 1.5 times as much as torch's rows one by one."""
    model, reference = pair(case, True, torch.bfloat16)
    mask = torch.tensor(MASKS["middle"]).repeat(8, 1)
    inputs = torch.randn(*mask.shape, INPUT).bfloat16()
    ours = model(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
    assert ours.dtype == torch.bfloat16
    theirs = [reference(row[None])[0][0] for row in real_rows(inputs, mask)]
    exact = model.double()(inputs_embeds=inputs.double(), attention_mask=mask).last_hidden_state
    rows = list(zip(real_rows(ours, mask), theirs, real_rows(exact, mask), strict=True))
    own_error = torch.cat([(row - truth).abs().flatten() for row, _, truth in rows]).mean()
    their_error = torch.cat([(row - truth).abs().flatten() for _, row, truth in rows]).mean()
    assert 0 < own_error <= 1.5 * their_error < 0.05


@pytest.mark.parametrize("case", CASES)
def test_a_sequence_in_chunks_is_the_sequence(case: str) -> None:
    """The state at the end of one chunk begins the next; a row whose padding fills a chunk keeps its state."""
    model, _ = pair(case, False)
    mask = torch.tensor([[1] * 9, [1, 1, 1, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 1, 1, 1, 0]])
    inputs = torch.randn(*mask.shape, INPUT, dtype=torch.float64)
    whole = model(inputs_embeds=inputs, attention_mask=mask)
    cache, parts, hidden = None, [], []
    for first in (0, 3, 6):
        part = slice(first, first + 3)
        outputs = model(inputs_embeds=inputs[:, part], attention_mask=mask[:, part], past_key_values=cache)
        cache = outputs.past_key_values
        parts.append(outputs.last_hidden_state)
        hidden.append(cache.layers[0].hidden)
    # the second row's second chunk is padding
    assert torch.equal(hidden[1][1], hidden[0][1]) and not torch.equal(hidden[1][0], hidden[0][0])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.last_hidden_state, **EXACT)
    for name, tensor in whole.past_key_values.tensors().items():
        torch.testing.assert_close(cache.tensors()[name], tensor, **EXACT)


@pytest.mark.parametrize("case", ["tanh", "lstm", "gru"])
def test_learned_initial_states_are_given_to_every_row(case: str) -> None:
    model, reference = pair(case, True, learn_initial_state=True)
    inputs = torch.randn(3, 6, INPUT, dtype=torch.float64)
    names = ("initial_hidden", "initial_cell") if case == "lstm" else ("initial_hidden",)
    begin = [
        torch.stack([getattr(layer, name) for layer in model.stack.layers]).flatten(0, 1)[:, None].expand(-1, 3, -1)
        for name in names
    ]
    begin = [state.contiguous() for state in begin]
    expected, _ = reference(inputs, tuple(begin) if case == "lstm" else begin[0])
    torch.testing.assert_close(model(inputs_embeds=inputs).last_hidden_state, expected, **EXACT)
    assert not torch.allclose(reference(inputs)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("projection", [None, 3])
def test_an_lstm_holds_its_cell_exactly_over_padding(projection: int | None, dtype: torch.dtype) -> None:
    """The cell after 3 tokens and 1, 50 or no steps of padding has the same bits.

    Inputs and input weights are small powers of two, whose products and sums are exact in each dtype and order: no
    difference can come from kernels that split batches of different lengths differently.
    """
    config = LSTMConfig(hidden_size=4, projection_size=projection)
    recurrence = FusedRecurrence(config, 4).to(dtype).eval()
    with torch.no_grad():
        for parameter in recurrence.parameters():
            parameter.uniform_(-1, 1)
        recurrence.rnn.weight_ih_l0.copy_(torch.randint(-2, 3, (16, 4)) / 4)
        recurrence.rnn.bias_ih_l0.copy_(torch.randint(-2, 3, (16,)) / 4)
        recurrence.rnn.bias_hh_l0.zero_()
    tokens = (torch.randint(-2, 3, (2, 3, 4)) / 2).to(dtype)
    hidden, cell = torch.rand(2, projection or 4).to(dtype), torch.rand(2, 4).to(dtype)

    def run(padding: int) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.tensor([[1] * 3 + [0] * padding, [1] * (3 + padding)])
        inputs = torch.cat([tokens, torch.ones(2, padding, 4, dtype=dtype)], dim=1)
        compaction = Compaction.from_mask(mask)
        _, end, end_cell = recurrence(compaction.compact(inputs), hidden, cell, compaction)
        return end[0], end_cell[0]

    with torch.no_grad():
        once = run(1)
        for padding in (0, 50):
            again = run(padding)
            assert torch.equal(again[0], once[0]) and torch.equal(again[1], once[1])
        # The control: without the mask, 50 more steps forget.
        _, _, forgotten = recurrence(torch.cat([tokens, torch.zeros(2, 50, 4, dtype=dtype)], 1), hidden, cell, None)
        assert not torch.allclose(forgotten[0], once[1], atol=1e-2)


@pytest.mark.parametrize("case", ["tanh", "lstm", "gru"])
def test_layer_normalised_rows_do_not_see_padding_either(case: str) -> None:
    """No torch class to compare with: each row alone is the oracle."""
    model, _ = pair(case, False)
    config = model.config
    config.layer_norm, config.bidirectional = True, True
    model = type(model)(config).double().eval()
    mask = torch.tensor(MASKS["middle"])
    inputs = torch.randn(*mask.shape, INPUT, dtype=torch.float64)
    outputs = model(inputs_embeds=inputs, attention_mask=mask)
    for number, row in enumerate(real_rows(inputs, mask)):
        alone = model(inputs_embeds=row[None])
        ours = outputs.last_hidden_state[number][mask[number] == 1]
        torch.testing.assert_close(ours, alone.last_hidden_state[0], **EXACT)
        for name, tensor in alone.past_key_values.tensors().items():
            if not name.endswith("length"):
                torch.testing.assert_close(outputs.past_key_values.tensors()[name][number], tensor[0], **EXACT)


def test_units_without_bounds_do_not_overflow_on_padding() -> None:
    """A ReLU network whose state grows 1.5-fold a step: infinite after 219 steps of padding, if it ran over them; and
    though no output or loss is read there, the gradient would be 0 · ∞."""
    model = RNNModel(RNNConfig(vocab_size=5, hidden_size=4, num_hidden_layers=2, nonlinearity="relu"))
    for layer in model.stack.layers:
        rnn = layer.directions[0].rnn
        with torch.no_grad():
            rnn.weight_ih_l0.copy_(torch.eye(4))
            rnn.weight_hh_l0.copy_(1.5 * torch.eye(4))
    inputs = -torch.ones(2, 400, 4)  # the long row's units never open
    inputs[0] = 1.0
    mask = torch.ones(2, 400, dtype=torch.long)
    mask[0, 3:] = 0
    outputs = model(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
    outputs.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    alone = model(inputs_embeds=inputs[:1, :3]).last_hidden_state
    alone.sum().backward()
    assert torch.equal(outputs[:1, :3], alone) and not outputs[1].any()
    assert len(gradients) == 8
    for name, gradient in gradients.items():
        assert torch.equal(gradient, model.get_parameter(name).grad), name  # small integers and halves: exact sums
