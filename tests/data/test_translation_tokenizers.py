"""Tokenizers of both sides: reversible, the same again, and loaded by AutoTokenizer."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_seqmodels.data.dates import date_pairs
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.translation_tokenizers import train_characters, train_joint_bpe

TEXTS = ["zwei männer sind im freien .", "two men are outside , and it 's late .", "밖에 두 남자가 있다 ."] * 3
STRANGE = ["a man 's dog , ok ?", " leading", "trailing ", "two  spaces", "</s> <pad> & <unk>", "Ünïcode 😀\t中", "x"]


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_joint_bpe(TEXTS, 300)


def _reloaded(tokenizer: PreTrainedTokenizerFast, folder: Path) -> PreTrainedTokenizerFast:
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_special_tokens(bpe: PreTrainedTokenizerFast) -> None:
    for tokenizer in (bpe, train_characters(TEXTS)):
        ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
        assert ids == (0, 1, 2, 3)
        assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
        assert tokenizer("ok").input_ids[-1] == tokenizer(text_target="ok").input_ids[-1] == 2
        assert tokenizer("").input_ids == [2]
    assert len(bpe) == 300


def test_bpe_gives_texts_back(bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    again = _reloaded(bpe, tmp_path)
    for text in TEXTS + STRANGE:
        ids = bpe(text).input_ids
        assert again(text).input_ids == ids
        assert not set(ids[:-1]) & {0, 1, 2, 3}
        assert bpe.decode(ids, skip_special_tokens=True) == again.decode(ids, skip_special_tokens=True) == text
    # A sentence's first word has the pieces that it has inside.
    assert bpe("men").input_ids[:-1] == bpe("two men").input_ids[len(bpe("two").input_ids) - 1 : -1]


def test_lowercase(tmp_path: Path) -> None:
    tokenizer = _reloaded(train_joint_bpe(TEXTS, 300, lowercase=True), tmp_path)
    ids = tokenizer("Two MEN").input_ids
    assert ids == tokenizer("two men").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "two men"


def test_the_same_texts_give_the_same_vocabulary(bpe: PreTrainedTokenizerFast) -> None:
    assert train_joint_bpe(iter(TEXTS[::-1]), 300).get_vocab() == bpe.get_vocab()
    assert train_characters(TEXTS[::-1]).get_vocab() == train_characters(TEXTS).get_vocab()


def test_characters_of_dates(tmp_path: Path) -> None:
    pairs = date_pairs(500, seed=0)
    tokenizer = _reloaded(train_characters([*pairs["source"], *pairs["target"]]), tmp_path)
    for pair in pairs:
        encoded = tokenizer(pair["source"], return_offsets_mapping=True)
        # A token for each character, so that spans of characters are spans of tokens.
        assert encoded.offset_mapping[:-1] == [(place, place + 1) for place in range(len(pair["source"]))]
        assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == pair["source"]
    assert tokenizer("2021\N{SNOWMAN}").input_ids[-2:] == [tokenizer.unk_token_id, tokenizer.eos_token_id]


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="vocab_size=259 must be at least 260"):
        train_joint_bpe(TEXTS, 259)
    for texts in ([], ["", " "]):
        with pytest.raises(CorpusError, match="no text"):
            train_joint_bpe(texts, 300)
        with pytest.raises(CorpusError, match="no text"):
            train_characters(texts)
