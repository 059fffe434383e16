"""RNNConfig, LSTMConfig, GRUConfig: sizes, files, and what they refuse."""

import json
import pathlib
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from hf_seqmodels import (
    GRUConfig,
    GRUModel,
    LSTMConfig,
    LSTMForCausalLM,
    LSTMForSequenceClassification,
    LSTMModel,
    RNNConfig,
    RNNModel,
)

CONFIGS = [RNNConfig, LSTMConfig, GRUConfig]


@pytest.mark.parametrize(
    ("config", "model_class"), [(RNNConfig(), RNNModel), (LSTMConfig(), LSTMModel), (GRUConfig(), GRUModel)]
)
def test_defaults_are_small_and_plain(config: Any, model_class: type[Any]) -> None:
    """Two layers of 512 units: 30,000 embeddings, and for each gate input and recurrent weights and two biases."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert type(model) is model_class
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[config.model_type]
    assert sum(p.numel() for p in model.parameters()) == 30000 * 512 + 2 * gates * (2 * 512 * 512 + 2 * 512)
    rates = {name: value for name, value in config.to_dict().items() if name.endswith("dropout_prob")}
    assert len(rates) == 5 and not any(rates.values())


def test_the_regularised_lstm_of_merity_has_its_published_size() -> None:
    """AWD-LSTM on the Penn Treebank, 24 M parameters (Merity et al. 2017, table 1), but for widths: there the last
    layer is as narrow as the embeddings, here a linear layer goes between, and PyTorch's cell has two biases."""
    config = LSTMConfig(vocab_size=10000, embedding_size=400, hidden_size=1150, num_hidden_layers=3)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = [4 * 1150 * (size + 1150 + 2) for size in (400, 1150, 1150)]
    expected = 10000 * 400 + sum(layers) + 1150 * 400 + 400 + 10000
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (RNNConfig(hidden_size=8), (1, 8, 8, 8)),
        (GRUConfig(hidden_size=8, embedding_size=5, bidirectional=True), (2, 5, 8, 16)),
        (LSTMConfig(hidden_size=8, projection_size=3), (1, 8, 3, 3)),
        (LSTMConfig(hidden_size=8, projection_size=3, bidirectional=True), (2, 8, 3, 6)),
    ],
)
def test_widths(config: Any, sizes: tuple[int, int, int, int]) -> None:
    assert (config.num_directions, config.input_size, config.state_size, config.output_size) == sizes


@pytest.mark.parametrize("config_class", CONFIGS)
def test_what_is_set_comes_back_from_a_file(config_class: type[Any], tmp_path: pathlib.Path) -> None:
    own: dict[str, dict[str, Any]] = {
        "rnn": {"nonlinearity": "relu"},
        "lstm": {"projection_size": 3, "forget_gate_bias": 0, "chrono_max_length": 50},
        "gru": {"chrono_max_length": 3},
    }
    fields: dict[str, Any] = {
        "hidden_size": 16,
        "embedding_size": 7,
        "hidden_dropout_prob": 0,
        "recurrent_dropout_prob": 0.25,
        "pooling": "attention",
        "tie_word_embeddings": False,
        "softmax": "adaptive",
        "adaptive_cutoffs": [100, 5000],
        "adaptive_div_value": 1.5,
        "eos_token_id": [1, 2],
        "pad_token_id": 29999,
        **own[config_class.model_type],
    }
    config_class(**fields).save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is config_class
    assert {name: getattr(again, name) for name in fields} == fields
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == config_class.model_type
    assert AutoConfig.from_pretrained(tmp_path, hidden_size=32).hidden_size == 32


ADAPTIVE: dict[str, Any] = {"softmax": "adaptive", "adaptive_cutoffs": [100], "tie_word_embeddings": False}


@pytest.mark.parametrize("config_class", CONFIGS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0 must be at least 1"),
        ({"hidden_size": -4}, "hidden_size=-4 must be at least 1"),
        ({"embedding_size": 0}, "embedding_size=0 must be at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be at least 1"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob=1.0 must lie in \[0, 1\)"),
        ({"input_dropout_prob": -0.1}, r"input_dropout_prob=-0.1 must lie in \[0, 1\)"),
        ({"output_dropout_prob": 2}, r"output_dropout_prob=2 must lie in \[0, 1\)"),
        ({"embedding_dropout_prob": float("nan")}, r"embedding_dropout_prob=nan must lie in \[0, 1\)"),
        ({"recurrent_dropout_prob": 1}, r"recurrent_dropout_prob=1 must lie in \[0, 1\)"),
        ({"classifier_dropout": 1.5}, r"classifier_dropout=1.5 must lie in \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0 must lie in \[0, 1\)"),
        ({"initializer_range": -0.1}, "initializer_range=-0.1 must not be negative"),
        ({"activation_regularization": -1.0}, "activation_regularization=-1.0 must not be negative"),
        ({"temporal_activation_regularization": -2}, "temporal_activation_regularization=-2 must not be negative"),
        ({"pooling": "cls"}, "pooling='cls' is not known; choose one of last, mean, max, attention"),
        ({"softmax": "sampled"}, "softmax='sampled' is not known; choose one of full, chunked, adaptive"),
        ({"recurrent_init": "normal"}, "recurrent_init='normal' is not known; choose one of orthogonal, identity"),
        ({"pad_token_id": 30000}, r"pad_token_id=30000 must lie in \[0, vocab_size=30000\)"),
        ({"pad_token_id": -1}, r"pad_token_id=-1 must lie in \[0, vocab_size=30000\)"),
        ({"adaptive_cutoffs": [5]}, r"adaptive_cutoffs=\[5\] go with softmax='adaptive', not 'full'"),
        ({**ADAPTIVE, "adaptive_cutoffs": None}, "adaptive_cutoffs=None must rise strictly between 0 and vocab_size"),
        ({**ADAPTIVE, "adaptive_cutoffs": []}, r"adaptive_cutoffs=\[\] must rise strictly"),
        ({**ADAPTIVE, "adaptive_cutoffs": [7, 7]}, r"adaptive_cutoffs=\[7, 7\] must rise strictly"),
        ({**ADAPTIVE, "adaptive_cutoffs": [30000]}, r"adaptive_cutoffs=\[30000\] must rise strictly"),
        ({**ADAPTIVE, "adaptive_cutoffs": [0, 5]}, r"adaptive_cutoffs=\[0, 5\] must rise strictly"),
        ({**ADAPTIVE, "adaptive_div_value": 0.5}, "adaptive_div_value=0.5 must be at least 1"),
        ({**ADAPTIVE, "hidden_size": 3}, "adaptive_div_value=4.0 leaves the last of 2 clusters empty: 3 / 4.0\\^1"),
        ({**ADAPTIVE, "tie_word_embeddings": True}, "tie_word_embeddings=True: the adaptive softmax has no output"),
        ({**ADAPTIVE, "label_smoothing": 0.1}, "label_smoothing=0.1: the adaptive softmax has none"),
        ({"hidden_size": 8.0}, "hidden_size"),
        ({"layer_norm": "yes"}, "layer_norm"),
        ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(f"{name}={given}" for name, given in value.items()),
)
def test_nonsense_is_refused_by_name(config_class: type[Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        config_class(**fields)


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (RNNConfig, {"nonlinearity": "gelu"}, "nonlinearity='gelu' is not known; choose one of tanh, relu"),
        (LSTMConfig, {"projection_size": 512}, r"projection_size=512 must lie in \[1, hidden_size=512\)"),
        (LSTMConfig, {"projection_size": 0}, r"projection_size=0 must lie in \[1, hidden_size=512\)"),
        (LSTMConfig, {"projection_size": 5, "layer_norm": True}, "projection_size=5 does not go with layer_norm=True"),
        (LSTMConfig, {"chrono_max_length": 2}, "chrono_max_length=2 must be at least 3"),
        (GRUConfig, {"chrono_max_length": 0}, "chrono_max_length=0 must be at least 3"),
    ],
)
def test_each_refuses_nonsense_in_its_own_fields(
    config_class: type[Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        config_class(**fields)


def test_the_edge_of_what_is_allowed_works() -> None:
    """The smallest cluster that an adaptive softmax can have is one unit wide."""
    config = LSTMConfig(vocab_size=9, hidden_size=16, **{**ADAPTIVE, "adaptive_cutoffs": [2, 5]})
    ids = torch.tensor([[0, 3, 8, 1]])
    assert LSTMForCausalLM(config)(ids, labels=ids).loss.isfinite()
    tiny = LSTMConfig(vocab_size=1, hidden_size=1, num_hidden_layers=1)
    assert LSTMModel(tiny)(torch.tensor([[0]])).last_hidden_state.shape == (1, 1, 1)
    assert LSTMConfig(chrono_max_length=3).chrono_max_length == 3


def test_a_forward_never_changes_the_configuration() -> None:
    """transformers' own heads write the problem type that they infer from a batch."""
    model = LSTMForSequenceClassification(LSTMConfig(vocab_size=9, hidden_size=4, num_labels=3))
    before = model.config.to_dict()
    ids = torch.tensor([[1, 2], [3, 4]])
    assert model(ids, labels=torch.tensor([0, 2])).loss.isfinite()
    assert model(ids, labels=torch.rand(2, 3)).loss.isfinite()
    assert model(ids, labels=torch.tensor([1, 1])).loss.isfinite()
    assert model.config.to_dict() == before
