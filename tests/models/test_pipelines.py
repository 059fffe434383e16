"""transformers' pipelines work on saved SeqBert models with a tokenizer trained here."""

import pathlib

import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, pipeline

import hf_seqmodels
from hf_seqmodels import SeqBertConfig

TEXT = [
    "The cat sat on the mat and the dog lay by the door.",
    "A dog chased the cat around the old house in the rain.",
    "The rain fell on the house while the cat slept on the mat.",
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXT * 4, vocab_size=120, min_frequency=1, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=32)


def saved(head: str, tokenizer: PreTrainedTokenizerFast, folder: pathlib.Path, **fields: object) -> str:
    torch.manual_seed(0)
    config = SeqBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
        **fields,
    )
    model = getattr(hf_seqmodels, f"SeqBert{head}")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForPreTraining"])
def test_fill_mask(head: str, tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    """From a pretraining checkpoint too: the pipeline takes its vocabulary head and leaves the rest."""
    fill = pipeline("fill-mask", saved(head, tokenizer, tmp_path), device="cpu")
    assert type(fill.model) is hf_seqmodels.SeqBertForMaskedLM
    answers = fill(f"The cat sat on the {tokenizer.mask_token} .", top_k=3)
    assert len(answers) == 3
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert all(tokenizer.convert_ids_to_tokens(a["token"]).removeprefix("##") in a["token_str"] for a in answers)


def test_text_classification(tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    names = {0: "indoors", 1: "outdoors", 2: "neither"}
    folder = saved("ForSequenceClassification", tokenizer, tmp_path, id2label=names)
    classify = pipeline("text-classification", folder, device="cpu")
    single = [classify(text)[0]["score"] for text in TEXT]
    assert [answer["score"] for answer in classify(TEXT, batch_size=3)] == pytest.approx(single, abs=1e-6)
    assert {row["label"] for row in classify(TEXT[0], top_k=None)} == set(names.values())
    (answer,) = classify([{"text": TEXT[0], "text_pair": TEXT[1]}])
    assert answer["label"] in names.values()


def test_token_classification(tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    folder = saved("ForTokenClassification", tokenizer, tmp_path, id2label={0: "B-ANIMAL", 1: "I-ANIMAL"})
    tag = pipeline("token-classification", folder, device="cpu", aggregation_strategy="simple")
    groups = tag(TEXT[0])
    assert groups and all(group["entity_group"] == "ANIMAL" for group in groups)
    assert all(TEXT[0][group["start"] : group["end"]].lower() == group["word"] for group in groups[:1])


def test_feature_extraction(tokenizer: PreTrainedTokenizerFast, tmp_path: pathlib.Path) -> None:
    extract = pipeline("feature-extraction", saved("Model", tokenizer, tmp_path), device="cpu", return_tensors=True)
    features = extract(TEXT[0])
    assert features.shape == (1, len(tokenizer(TEXT[0])["input_ids"]), 16)
