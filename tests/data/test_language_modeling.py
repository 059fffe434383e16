"""Text for language models: as it is, or as documents."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_seqmodels.data.corpora import TextSource
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.language_modeling import (
    TextDocuments,
    collate_documents,
    kept_characters,
    predicted_characters,
    read_documents,
    read_text,
    split_documents,
    split_text,
)
from hf_seqmodels.data.lm_tokenizers import train_lm_tokenizer

RAW = "One line.\n\n  Two\r\nthree"


def _file(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_text_files_are_kept_as_they_are(tmp_path: Path) -> None:
    first, second = _file(tmp_path / "a.txt", "\ufeff" + RAW), _file(tmp_path / "b.txt", "four\n")
    assert read_text(TextSource(files=(first,))) == RAW
    # A line end between files, lest "three" and "four" become one word.
    assert read_text(TextSource(files=(first, second))) == RAW + "\nfour\n"
    assert read_documents(TextSource(files=(first, second))) == ["One line.", "  Two", "three", "four"]


def test_tables_and_datasets(tmp_path: Path) -> None:
    rows = ["one\n", "", "two"]
    csv = _file(tmp_path / "t.csv", "text,n\none,1\n,2\ntwo,3\n")
    jsonl = _file(tmp_path / "t.jsonl", "\n".join(json.dumps({"text": row}) for row in rows))
    Dataset.from_dict({"text": rows}).save_to_disk(tmp_path / "saved")
    for source in (TextSource(files=(jsonl,)), TextSource(dataset_name=str(tmp_path / "saved"))):
        assert read_text(source) == "one\n\ntwo\n"
        assert read_documents(source) == ["one\n", "two"]
    assert read_documents(TextSource(files=(csv,))) == ["one", "two"]


def test_the_embedded_corpus() -> None:
    assert len(read_documents(TextSource())) == read_text(TextSource()).count("\n") > 100


def test_mistakes_are_named(tmp_path: Path) -> None:
    bad = _file(tmp_path / "bad.txt", b"fine\nna\xefve\n")
    table = _file(tmp_path / "t.csv", "words\none\n")
    for read in (read_text, read_documents):
        with pytest.raises(CorpusError, match=r"bad\.txt, line 2: not UTF-8 \(byte 0xef"):
            read(TextSource(files=(bad,)))
        with pytest.raises(CorpusError, match=r"nowhere\.txt: no such file"):
            read(TextSource(files=("nowhere.txt",)))
        with pytest.raises(CorpusError, match="no column 'text'; it has words"):
            read(TextSource(files=(table,)))
        with pytest.raises(CorpusError, match="several kinds"):
            read(TextSource(files=(table, bad)))
        with pytest.raises(CorpusError, match="The corpus is empty"):
            read(TextSource(files=(_file(tmp_path / "empty.txt", " \n\n"),)))


def test_the_end_is_held_out() -> None:
    text = "abc\n" * 25
    assert split_text(text, 0.1) == (text[:92], text[92:])
    assert split_text("x" * 100, 0.25) == ("x" * 75, "x" * 25)  # no line end: exactly there
    assert split_documents(list("abcdefghij"), 0.2) == (list("abcdefgh"), ["i", "j"])
    assert split_documents(["a", "b"], 0.01) == (["a"], ["b"])
    with pytest.raises(ValueError, match=r"held_out=1\.5 must lie in \(0, 1\)"):
        split_text(text, 1.5)
    with pytest.raises(ValueError, match="single document"):
        split_documents(["a"], 0.5)


def test_examples_of_documents() -> None:
    documents = [np.arange(10, 10 + size, dtype=np.int32) for size in (0, 2, 3, 4, 9)]
    data = TextDocuments(documents, bos=1, eos=2, max_length=5)
    examples = [data[(0, 0, index)]["input_ids"].tolist() for index in range(5)]
    # What fits ends with eos; what doesn't is no end of a document.
    assert examples == [[1, 2], [1, 10, 11, 2], [1, 10, 11, 12, 2], [1, 10, 11, 12, 13], [1, 10, 11, 12, 13]]
    assert data.num_cut == 5
    assert data.example_lengths(0, 0).tolist() == [len(example) for example in examples]
    batch = collate_documents([data[(0, 0, index)] for index in (0, 3)], pad_token_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 0, 0, 0], [1, 10, 11, 12, 13]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    assert batch["labels"].tolist() == [[1, 2, -100, -100, -100], [1, 10, 11, 12, 13]]
    with pytest.raises(ValueError, match="max_length=2 must be at least 3"):
        TextDocuments(documents, 1, 2, 2)
    with pytest.raises(CorpusError, match="no documents"):
        TextDocuments([], 1, 2, 5)
    with pytest.raises(IndexError):
        data.example_lengths(0, 1)


def test_characters_are_those_that_are_predicted() -> None:
    tokenizer = train_lm_tokenizer([], "byte", 0)
    assert predicted_characters("abcd", tokenizer) == 3
    assert predicted_characters("a", tokenizer) == predicted_characters("", tokenizer) == 0
    words = train_lm_tokenizer(["ab cd ef\n"], "word", 10)
    assert predicted_characters("ab cd ef\n", words) == 6  # "cd ef\n"
    # "é" is two bytes: of "né" with two tokens kept, the first of them counts as the character.
    assert kept_characters(["abcd", "né"], np.array([4, 3]), tokenizer) == 6
    assert kept_characters(["abcd", "xyz"], np.array([2, 3]), tokenizer) == 5
