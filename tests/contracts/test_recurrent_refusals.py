"""Contract 9 for recurrent models: bad configurations, inputs and states are refused by name."""

import json
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import DynamicCache

from hf_seqmodels.models.configuration_rnn import RecurrentConfig
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from tests.contracts.cases import ONE_STACK, Case, case_named, name_of

RECURRENT = [case for case in ONE_STACK if issubclass(case.model_class.config_class, RecurrentConfig)]
LANGUAGE_MODELS = [case for case in RECURRENT if case.key == "AutoModelForCausalLM"]
each_case = pytest.mark.parametrize("case", RECURRENT, ids=name_of)
ADAPTIVE: dict[str, Any] = {
    "softmax": "adaptive",
    "adaptive_cutoffs": [12, 30],
    "adaptive_div_value": 2.0,
    "tie_word_embeddings": False,
}

BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("LSTMModel", {name: value}, f"{name}={value} must be at least 1")
        for name in ("vocab_size", "hidden_size", "embedding_size", "num_hidden_layers")
        for value in (0, -4)
    ),
    *(
        ("GRUModel", {name: value}, rf"{name}={value} must lie in \[0, 1\)")
        for name in (
            "hidden_dropout_prob",
            "embedding_dropout_prob",
            "input_dropout_prob",
            "output_dropout_prob",
            "recurrent_dropout_prob",
            "classifier_dropout",
            "label_smoothing",
        )
        for value in (-0.1, 1)
    ),
    *(
        ("RNNModel", {name: -0.5}, f"{name}=-0.5 must not be negative")
        for name in ("initializer_range", "activation_regularization", "temporal_activation_regularization")
    ),
    ("RNNModel", {"nonlinearity": "gelu"}, "nonlinearity='gelu' is not known; choose one of tanh, relu"),
    ("LSTMModel", {"pooling": "cls"}, "pooling='cls' is not known; choose one of last, mean, max, attention"),
    ("LSTMModel", {"softmax": "sampled"}, "softmax='sampled' is not known; choose one of full, chunked, adaptive"),
    ("GRUModel", {"recurrent_init": "xavier"}, "recurrent_init='xavier' is not known; choose one of orthogonal"),
    ("GRUModel", {"pad_token_id": 60}, r"pad_token_id=60 must lie in \[0, vocab_size=60\)"),
    ("LSTMModel", {"pad_token_id": -1}, r"pad_token_id=-1 must lie in \[0, vocab_size=60\)"),
    ("LSTMModel", {"projection_size": 0}, r"projection_size=0 must lie in \[1, hidden_size=16\)"),
    ("LSTMModel", {"projection_size": 16}, r"projection_size=16 must lie in \[1, hidden_size=16\)"),
    (
        "LSTMModel",
        {"projection_size": 6, "layer_norm": True},
        "projection_size=6 does not go with layer_norm=True; use None",
    ),
    ("LSTMModel", {"chrono_max_length": 2}, "chrono_max_length=2 must be at least 3"),
    ("GRUModel", {"chrono_max_length": 0}, "chrono_max_length=0 must be at least 3"),
    ("RNNModel", {"hidden_size": 16.0}, "hidden_size"),
    ("RNNModel", {"bidirectional": 1}, "bidirectional"),
    ("LSTMModel", {"adaptive_cutoffs": [12]}, r"adaptive_cutoffs=\[12\] go with softmax='adaptive', not 'full'"),
    *(
        ("GRUModel", {**ADAPTIVE, "adaptive_cutoffs": cutoffs}, "adaptive_cutoffs=.* must rise strictly between 0 and")
        for cutoffs in (None, [], [30, 12], [12, 12], [0, 12], [12, 60])
    ),
    ("GRUModel", {**ADAPTIVE, "adaptive_div_value": 0.5}, "adaptive_div_value=0.5 must be at least 1"),
    (
        "LSTMModel",
        {**ADAPTIVE, "adaptive_div_value": 5.0},
        r"adaptive_div_value=5.0 leaves the last of 3 clusters empty: 16 / 5.0\^2 is below 1",
    ),
    ("LSTMModel", {**ADAPTIVE, "tie_word_embeddings": True}, "tie_word_embeddings=True: the adaptive softmax has no"),
    ("LSTMModel", {**ADAPTIVE, "label_smoothing": 0.1}, "label_smoothing=0.1: the adaptive softmax has none; use 0"),
]


@pytest.mark.parametrize(("name", "fields", "message"), BAD_FIELDS)
def test_bad_configurations(name: str, fields: dict[str, Any], message: str, tmp_path) -> None:
    case = case_named(name)
    with pytest.raises(StrictDataclassError, match=message):
        case.config(**fields)
    config = case.config()
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**saved, **fields}))
    with pytest.raises(StrictDataclassError, match=message):
        type(config).from_pretrained(tmp_path)


@pytest.mark.parametrize("case", LANGUAGE_MODELS, ids=name_of)
def test_a_language_model_must_not_look_ahead(case: Case) -> None:
    with pytest.raises(ValueError, match=r"bidirectional=True: .*ForCausalLM predicts the next token"):
        case.model(bidirectional=True)


@pytest.mark.parametrize("case", LANGUAGE_MODELS, ids=name_of)
def test_an_adaptive_softmax_keeps_its_vocabulary(case: Case) -> None:
    with pytest.raises(ValueError, match="softmax='adaptive': its clusters belong to one vocabulary"):
        case.model(**ADAPTIVE).resize_token_embeddings(70)


def text(**changes: Any) -> dict[str, Any]:
    """Two rows of six tokens; with changes."""
    batch = {"input_ids": torch.full((2, 6), 5), "attention_mask": torch.ones(2, 6, dtype=torch.long), **changes}
    return {name: value for name, value in batch.items() if value is not None}


hidden_row = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
BAD_INPUTS = {
    "neither ids nor embeddings": (text(input_ids=None), "Exactly one of input_ids and inputs_embeds"),
    "both": (text(inputs_embeds=torch.zeros(2, 6, 16)), "Exactly one of input_ids and inputs_embeds"),
    "one dimension": (text(input_ids=torch.arange(6)), r"input_ids must be \(batch, seq_len\); got \(6,\)"),
    "wrong width": (
        text(input_ids=None, inputs_embeds=torch.zeros(2, 6, 8)),
        r"inputs_embeds must be \(batch, seq_len, embedding_size=16\); got \(2, 6, 8\)",
    ),
    "float ids": (text(input_ids=torch.zeros(2, 6)), "input_ids must hold int64 or int32, not torch.float32"),
    "no rows": (text(input_ids=torch.zeros(0, 6, dtype=torch.long), attention_mask=None), "input is empty: batch=0"),
    "no tokens": (text(input_ids=torch.zeros(2, 0, dtype=torch.long), attention_mask=None), "seq_len=0; each row"),
    "outside the vocabulary": (text(input_ids=torch.full((2, 6), 60)), r"input_ids holds 60, outside \[0, vocab_size"),
    "negative id": (text(input_ids=torch.full((2, 6), -1)), "input_ids holds -1"),
    "short mask": (
        text(attention_mask=torch.ones(2, 5)),
        r"attention_mask of shape \(2, 5\) does not fit the input \(2, 6\)\.",
    ),
    "long mask": (text(attention_mask=torch.ones(2, 7)), r"attention_mask of shape \(2, 7\) does not fit the input"),
    "mask of another batch": (text(attention_mask=torch.ones(1, 6)), r"attention_mask of shape \(1, 6\) does not fit"),
    "mask of pairs": (text(attention_mask=torch.ones(2, 6, 6)), r"attention_mask of shape \(2, 6, 6\) does not fit"),
    "row of zero length": (text(attention_mask=hidden_row), "attention_mask hides every token of row 1"),
}


@each_case
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(case: Case, name: str) -> None:
    inputs, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        case.model(torch.float32)(**inputs)


def state_of(name: str, rows: int = 2, **options: Any) -> RecurrentCache:
    """The state of some model after three tokens."""
    return case_named(name).model(**options)(torch.full((rows, 3), 5)).past_key_values


BAD_STATES = {
    "keys and values": (
        lambda name: DynamicCache(),
        "past_key_values is a DynamicCache; .* needs the RecurrentCache that an earlier forward returned",
    ),
    "tuple": (lambda name: (torch.zeros(2, 1, 16),), "past_key_values is a tuple"),
    "another batch": (lambda name: state_of(name, rows=3), "past_key_values has batch size 3, the input 2"),
    "fewer layers": (
        lambda name: state_of(name, num_hidden_layers=1),
        "past_key_values has 1 layers, the model num_hidden_layers=2",
    ),
    "no layers": (lambda name: RecurrentCache(0), "past_key_values has 0 layers"),
    "another width": (
        lambda name: state_of(name, hidden_size=8),
        r"past_key_values, layer 0: a state of shapes \[\(2, 1, 8\).*expects \[\(2, 1, 16\)",
    ),
    "both directions": (
        lambda name: state_of(name, bidirectional=True),
        r"past_key_values, layer 0: a state of shapes \[\(2, 2, 16\).*expects \[\(2, 1, 16\)",
    ),
}


@pytest.mark.parametrize("name", ["RNNModel", "LSTMModel", "GRUModel"])
@pytest.mark.parametrize("kind", BAD_STATES)
def test_bad_states(name: str, kind: str) -> None:
    make, message = BAD_STATES[kind]
    with pytest.raises(ValueError, match=message):
        case_named(name).model()(**text(attention_mask=None), past_key_values=make(name))


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("LSTMForCausalLM", "GRUModel", r"shapes \[\(2, 1, 16\)\] is another model's; lstm expects"),
        ("LSTMForCausalLM", "RNNModel", r"shapes \[\(2, 1, 16\)\] is another model's; lstm expects"),
        ("GRUForCausalLM", "LSTMModel", r"shapes \[\(2, 1, 16\), \(2, 1, 16\)\] is another model's; gru expects"),
        ("RNNForCausalLM", "LSTMModel", r"shapes \[\(2, 1, 16\), \(2, 1, 16\)\] is another model's; rnn expects"),
    ],
)
def test_states_of_another_cell(name: str, other: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case_named(name).model()(**text(attention_mask=None), past_key_values=state_of(other))


def test_a_cell_of_another_width() -> None:
    """The hidden states are equally wide: both are projected."""
    narrow = case_named("LSTMModel").model(hidden_size=8, projection_size=6)(**text()).past_key_values
    with pytest.raises(ValueError, match=r"\(2, 1, 8\)\] is another model's; lstm expects .* \(2, 1, 16\)\]"):
        case_named("LSTMModel").model(projection_size=6)(**text(attention_mask=None), past_key_values=narrow)


@pytest.mark.parametrize("name", ["RNNModel", "LSTMModel", "GRUModel"])
def test_a_bidirectional_model_cannot_go_on(name: str) -> None:
    model = case_named(name).model(bidirectional=True)
    state = model(**text()).past_key_values
    with pytest.raises(ValueError, match="past_key_values holds a state, but bidirectional=True"):
        model(**text(), past_key_values=state)


@pytest.mark.parametrize("name", ["RNNModel", "LSTMModel", "GRUModel"])
def test_masks_behind_a_state(name: str) -> None:
    """Over the new tokens or over all; and a row may then have no new one."""
    model = case_named(name).model()
    model(**text(attention_mask=hidden_row), past_key_values=state_of(name))
    model(**text(attention_mask=torch.cat([torch.ones(2, 3), hidden_row], 1)), past_key_values=state_of(name))
    with pytest.raises(ValueError, match=r"attention_mask of shape \(2, 8\) does not fit the input \(2, 6\) after 3"):
        model(**text(attention_mask=torch.ones(2, 8)), past_key_values=state_of(name))


BAD_LABELS = {
    "both": (
        "LSTMForCausalLM",
        {"labels": torch.full((2, 6), 5), "shift_labels": torch.full((2, 6), 5)},
        "labels and shift_labels are both given; give one of the two",
    ),
    "token": ("LSTMForCausalLM", {"labels": torch.full((2, 6), 60)}, r"labels holds 60, outside \[0, 60\)"),
    "shifted token": (
        "GRUForCausalLM",
        {"shift_labels": torch.full((2, 6), -1)},
        r"shift_labels holds -1, outside \[0, 60\)",
    ),
    "tokens of another shape": ("RNNForCausalLM", {"labels": torch.full((2, 5), 5)}, r"labels of shape \(2, 5\) do"),
    "shifted tokens of another shape": (
        "GRUForCausalLM",
        {"shift_labels": torch.full((1, 6), 5)},
        r"shift_labels of shape \(1, 6\) do",
    ),
    "class": ("LSTMForSequenceClassification", {"labels": torch.tensor([4, 0])}, r"labels holds 4, outside \[0, 4\)"),
    "classes of another shape": (
        "GRUForSequenceClassification",
        {"labels": torch.tensor([1, 0, 2])},
        r"labels of shape \(3,\) do",
    ),
    "tag": ("RNNForTokenClassification", {"labels": torch.full((2, 6), 9)}, r"labels holds 9, outside \[0, 4\)"),
    "tags of another shape": (
        "LSTMForTokenClassification",
        {"labels": torch.full((2, 4), 1)},
        r"labels of shape \(2, 4\) do",
    ),
}


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bad_labels(name: str, training: bool) -> None:
    model_name, labels, message = BAD_LABELS[name]
    options = [{}, {"use_crf": True}] if "Token" in model_name else [{}]
    options += [{"softmax": "chunked"}, ADAPTIVE] if "Causal" in model_name else []
    for option in options:
        with pytest.raises(ValueError, match=message):
            case_named(model_name).model(**option).train(training)(**text(), **labels)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_tag_positions_of_another_shape(training: bool) -> None:
    model = case_named("LSTMForTokenClassification").model(use_crf=True).train(training)
    with pytest.raises(ValueError, match=r"tag_positions of shape \(2, 5\) does not fit the input \(2, 6\)"):
        model(**text(), tag_positions=torch.ones(2, 5))


@pytest.mark.parametrize("name", ["GRUForSequenceClassification", "LSTMForTokenClassification"])
def test_a_classifier_without_labels(name: str) -> None:
    with pytest.raises(ValueError, match="a classifier needs num_labels of at least 1"):
        case_named(name).model(num_labels=0)


def test_unknown_problem_type() -> None:
    model = case_named("RNNForSequenceClassification").model()
    model.config.problem_type = "clustering"
    with pytest.raises(ValueError, match="problem_type='clustering' is not known; choose one of regression"):
        model(**text(), labels=torch.tensor([0, 1]))
