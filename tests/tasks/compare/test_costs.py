"""FLOPs, chains of products, bytes of caches and timed steps against what is known of them."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.tasks.compare.costs import (
    cache_bytes,
    longest_chain,
    optimizer_of,
    time_steps,
    training_step,
)
from hf_seqmodels.training.flops import recurrent_flops

CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.mark.parametrize("model", CELLS)
def test_flops_are_those_of_a_cell_that_is_not_fused(model: str) -> None:
    cell = CELLS[model](12, 12)
    inputs = torch.randn(5, 12, requires_grad=True)
    state = torch.randn(5, 12, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        outputs = cell(inputs, (state, torch.randn(5, 12)) if model == "lstm" else state)
    assert counter.get_total_flops() == 5 * recurrent_flops(model, 12, 1)
    with FlopCounterMode(display=False) as counter:
        (outputs[0] if model == "lstm" else outputs).sum().backward()
    # Backward has a product for the inputs and one for the weights.
    assert counter.get_total_flops() == 2 * 5 * recurrent_flops(model, 12, 1)


@pytest.mark.parametrize("model", CELLS)
def test_flops_are_those_of_a_whole_model_without_its_fused_kernel(model: str) -> None:
    network = AutoModel.from_config(AutoConfig.for_model(model, vocab_size=8, hidden_size=12, num_hidden_layers=2))
    with longest_chain(), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(3, 7, dtype=torch.long))
    assert counter.get_total_flops() == 3 * 7 * recurrent_flops(model, 12, 2)


def test_products_in_a_row_are_a_chain_and_those_side_by_side_are_none() -> None:
    matrix = torch.eye(4)
    with longest_chain() as row:
        result = matrix
        for _ in range(5):
            result = (result @ matrix).relu()
    with longest_chain() as beside:
        sum(matrix @ matrix for _ in range(5))
    with longest_chain() as stacked:
        torch.stack([matrix @ matrix, matrix @ matrix @ matrix]).flatten(0, 1)[:4].add_(1) @ matrix
    with longest_chain() as none:
        matrix + matrix
    assert [row, beside, stacked, none] == [[5], [1], [3], [0]]


def test_a_chain_goes_through_what_is_written_in_place() -> None:
    matrix, buffer = torch.eye(4), torch.zeros(8, 4)
    with longest_chain() as chain:
        buffer[:4].copy_(matrix @ matrix)
        buffer @ matrix
    assert chain == [2]


@pytest.mark.parametrize("model", CELLS)
def test_every_layer_of_a_recurrence_waits_for_every_token(model: str) -> None:
    network = AutoModel.from_config(AutoConfig.for_model(model, vocab_size=8, hidden_size=6, num_hidden_layers=3))
    for length in (1, 4, 9):
        with torch.no_grad(), longest_chain() as chain:
            network(torch.zeros(2, length, dtype=torch.long))
        assert chain == [3 * length]


def test_fused_kernels_are_on_again() -> None:
    before = torch.backends.mkldnn.enabled
    with pytest.raises(ZeroDivisionError), longest_chain():
        1 / 0  # noqa: B018
    assert torch.backends.mkldnn.enabled == before


def test_a_state_keeps_its_bytes_while_keys_and_values_grow() -> None:
    ids = torch.ones(2, 6, dtype=torch.long)
    config = AutoConfig.for_model("lstm", vocab_size=8, hidden_size=12, num_hidden_layers=3)
    network = AutoModel.from_config(config).eval()
    with torch.no_grad():
        kept = [cache_bytes(network(ids[:, :length]).past_key_values) for length in (1, 6)]
    assert kept == [3 * 2 * 2 * 12 * 4] * 2  # layers, hidden and cell, rows, units, bytes of a float32
    sizes = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 3}
    config = AutoConfig.for_model("vanilla_transformer", vocab_size=8, d_model=12, **sizes, decoder_start_token_id=0)
    network = AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        kept = [cache_bytes(network(ids, decoder_input_ids=ids[:, :length]).past_key_values) for length in (1, 6)]
    assert kept == [3 * 2 * 2 * 12 * 4 * length for length in (1, 6)]  # and not those of the source


def test_steps_train_and_are_timed() -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    shares: list[float] = []
    step = training_step(optimizer_of(layer), lambda: layer(torch.ones(1, 3)).sum())
    timings = time_steps({"one": step, "two": lambda: None}, 3, shares.append)
    assert not torch.equal(layer.weight, before) and layer.weight.grad is None
    assert timings["one"].median > 0 and set(timings) == {"one", "two"}
    assert shares == sorted(shares) and shares[-1] == 1
