"""Tokenizers of language models."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from hf_seqmodels.data.embedded import embedded_text
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.lm_tokenizers import TOKENIZATIONS, tokenize_texts, train_lm_tokenizer

STRANGE = "héllo <eos> 한국어 \u0000\n\n  two  spaces\t\r\nend <pad>"
TEXT = "\n".join(" ".join(sentences) for sentences in embedded_text()[:150]) + "\n\n \nThe end.\n"


@pytest.mark.parametrize("tokenization", ["byte", "subword"])
def test_reversible(tokenization: str, tmp_path: Path) -> None:
    train_lm_tokenizer([TEXT], tokenization, 400).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in (STRANGE, TEXT):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert not set(ids) & set(tokenizer.all_special_ids)  # "<eos>" in a text is text
    assert {tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token} == {"<pad>", "<bos>", "<eos>"}


def test_bytes_are_their_ids() -> None:
    tokenizer = train_lm_tokenizer([], "byte", 0)
    assert len(tokenizer) == 259
    every = bytes(range(128)).decode() + "".join(map(chr, range(128, 3000, 7)))
    assert tokenizer(every)["input_ids"] == list(every.encode())


def test_words(tmp_path: Path) -> None:
    tokenizer = train_lm_tokenizer(["b a b\n\nb c  a\n"], "word", 6)
    tokenizer.save_pretrained(tmp_path)
    for words in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert words.convert_ids_to_tokens(range(6)) == ["<pad>", "<bos>", "<eos>", "<unk>", "b", "a"]
        assert words.tokenize("a c\n\nb <unk>\n") == ["a", "<unk>", "<eos>", "<eos>", "b", "<unk>", "<eos>"]
        assert words.eos_token == "<eos>" and words.unk_token == "<unk>"


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_the_same_text_gives_the_same_vocabulary(tokenization: str) -> None:
    first, second = (train_lm_tokenizer([TEXT], tokenization, 500).get_vocab() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_long_texts_are_tokenised_as_one(tokenization: str) -> None:
    tokenizer = train_lm_tokenizer([TEXT], tokenization, 500)
    assert len(TEXT) > 30_000  # several pieces
    (ids,) = tokenize_texts([TEXT], tokenizer)
    assert ids.dtype == np.int32
    assert ids.tolist() == tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert [len(ids) for ids in tokenize_texts(["", "a"], tokenizer)] == [0, 1]


def test_models_of_documents_begin_with_bos() -> None:
    tokenizer = train_lm_tokenizer([], "byte", 0, bos=True)
    assert tokenizer("a")["input_ids"] == [tokenizer.bos_token_id, 97]
    assert next(tokenize_texts(["a"], tokenizer)).tolist() == [97]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="tokenization='char' must be one of byte, subword, word"):
        train_lm_tokenizer([TEXT], "char", 500)
    with pytest.raises(ValueError, match="vocab_size=100 must be at least 259"):
        train_lm_tokenizer([TEXT], "subword", 100)
    with pytest.raises(ValueError, match="vocab_size=4 must be above 4"):
        train_lm_tokenizer([TEXT], "word", 4)
    with pytest.raises(CorpusError, match="no text to train"):
        train_lm_tokenizer([" \n"], "word", 100)
