"""Dropout of recurrent models: weights (weight drop), features (locked or not), words; and with checkpointing."""

from typing import Any

import pytest
import torch

from hf_seqmodels import (
    GRUConfig,
    GRUForCausalLM,
    GRUModel,
    LSTMConfig,
    LSTMForCausalLM,
    LSTMModel,
    RNNConfig,
    RNNForCausalLM,
    RNNModel,
)
from hf_seqmodels.models.recurrent_dropout import FeatureDropout

SIZES: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2}
MODELS = {"rnn": (RNNModel, RNNConfig), "lstm": (LSTMModel, LSTMConfig), "gru": (GRUModel, GRUConfig)}
LANGUAGE_MODELS = {
    "rnn": (RNNForCausalLM, RNNConfig),
    "lstm": (LSTMForCausalLM, LSTMConfig),
    "gru": (GRUForCausalLM, GRUConfig),
}


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_weight_drop_is_off_outside_training_and_leaves_no_trace_in_files(kind: str, layer_norm: bool) -> None:
    model_class, config_class = MODELS[kind]
    plain = model_class(config_class(**SIZES, layer_norm=layer_norm)).eval()
    dropped = model_class(config_class(**SIZES, layer_norm=layer_norm, recurrent_dropout_prob=0.5))
    assert dropped.state_dict().keys() == plain.state_dict().keys()
    dropped.load_state_dict(plain.state_dict())
    ids = torch.randint(0, 20, (2, 5))
    expected = plain(ids).last_hidden_state
    training = [dropped.train()(ids).last_hidden_state for _ in range(2)]
    # The first token's state sees no recurrent weight (but through the gates' biases): all later ones do.
    assert not torch.equal(training[0], training[1])
    assert torch.equal(dropped.eval()(ids).last_hidden_state, expected)
    for name, value in plain.state_dict().items():
        assert torch.equal(dropped.state_dict()[name], value)


def linear_recurrence(rate: float, layer_norm: bool = False) -> tuple[RNNModel, torch.Tensor]:
    """`h' = x + U h`, for positive weights: a ReLU that never cuts. And U."""
    config = RNNConfig(
        vocab_size=4, hidden_size=6, num_hidden_layers=1, nonlinearity="relu", recurrent_dropout_prob=rate
    )
    model = RNNModel(config).double()
    recurrence = model.stack.layers[0].directions[0].rnn
    with torch.no_grad():
        recurrence.weight_ih_l0.copy_(torch.eye(6))
        recurrence.weight_hh_l0.uniform_(0.1, 1.0)
        recurrence.bias_ih_l0.zero_()
    return model.train(), recurrence.weight_hh_l0


def states_of_unit_inputs(model: RNNModel) -> torch.Tensor:
    """`(steps, 6, 6)`: I, U', U'U' of the weights that the forward used, from rows that begin with unit vectors."""
    inputs = torch.zeros(6, 3, 6, dtype=torch.float64)
    inputs[:, 0] = torch.eye(6)
    return model(inputs_embeds=inputs).last_hidden_state.permute(1, 2, 0)


def test_weight_drop_takes_one_mask_for_all_steps_and_rows() -> None:
    model, weight = linear_recurrence(0.25)
    first, used, twice = states_of_unit_inputs(model)
    assert torch.equal(first, torch.eye(6, dtype=torch.float64))
    kept = used != 0
    assert 0 < int((~kept).sum()) < 36
    torch.testing.assert_close(used, kept * weight / 0.75, rtol=1e-4, atol=0)  # the rate is k / 2^16
    torch.testing.assert_close(twice, used @ used, rtol=0, atol=1e-12)
    used.sum().backward()
    assert model.stack.layers[0].directions[0].rnn.weight_hh_l0.grad[kept].all()
    assert not model.stack.layers[0].directions[0].rnn.weight_hh_l0.grad[~kept].any()


def test_weight_drop_has_the_right_mean() -> None:
    """Over many masks the weights used average to the weights; within five standard errors."""
    model, weight = linear_recurrence(0.4)
    with torch.no_grad():
        used = torch.stack([states_of_unit_inputs(model)[1] for _ in range(1000)])
        error = weight * (0.4 / 0.6 / 1000) ** 0.5
        assert ((used.mean(0) - weight).abs() < 5 * error).all()
        assert (used == 0).double().mean() == pytest.approx(0.4, abs=5 * (0.24 / 36000) ** 0.5)


def test_locked_dropout_takes_one_mask_for_all_steps_of_a_row() -> None:
    ones = torch.ones(4, 9, 500)
    locked = FeatureDropout(0.3, locked=True)
    values = locked(ones)
    assert torch.equal(values, values[:, :1].expand_as(values))
    assert not torch.equal(values[0], values[1])
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    assert (values[:, 0] == 0).float().mean() == pytest.approx(0.3, abs=5 * (0.21 / 2000) ** 0.5)
    free = FeatureDropout(0.3, locked=False)(ones)
    assert not torch.equal(free[:, 0], free[:, 1])
    assert (free == 0).float().mean() == pytest.approx(0.3, abs=5 * (0.21 / 18000) ** 0.5)
    assert locked.eval()(ones) is ones


@pytest.mark.parametrize("locked", [True, False])
def test_each_rate_drops_at_its_own_place(locked: bool) -> None:
    """Seen in the hidden states, also with padding on the left: embeddings, each layer's output, the last one's."""
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    for place, name in enumerate(("input_dropout_prob", "hidden_dropout_prob", "output_dropout_prob")):
        config = GRUConfig(**SIZES, locked_dropout=locked, **{name: 0.5})
        model = GRUModel(config).train()
        embeds = torch.ones(2, 6, 8)
        states = model(inputs_embeds=embeds, attention_mask=mask, output_hidden_states=True).hidden_states
        if name == "hidden_dropout_prob":
            # The recorded layer output is before the dropout; the next layer's input is after it.
            with torch.no_grad():
                dropped = model.stack.hidden_dropout(states[1])
            assert states[1][mask == 1].all() and (dropped[mask == 1] == 0).any()
            continue
        for row, real in zip(states[place], mask.bool()):
            zeroed = row[real] == 0
            assert zeroed.any() and not zeroed.all()
            assert torch.equal(zeroed, zeroed[:1].expand_as(zeroed)) == locked
        others = [state for number, state in enumerate(states) if number != place]
        assert all(state[mask == 1].all() for state in others)


def test_embedding_dropout_drops_words_everywhere() -> None:
    """Gal & Ghahramani 2016, section 4.2: a dropped word is missing wherever it stands, whole."""
    model = LSTMModel(LSTMConfig(**SIZES, embedding_dropout_prob=0.4)).train()
    ids = torch.randint(0, 20, (6, 30))
    mask = torch.ones_like(ids)
    mask[0, 20:] = 0
    embedded = model(ids, mask, output_hidden_states=True).hidden_states[0]
    plain = model.embed_tokens(ids)
    dropped = {int(word) for word in ids[(embedded == 0).all(-1) & (mask == 1)]}
    assert 0 < len(dropped) < 20
    for row, place in mask.nonzero().tolist():
        expected = 0 * plain[row, place] if int(ids[row, place]) in dropped else plain[row, place] / 0.6
        torch.testing.assert_close(embedded[row, place], expected, rtol=1e-4, atol=0)
    again = model(ids, output_hidden_states=True).hidden_states[0]
    assert dropped != {int(word) for word in ids[(again == 0).all(-1)]}
    assert torch.equal(model.eval()(ids, output_hidden_states=True).hidden_states[0], plain)


def test_embedding_dropout_has_the_right_mean() -> None:
    model = RNNModel(
        RNNConfig(vocab_size=2000, hidden_size=4, num_hidden_layers=1, embedding_dropout_prob=0.3)
    ).train()
    embedded = model(torch.arange(2000)[None], output_hidden_states=True).hidden_states[0][0]
    missing = (embedded == 0).all(-1)
    assert missing.float().mean() == pytest.approx(0.3, abs=5 * (0.21 / 2000) ** 0.5)
    assert embedded[~missing].all()


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_gradient_checkpointing_draws_the_same_masks_again(kind: str, layer_norm: bool) -> None:
    """With all dropout on: loss and gradients from one seed are the same bits with and without it."""
    model_class, config_class = LANGUAGE_MODELS[kind]
    rates = ("recurrent", "input", "hidden", "output", "embedding")
    config = config_class(
        **SIZES, layer_norm=layer_norm, learn_initial_state=True, **{f"{name}_dropout_prob": 0.4 for name in rates}
    )
    model = model_class(config).double().train()
    ids = torch.randint(0, 20, (3, 7))
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])

    def step(seed: int) -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(seed)
        loss = model(ids, mask, labels=ids).loss
        loss.backward()
        return {"loss": loss.detach()} | {name: value.grad.clone() for name, value in model.named_parameters()}

    expected, other = step(1), step(2)
    model.activation_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.model.stack.layers)
    for name, value in step(1).items():
        assert torch.equal(value, expected[name]), name
    assert other["loss"] != expected["loss"]
