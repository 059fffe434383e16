"""Contract 9: bad configurations and inputs are refused by name, and no forward changes a configuration.

Those of images are in `test_image_refusals.py`.
"""

import copy
import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from tests.contracts.cases import CASES, Case, case_named, name_of

each_case = pytest.mark.parametrize("case", CASES, ids=name_of)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_attention_heads", 3, "hidden_size=16 is not divisible by num_attention_heads=3"),
        ("hidden_size", 0, "hidden_size=0 must be at least 1"),
        ("hidden_size", -16, "hidden_size=-16 must be at least 1"),
        ("num_hidden_layers", 0, "num_hidden_layers=0 must be at least 1"),
        ("num_attention_heads", 0, "num_attention_heads=0 must be at least 1"),
        ("intermediate_size", -1, "intermediate_size=-1 must be at least 1"),
        ("vocab_size", 0, "vocab_size=0"),
        ("max_position_embeddings", -5, "max_position_embeddings=-5 must be at least 1"),
        ("type_vocab_size", 0, "type_vocab_size=0 must be at least 1"),
        ("hidden_dropout_prob", 1.0, r"hidden_dropout_prob=1.0 must lie in \[0, 1\)"),
        ("hidden_dropout_prob", -0.1, r"hidden_dropout_prob=-0.1 must lie in \[0, 1\)"),
        ("attention_probs_dropout_prob", 1.5, r"attention_probs_dropout_prob=1.5 must lie in \[0, 1\)"),
        ("classifier_dropout", 1, r"classifier_dropout=1 must lie in \[0, 1\)"),
        ("hidden_act", "gellu", "hidden_act='gellu' is not known; choose one of"),
        ("pad_token_id", 60, r"pad_token_id=60 must lie in \[0, vocab_size=60\)"),
        ("pad_token_id", -1, r"pad_token_id=-1 must lie in \[0, vocab_size=60\)"),
        ("layer_norm_eps", -1.0, "layer_norm_eps=-1.0 must be positive"),
        ("initializer_range", -0.02, "initializer_range=-0.02 must not be negative"),
        ("hidden_size", "16", "hidden_size"),
        ("hidden_size", 16.0, "hidden_size"),
        ("unpad_inputs", 1, "unpad_inputs"),
    ],
)
def test_bad_configurations(field: str, value: object, message: str, tmp_path) -> None:
    case = case_named("SeqBertModel")
    with pytest.raises(StrictDataclassError, match=message):
        case.config(**{field: value})
    config = case.config()
    config.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(StrictDataclassError, match=message):
        type(config).from_pretrained(tmp_path)


def text(**changes: object) -> dict:
    """Two rows of six tokens; with changes."""
    batch = {
        "input_ids": torch.full((2, 6), 5),
        "token_type_ids": torch.zeros(2, 6, dtype=torch.long),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
    }
    batch |= changes
    return {name: value for name, value in batch.items() if value is not None}


def row(**changes: object) -> dict:
    """One packed row of six tokens."""
    return text(
        input_ids=torch.full((1, 6), 5), token_type_ids=torch.zeros(1, 6, dtype=torch.long), attention_mask=None
    ) | dict(changes)


long_ids = torch.full((2, 17), 5)
hidden_row = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
BAD_INPUTS = {
    "neither ids nor embeddings": (text(input_ids=None), "Exactly one of input_ids and inputs_embeds"),
    "both": (text(inputs_embeds=torch.zeros(2, 6, 16)), "Exactly one of input_ids and inputs_embeds"),
    "one dimension": (text(input_ids=torch.arange(6)), r"input_ids must be \(batch, seq_len\).*got \(6,\)"),
    "wrong width": (
        text(input_ids=None, inputs_embeds=torch.zeros(2, 6, 8, dtype=torch.float64)),
        r"inputs_embeds must be .*hidden_size=16\); got \(2, 6, 8\)",
    ),
    "float ids": (text(input_ids=torch.zeros(2, 6)), "input_ids.*float32"),
    "no rows": (
        text(input_ids=torch.zeros(0, 6, dtype=torch.long), token_type_ids=None, attention_mask=None),
        "The input is empty: batch=0",
    ),
    "no tokens": (
        text(input_ids=torch.zeros(2, 0, dtype=torch.long), token_type_ids=None, attention_mask=None),
        "seq_len=0; each row needs at least one token",
    ),
    "too long": (
        text(input_ids=long_ids, token_type_ids=None, attention_mask=None),
        "17 tokens is longer than max_position_embeddings=16",
    ),
    "outside the vocabulary": (text(input_ids=torch.full((2, 6), 60)), r"input_ids holds 60.*\[0, vocab_size=60\)"),
    "negative id": (text(input_ids=torch.full((2, 6), -1)), r"input_ids holds -1"),
    "bad token type": (text(token_type_ids=torch.full((2, 6), 2)), "token_type_ids holds 2.*type_vocab_size=2"),
    "token types of another shape": (
        text(token_type_ids=torch.zeros(2, 5, dtype=torch.long)),
        r"token_type_ids of shape \(2, 5\) does not fit.*\(2, 6\)",
    ),
    "bad position": (text(position_ids=torch.full((2, 6), 16)), "position_ids holds 16.*max_position_embeddings=16"),
    "positions of another shape": (
        text(position_ids=torch.zeros(3, 6, dtype=torch.long)),
        r"position_ids of shape \(3, 6\) does not fit.*\(2, 6\)",
    ),
    "mask of another shape": (text(attention_mask=torch.ones(2, 5)), r"attention_mask of shape \(2, 5\) does not fit"),
    "row of zero length": (text(attention_mask=hidden_row), "attention_mask hides every token of row 1"),
    "packed and masked": (text(cu_seq_lens=torch.tensor([0, 6])), "cu_seq_lens divides one packed row"),
    "packed batch": (text(attention_mask=None, cu_seq_lens=torch.tensor([0, 6])), "batch must be 1 .is 2."),
    "not from 0": (row(cu_seq_lens=torch.tensor([1, 6])), r"cu_seq_lens=\[1, 6\] must rise from 0"),
    "not to the end": (row(cu_seq_lens=torch.tensor([0, 5])), r"cu_seq_lens=\[0, 5\] must rise from 0.*length 6"),
    "beyond the end": (row(cu_seq_lens=torch.tensor([0, 7])), r"cu_seq_lens=\[0, 7\] must rise"),
    "falling": (row(cu_seq_lens=torch.tensor([0, 4, 2, 6])), "cu_seq_lens=.* must rise"),
    "empty segment": (row(cu_seq_lens=torch.tensor([0, 3, 3, 6])), "at least one token"),
    "empty": (row(cu_seq_lens=torch.tensor([], dtype=torch.int32)), "cu_seq_lens"),
    "no dimension": (row(cu_seq_lens=torch.tensor(6)), "cu_seq_lens"),
    "two dimensions": (row(cu_seq_lens=torch.tensor([[0, 6]])), "cu_seq_lens"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
@pytest.mark.parametrize("unpad", [False, True], ids=["padded", "unpad_inputs"])
def test_bad_inputs(name: str, unpad: bool) -> None:
    inputs, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        case_named("SeqBertModel").model(unpad_inputs=unpad)(**inputs)


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_with_labels(name: str) -> None:
    """Sparse prediction looks at the inputs before the encoder does."""
    inputs, message = BAD_INPUTS[name]
    shape = inputs.get("input_ids", inputs.get("inputs_embeds", torch.empty(2, 6))).shape[:2]
    with pytest.raises(ValueError, match=message):
        case_named("SeqBertForPreTraining").model().train()(**inputs, labels=torch.ones(shape, dtype=torch.long))


BAD_LABELS = {
    "label beyond the vocabulary": ("SeqBertForMaskedLM", {"labels": torch.full((2, 6), 60)}, "labels holds 60"),
    "negative label": ("SeqBertForPreTraining", {"labels": torch.full((2, 6), -1)}, r"labels holds -1.*-100 means"),
    "labels of another shape": (
        "SeqBertForPreTraining",
        {"labels": torch.full((2, 5), 1)},
        r"labels of shape \(2, 5\) do not fit",
    ),
    "masked labels of another shape": (
        "SeqBertForMaskedLM",
        {"labels": torch.full((3, 6), 1)},
        r"labels of shape \(3, 6\) do not fit",
    ),
    "no such relation": (
        "SeqBertForPreTraining",
        {"next_sentence_label": torch.tensor([0, 2])},
        r"next_sentence_label holds 2, outside \[0, 2\)",
    ),
    "a relation too many": (
        "SeqBertForPreTraining",
        {"next_sentence_label": torch.tensor([0, 1, 0])},
        r"next_sentence_label of shape \(3,\) do not fit",
    ),
    "next sentence": ("SeqBertForNextSentencePrediction", {"labels": torch.tensor([0, 3])}, "labels holds 3"),
    "class": ("SeqBertForSequenceClassification", {"labels": torch.tensor([4, 0])}, r"outside \[0, 4\)"),
    "classes of another shape": (
        "SeqBertForSequenceClassification",
        {"labels": torch.tensor([1, 0, 2])},
        r"labels of shape \(3,\) do not fit",
    ),
    "multi-label of another shape": (
        "SeqBertForSequenceClassification",
        {"labels": torch.zeros(2, 3)},
        r"labels of shape \(2, 3\) do",
    ),
    "token class": ("SeqBertForTokenClassification", {"labels": torch.full((2, 6), 9)}, "labels holds 9"),
    "token classes of another shape": (
        "SeqBertForTokenClassification",
        {"labels": torch.full((2, 4), 1)},
        r"labels of shape \(2, 4\) do not fit",
    ),
    "negative start": (
        "SeqBertForQuestionAnswering",
        {"start_positions": torch.tensor([-3, 0]), "end_positions": torch.tensor([1, 1])},
        "start_positions holds -3",
    ),
    "half an answer": (
        "SeqBertForQuestionAnswering",
        {"start_positions": torch.tensor([1, 0])},
        "start_positions and end_positions",
    ),
}


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bad_labels(name: str, training: bool) -> None:
    model_name, labels, message = BAD_LABELS[name]
    with pytest.raises(ValueError, match=message):
        case_named(model_name).model().train(training)(**text(), **labels)


@pytest.mark.parametrize("name", ["SeqBertForSequenceClassification", "SeqBertForTokenClassification"])
def test_a_classifier_without_labels(name: str) -> None:
    with pytest.raises(ValueError, match="a classifier needs num_labels of at least 1"):
        case_named(name).model(num_labels=0)


def test_unknown_problem_type() -> None:
    case = case_named("SeqBertForSequenceClassification")
    model = case.model()
    model.config.problem_type = "clustering"
    with pytest.raises(ValueError, match="problem_type='clustering' is not known; choose one of regression"):
        model(**text(), labels=torch.tensor([0, 1]))


@each_case
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_forward_never_changes_the_config(case: Case, training: bool) -> None:
    model = case.model().train(training)
    before = copy.deepcopy(model.config.to_dict())
    model(**case.batch(), output_attentions=case.toy.attends, output_hidden_states=True, return_dict=False)
    if name_of(case) == "SeqBertForSequenceClassification":
        model(**text(), labels=torch.rand(2, 4))
        model(**text(), labels=torch.tensor([0, 1]))
    if name_of(case) == "SeqViTForImageClassification":
        batch = case.batch((6, 6))
        for labels in (torch.rand(2, 4), torch.tensor([0, 1])):
            model(**{**batch, "labels": labels})
    assert model.config.to_dict() == before
