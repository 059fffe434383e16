"""transformers' pipelines on saved SeqBert models: the right class, and what a forward by hand gives."""

import pathlib

import pytest
import torch
from transformers import PreTrainedTokenizerFast, pipeline

import hf_seqmodels
from tests.pipelines.toys import TEXT, forget_unused_weights, saved_bert

# A padded batch and a text alone add float32 numbers in another order.
ROUNDING = 1e-5


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForPreTraining"])
def test_fill_mask(head: str, tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    """From a pretraining checkpoint too: the pipeline takes its vocabulary head and leaves the rest."""
    _, folder = saved_bert(head, tokenizer, tmp_path)
    fill = pipeline("fill-mask", folder, device="cpu")
    assert type(fill.model) is hf_seqmodels.SeqBertForMaskedLM
    texts = [f"The cat sat on the {tokenizer.mask_token} .", f"A {tokenizer.mask_token}"]
    for text, answers in zip(texts, fill(texts, top_k=3, batch_size=2), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = fill.model(ids).logits[ids == tokenizer.mask_token_id][0]
        expected = logits.softmax(-1).topk(3)
        assert [answer["token"] for answer in answers] == expected.indices.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(expected.values.tolist(), abs=ROUNDING)
        assert all(answer["token_str"] == tokenizer.decode([answer["token"]]) for answer in answers)


def test_text_classification(tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    names = {0: "indoors", 1: "outdoors", 2: "neither"}
    model, folder = saved_bert("ForSequenceClassification", tokenizer, tmp_path, id2label=names)
    classify = pipeline("text-classification", folder, device="cpu")
    assert type(classify.model) is hf_seqmodels.SeqBertForSequenceClassification
    pair = {"text": TEXT[0][:20], "text_pair": TEXT[1][:20]}
    inputs = [TEXT[0], "Rain.", pair]
    for given, answer in zip(inputs, classify(inputs, batch_size=3, top_k=None), strict=True):
        texts = given.values() if isinstance(given, dict) else [given]
        with torch.no_grad():
            expected = model(**tokenizer(*texts, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        scores = {row["label"]: row["score"] for row in answer}
        assert [scores[label] for label in names.values()] == pytest.approx(expected, abs=ROUNDING)


def test_token_classification(tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    names = {0: "B-ANIMAL", 1: "I-ANIMAL"}
    model, folder = saved_bert("ForTokenClassification", tokenizer, tmp_path, id2label=names)
    tag = pipeline("token-classification", folder, device="cpu", ignore_labels=[])
    assert type(tag.model) is hf_seqmodels.SeqBertForTokenClassification
    texts = [TEXT[0], "The cat slept."]
    for text, entities in zip(texts, tag(texts, batch_size=2), strict=True):
        with torch.no_grad():
            probabilities = model(**tokenizer(text, return_tensors="pt")).logits[0, 1:-1].softmax(-1)
        best = probabilities.max(-1)
        assert [row["entity"] for row in entities] == [names[int(place)] for place in best.indices]
        assert [row["score"] for row in entities] == pytest.approx(best.values.tolist(), abs=ROUNDING)
        assert all(text[row["start"] : row["end"]].lower() == row["word"].removeprefix("##") for row in entities)
    groups = pipeline("token-classification", folder, device="cpu", aggregation_strategy="simple")(TEXT[0])
    assert groups and all(group["entity_group"] == "ANIMAL" for group in groups)


@pytest.mark.parametrize("head", ["Model", "ForPreTraining"])
def test_feature_extraction(
    head: str, tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path, said: list[str]
) -> None:
    """From a pretraining checkpoint too, which has the whole base model in it."""
    model, folder = saved_bert(head, tokenizer, tmp_path)
    extract = pipeline("feature-extraction", folder, device="cpu", return_tensors=True)
    assert type(extract.model) is hf_seqmodels.SeqBertModel
    if head != "Model":
        forget_unused_weights(said)
    features = extract(TEXT[0])
    with torch.no_grad():
        expected = model.base_model(**tokenizer(TEXT[0], return_tensors="pt")).last_hidden_state
    assert features.shape == (1, len(tokenizer(TEXT[0])["input_ids"]), 16)
    torch.testing.assert_close(features, expected, rtol=0, atol=ROUNDING)
