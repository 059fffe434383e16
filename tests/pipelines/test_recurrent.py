"""transformers' pipelines on saved RNN, LSTM and GRU models with a tokenizer trained here."""

import pathlib
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from hf_seqmodels.data.lm_tokenizers import train_lm_tokenizer
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from tests.pipelines.toys import TEXT, forget_unused_weights, saved_recurrent

RECURRENT = ("RNN", "LSTM", "GRU")


@pytest.fixture(scope="module")
def subword_tokenizer() -> PreTrainedTokenizerFast:
    return train_lm_tokenizer(TEXT, "subword", vocab_size=300)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(
    ("head", "auto_class"),
    [
        ("Model", AutoModel),
        ("ForCausalLM", AutoModelForCausalLM),
        ("ForSequenceClassification", AutoModelForSequenceClassification),
        ("ForTokenClassification", AutoModelForTokenClassification),
    ],
)
def test_auto_classes_give_the_recurrent_models_back(
    name: str,
    head: str,
    auto_class: Any,
    subword_tokenizer: PreTrainedTokenizerFast,
    tmp_path: pathlib.Path,
    said: list[str],
) -> None:
    """With all weights, which from another seed would differ; a base model comes out of every head's file."""
    model, folder = saved_recurrent(name, head, subword_tokenizer, tmp_path)
    torch.manual_seed(1)
    again = auto_class.from_pretrained(folder)
    assert type(again) is type(model)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    base = AutoModel.from_pretrained(folder)
    assert type(base).__name__ == f"{name}Model"
    if head != "Model":
        forget_unused_weights(said)
    expected = (model if head == "Model" else model.model).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in base.state_dict().items())


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
@pytest.mark.parametrize("name", RECURRENT)
def test_text_generation(
    name: str, softmax: str, subword_tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path
) -> None:
    """Prompts of unequal length, padded on the left in one batch, go on as each alone, and as written out by hand."""
    fields: dict[str, Any] = {}
    if softmax == "adaptive":
        fields = {"softmax": softmax, "adaptive_cutoffs": [100], "tie_word_embeddings": False}
    model, folder = saved_recurrent(name, "ForCausalLM", subword_tokenizer, tmp_path, **fields)
    write = pipeline("text-generation", folder, device="cpu")
    assert type(write.model) is type(model)
    write.tokenizer.padding_side = "left"
    settings = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    prompts = ["The cat", "A dog chased the cat around the old"]
    batched = [row[0]["generated_text"] for row in write(prompts, batch_size=2, **settings)]
    assert batched == [write(prompt, **settings)[0]["generated_text"] for prompt in prompts]
    for prompt, written in zip(prompts, batched):
        ids = subword_tokenizer(prompt, return_tensors="pt")["input_ids"]
        length = ids.shape[1]
        for _ in range(8):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            if ids[0, -1] == subword_tokenizer.eos_token_id:
                break
        assert written == subword_tokenizer.decode(ids[0, length:], skip_special_tokens=True)
    assert len(set(batched)) == 2
    beams = write(prompts[0], max_new_tokens=4, num_beams=3, num_return_sequences=2, do_sample=False)
    assert len(beams) == 2 and all(beam["generated_text"].startswith(prompts[0]) for beam in beams)


@pytest.mark.parametrize("pooling", ["last", "attention"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_text_classification(
    name: str, pooling: str, tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path
) -> None:
    """With BERT's tokenizer, too, whose token types a recurrent model has no use for."""
    names = {0: "indoors", 1: "outdoors", 2: "neither"}
    model, folder = saved_recurrent(
        name, "ForSequenceClassification", tokenizer, tmp_path, id2label=names, pooling=pooling, bidirectional=True
    )
    classify = pipeline("text-classification", folder, device="cpu")
    texts = [TEXT[0], "Rain.", TEXT[1]]
    answers = classify(texts, batch_size=3, top_k=None)
    for text, answer in zip(texts, answers, strict=True):
        expected = model(tokenizer(text, return_tensors="pt")["input_ids"]).logits.softmax(-1)[0].tolist()
        scores = {row["label"]: row["score"] for row in answer}
        # float32 sums in another order
        assert [scores[label] for label in names.values()] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_token_classification(
    name: str, use_crf: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path
) -> None:
    """The scores are softmax probabilities; with a CRF, each tag's probability given the whole text."""
    names = {0: "O", 1: "B-ANIMAL", 2: "I-ANIMAL"}
    model, folder = saved_recurrent(
        name, "ForTokenClassification", tokenizer, tmp_path, id2label=names, use_crf=use_crf, bidirectional=True
    )
    if use_crf:  # transitions that matter
        with torch.no_grad():
            model.crf.transitions.uniform_(-2, 2)
        model.save_pretrained(folder)
    tag = pipeline("token-classification", folder, device="cpu", ignore_labels=[])
    texts = [TEXT[0], "The cat slept."]
    for text, entities in zip(texts, tag(texts, batch_size=2), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        logits = model(ids).logits[0]
        probabilities = logits.exp() if use_crf else logits.softmax(-1)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(len(logits)), rtol=0, atol=1e-5)
        inner = probabilities[1:-1]  # the pipeline leaves [CLS] and [SEP] out
        assert [row["entity"] for row in entities] == [names[int(place)] for place in inner.argmax(-1)]
        assert [row["score"] for row in entities] == pytest.approx(inner.max(-1).values.tolist(), abs=1e-5)
        assert all(text[row["start"] : row["end"]].lower() == row["word"].removeprefix("##") for row in entities)
    grouped = pipeline("token-classification", folder, device="cpu", aggregation_strategy="simple")(TEXT[0])
    assert all(group["entity_group"] == "ANIMAL" for group in grouped)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_feature_extraction(
    name: str, subword_tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path
) -> None:
    model, folder = saved_recurrent(name, "Model", subword_tokenizer, tmp_path)
    extract = pipeline("feature-extraction", folder, device="cpu", return_tensors=True)
    ids = subword_tokenizer(TEXT[0], return_tensors="pt")["input_ids"]
    outputs = model(ids)
    assert isinstance(outputs.past_key_values, RecurrentCache)
    torch.testing.assert_close(extract(TEXT[0]), outputs.last_hidden_state, rtol=0, atol=1e-6)
