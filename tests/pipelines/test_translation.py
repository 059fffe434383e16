"""The translation pipeline: the same translations as by hand, each as if alone, with true scores and attention."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, pipeline
from transformers.pipelines.pt_utils import KeyDataset

import hf_seqmodels
from hf_seqmodels.analysis import AttentionMap, NotInModelError, attention_map
from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.tasks.translate import translate
from hf_seqmodels.tasks.translation_evaluation import Decoding
from tests.pipelines.toys import bert_tokenizer, saved, saved_bert

TEXTS = ["abc", "bead face cab", "  g \n", "", "hhhh", "cab dad"]
LENGTH = 20
TOKENIZER: Any = train_characters(["abcdefg h"])
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
RECURRENT = {"vocab_size": len(TOKENIZER), "hidden_size": 16, "num_hidden_layers": 1, **IDS}
CONFIGS = {
    "VanillaTransformer": hf_seqmodels.VanillaTransformerConfig(
        vocab_size=len(TOKENIZER), d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=LENGTH, **IDS
    ),
    "AttentionSeq2Seq": hf_seqmodels.AttentionSeq2SeqConfig(**RECURRENT),
    "Seq2Seq": hf_seqmodels.Seq2SeqConfig(**RECURRENT),
}  # fmt: skip
EVERY_MODEL = pytest.mark.parametrize("name", CONFIGS)
# What an untrained model may say, though it is no text.
NO_TEXT = {"suppress_tokens": [0, 1, 3]}
# A search with a cache and one pass, a batch and a text alone: float32 numbers added in another order.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of models far from sure of anything, whose translations end, and end at several lengths."""
    made = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(3)
        model = getattr(hf_seqmodels, f"{name}ForConditionalGeneration")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.4)
        _, made[name] = saved(model, TOKENIZER, tmp_path_factory.mktemp(name))
    return made


def translator(folder: str, **options: Any) -> Any:
    return pipeline("translation", model=folder, device="cpu", **options)


@EVERY_MODEL
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_is_translated_like_each_text_alone(name: str, beams: int, folders: dict[str, str]) -> None:
    """And like `scripts/translate.py` does it, default length included, one sentence at a time."""
    translate_all = translator(folders[name])
    assert type(translate_all.model).__name__ == f"{name}ForConditionalGeneration"
    together = translate_all(TEXTS, batch_size=4, num_beams=beams)
    for text, entry in zip(TEXTS, together, strict=True):
        (alone,) = translate_all(text, num_beams=beams)
        assert alone["translation_text"] == entry["translation_text"]
        assert alone["score"] == pytest.approx(entry["score"], abs=ROUNDING)
    sentences = [
        text for text in TEXTS if len(text) < 7
    ]  # 1.5 times a longer one is above the Transformer's positions
    expected = translate(translate_all.model, TOKENIZER, sentences, Decoding(beams, batch_size=1))
    assert [translate_all(text, num_beams=beams)[0]["translation_text"] for text in sentences] == expected
    assert len({entry["translation_text"] for entry in together}) >= 4


@EVERY_MODEL
@pytest.mark.parametrize("search", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 2.0}], ids=str)
def test_score_is_the_mean_log_probability(name: str, search: dict[str, Any], folders: dict[str, str]) -> None:
    """The loss of the translation as a label has another sign and is otherwise the same."""
    search = {**NO_TEXT, **search, "max_new_tokens": 6}
    translate_all = translator(folders[name], **search)
    model = translate_all.model
    for text in ("abc", "bead face cab"):
        source = TOKENIZER(text, return_tensors="pt")
        torch.manual_seed(5)
        target = model.generate(**source, **search)[:, 1:]
        torch.manual_seed(5)
        (found,) = translate_all(text)
        assert found["translation_text"] == TOKENIZER.decode(target[0], skip_special_tokens=True).strip()
        with torch.no_grad():
            loss = model(**source, labels=target).loss
        assert found["score"] == pytest.approx(-loss.item(), abs=ROUNDING)


@EVERY_MODEL
def test_several_translations_of_each(name: str, folders: dict[str, str]) -> None:
    translate_all = translator(folders[name])
    search = {"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 5, "no_repeat_ngram_size": 1, **NO_TEXT}
    together = translate_all(TEXTS, batch_size=6, **search)
    assert [len(entries) for entries in together] == [3] * len(TEXTS)
    for text, entries in zip(TEXTS, together):
        alone = translate_all(text, **search)
        assert [entry["translation_text"] for entry in alone] == [entry["translation_text"] for entry in entries]
        for one, other in zip(alone, entries):
            assert one["score"] == pytest.approx(other["score"], abs=ROUNDING)
    assert len({entry["translation_text"] for entry in together[0]}) == 3


@pytest.mark.parametrize("name", ["VanillaTransformer", "AttentionSeq2Seq"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_attention_is_that_of_attention_map(name: str, side: str, folders: dict[str, str]) -> None:
    translate_all = translator(folders[name])
    translate_all.tokenizer.padding_side = side
    search = {"num_beams": 3, "max_new_tokens": 8, "no_repeat_ngram_size": 1}
    found = translate_all(TEXTS, batch_size=6, return_attention=True, **search)
    for text, entry in zip(TEXTS, found, strict=True):
        given = entry["attention"]
        assert isinstance(given, AttentionMap) and given.text == entry["translation_text"]
        if not text.strip():
            assert given.target == () and given.weights.shape == (0, 1)
            continue
        expected = attention_map(translate_all.model, TOKENIZER, text.strip(), **search)
        assert given.source == expected.source
        np.testing.assert_allclose(given.weights.sum(1), 1, rtol=0, atol=ROUNDING)
        # A beam that ends before the longest of its batch is padded there.
        length = len(given.target)
        assert given.target == expected.target[:length]
        np.testing.assert_allclose(given.weights, expected.weights[:length], rtol=0, atol=ROUNDING)
        assert "".join(text[start:end] for start, end in given.source_spans) == text.strip()
    assert "attention" not in translate_all(TEXTS[0])[0]


def test_no_attention_is_said_clearly(folders: dict[str, str]) -> None:
    with pytest.raises(
        NotInModelError, match=r"return_attention=True: Seq2SeqForConditionalGeneration: .*no attention"
    ):
        translator(folders["Seq2Seq"])("abc", return_attention=True)


def test_every_kind_of_input(folders: dict[str, str]) -> None:
    translate_all = translator(folders["AttentionSeq2Seq"], batch_size=2)
    expected = translate_all(TEXTS)
    assert translate_all(tuple(TEXTS)) == expected
    assert [entry for (entry,) in translate_all(text for text in TEXTS)] == expected
    rows: Any = KeyDataset([{"de": text, "en": "x"} for text in TEXTS], "de")  # type: ignore[arg-type]
    assert [entry for (entry,) in translate_all(rows)] == expected
    assert translate_all([]) == []
    assert translate_all([TEXTS[0]]) == translate_all(TEXTS[0])
    for wrong in (None, 3, {"text": "abc"}, [["abc"]], b"abc"):
        with pytest.raises(ValueError, match=r"text=.* must be a string"):
            translate_all(wrong)


def test_nothing_is_translated_to_nothing(folders: dict[str, str]) -> None:
    translate_all = translator(folders["Seq2Seq"])
    assert translate_all(["", " \n", "abc"], batch_size=3)[:2] == [{"translation_text": "", "score": 0.0}] * 2
    assert translate_all("", num_beams=2, num_return_sequences=2) == [{"translation_text": "", "score": 0.0}] * 2


def test_texts_that_are_too_long(folders: dict[str, str]) -> None:
    """Refused, or cut with the end kept where that is asked for."""
    bounded, free = translator(folders["VanillaTransformer"]), translator(folders["AttentionSeq2Seq"])
    assert bounded("a" * (LENGTH - 1)) and free("a" * 40)
    with pytest.raises(ValueError, match=r"text='a+' has 21 tokens, above the 20 that are allowed"):
        bounded("a" * LENGTH)
    with pytest.raises(ValueError, match=r"text='a{60}…' has 101 tokens, above the 50"):
        free("a" * 100, max_source_length=50)
    assert bounded("a" * 99, truncation=True) == bounded("a" * (LENGTH - 1))
    assert free("abcdef", truncation=True, max_source_length=4) == free("abc")
    for wrong in ({"max_source_length": 1}, {"truncation": "longest_first"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            free("abc", **wrong)


def test_lengths_of_translations(folders: dict[str, str]) -> None:
    """By default each text's own; otherwise what generate() is told, wherever it is told."""
    never: dict[str, Any] = {"suppress_tokens": [0, 1, 2, 3], "return_attention": True}
    free = translator(folders["AttentionSeq2Seq"])
    lengths = [len(entry["attention"].target) for entry in free(["a", "abcde", "abc def"], batch_size=3, **never)]
    assert lengths == [13, 19, 22]  # 1.5 times 2, 6 and 8 tokens, and 10
    for beams in (1, 2):
        bounded = translator(folders["VanillaTransformer"])(["a", "a" * 15], batch_size=2, num_beams=beams, **never)
        assert [len(entry["attention"].target) for entry in bounded] == [13, LENGTH]
    (told,) = free("abc", max_new_tokens=4, **never)
    assert len(told["attention"].target) == 4
    given = GenerationConfig(max_new_tokens=5, suppress_tokens=never["suppress_tokens"], **IDS)
    (told,) = free("abc", generation_config=given, return_attention=True)
    assert len(told["attention"].target) == 5
    (told,) = translator(folders["AttentionSeq2Seq"], max_new_tokens=3)("abc", **never)
    assert len(told["attention"].target) == 3
    model = copy.deepcopy(free.model)
    model.generation_config.max_length = 7
    assert len(translator(model, tokenizer=TOKENIZER)("abc", **never)[0]["attention"].target) == 6


def test_a_generation_config_without_a_length_is_not_changed(folders: dict[str, str]) -> None:
    free = translator(folders["AttentionSeq2Seq"])
    given = GenerationConfig(num_beams=2, **IDS)
    before = given.to_dict()
    assert free("abc", generation_config=given) == free("abc", num_beams=2)
    assert given.to_dict() == before


def test_a_model_in_training_is_used_without_dropout_and_left_so(folders: dict[str, str]) -> None:
    """Models and tokenizers as objects, as in the middle of a training."""
    expected = translator(folders["VanillaTransformer"])
    model = copy.deepcopy(expected.model).train()
    during = pipeline("translation", model=model, tokenizer=TOKENIZER, device="cpu")
    assert during(TEXTS) == expected(TEXTS)
    assert model.training


def test_only_encoder_decoders_translate(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer()
    model, folder = saved_bert("Model", tokenizer, tmp_path)
    with pytest.raises(ValueError, match="model=SeqBertModel: translation needs an encoder–decoder"):
        pipeline("translation", model=model, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="SeqBertConfig"):
        pipeline("translation", model=folder)
