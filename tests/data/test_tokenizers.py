"""WordPiece training: reproducible, reloadable, and clear about what it cannot do."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.tokenizers import (
    SPECIAL_TOKENS,
    SentencesOf,
    continuation_table,
    masking_vocabulary,
    special_ids,
    train_wordpiece,
    train_words,
)

TEXT = "Die schöne Straße, the street; 東京 is a city. Streets and cities!"


def test_special_tokens_come_first(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tuple(tokenizer.convert_ids_to_tokens(range(5))) == SPECIAL_TOKENS
    assert special_ids(tokenizer).tolist() == [0, 1, 2, 3, 4]
    assert len(tokenizer) == 2000


def test_pairs_get_token_types(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokenizer("the list", "an object")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens == ["[CLS]", "the", "list", "[SEP]", "an", "object", "[SEP]"]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert list(encoded) == ["input_ids", "token_type_ids", "attention_mask"]


def test_saved_tokenizer_is_the_same(tokenizer: PreTrainedTokenizerFast, embedded: Dataset, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    sentences = [sentence for document in embedded["sentences"][:20] for sentence in document] + [TEXT]
    assert loaded(sentences).data == tokenizer(sentences).data
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert (loaded.model_max_length, loaded.mask_token_id) == (tokenizer.model_max_length, tokenizer.mask_token_id)
    assert loaded.decode(loaded("an iterable object")["input_ids"], skip_special_tokens=True) == "an iterable object"


def test_same_text_same_vocabulary_in_every_process(tokenizer: PreTrainedTokenizerFast) -> None:
    code = """
import hashlib
from hf_seqmodels.data.embedded import embedded_text
from hf_seqmodels.data.tokenizers import train_wordpiece
vocab = train_wordpiece([s for d in embedded_text() for s in d], 2000).get_vocab()
print(hashlib.sha256(repr(sorted(vocab.items())).encode()).hexdigest())
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def test_case(embedded: Dataset) -> None:
    assert train_wordpiece([TEXT], 200).tokenize("SCHÖNE") == train_wordpiece([TEXT], 200).tokenize("schone")
    cased = train_wordpiece([TEXT], 200, lowercase=False)
    assert cased.tokenize("Die") != cased.tokenize("die")


def test_continuation_table(tokenizer: PreTrainedTokenizerFast) -> None:
    table = continuation_table(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert table.dtype == bool and table.shape == (2000,)
    assert [t for t, continues in zip(tokens, table) if continues] == [
        t for t in tokens if t[:2] == "##" and t != "##"
    ]
    vocabulary = masking_vocabulary(tokenizer)
    assert np.array_equal(vocabulary.ordinary_ids, np.arange(5, 2000)) and vocabulary.mask_token_id == 4


def test_continuation_table_of_marked_word_heads() -> None:
    vocabulary = {"[UNK]": 0, "▁the": 1, "s": 2, "▁a": 3}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary)), unk_token="[UNK]")
    assert continuation_table(tokenizer).tolist() == [False, False, True, False]
    unmarked = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}))
    with pytest.raises(ValueError, match="words cannot be told"):
        continuation_table(PreTrainedTokenizerFast(tokenizer_object=unmarked, unk_token="[UNK]"))


def test_tokenizer_without_mask_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[CLS]": 0})), cls_token="[CLS]")
    with pytest.raises(ValueError, match="has no sep_token, mask_token"):
        masking_vocabulary(tokenizer)


@pytest.mark.parametrize("size", [0, 5])
def test_vocabulary_smaller_than_the_specials(size: int) -> None:
    with pytest.raises(ValueError, match=rf"vocab_size={size} must be above 5"):
        train_wordpiece([TEXT], size)


def test_vocabulary_smaller_than_the_alphabet() -> None:
    with pytest.raises(ValueError, match=r"vocab_size=20 is too small for this text.*need \d+"):
        train_wordpiece([TEXT], 20)


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_no_text(texts: list[str]) -> None:
    with pytest.raises(CorpusError, match="corpus is empty"):
        train_wordpiece(texts, 100)


WORDS = ["The film 's plot", "the film do n't  end", "No end , no plot [SEP] tail"]


def test_words_from_frequent_to_rare(tmp_path: Path) -> None:
    tokenizer = train_words(WORDS, 100, lowercase=True)
    # Equally frequent words in alphabetical order; 's, n't and others occur once; [SEP] in a text is no word.
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [
        *SPECIAL_TOKENS, *("end", "film", "no", "plot", "the")
    ]  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.is_fast and loaded.tokenize("THE films end") == ["the", "[UNK]", "end"]
        encoded = loaded("the end", "no plot")
        assert list(encoded) == ["input_ids", "attention_mask"]
        assert loaded.decode(encoded["input_ids"]) == "the end [SEP] no plot"
        split = loaded([["The", "U.S.", "film"]], is_split_into_words=True)
        assert split.word_ids(0) == [0, 1, 2]


def test_words_by_case_frequency_and_size() -> None:
    assert "No" in train_words(WORDS, 100, min_frequency=1).get_vocab()
    assert set(train_words(WORDS, 7).get_vocab()) == {*SPECIAL_TOKENS, "end", "film"}
    with pytest.raises(ValueError, match="vocab_size=5 must be above 5"):
        train_words(WORDS, 5)
    with pytest.raises(CorpusError, match="no word at least 9 times"):
        train_words(WORDS, 100, min_frequency=9)


def test_sentences_of_documents_can_be_read_again() -> None:
    sentences = SentencesOf([{"sentences": ["a", "b"]}, {"sentences": ["c"]}])
    assert list(sentences) == list(sentences) == ["a", "b", "c"]
