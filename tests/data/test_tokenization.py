"""Tokenised once, kept on disk, found again."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.corpora import TextSource, load_documents
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.tokenization import tokenize_documents, tokenizer_fingerprint
from hf_seqmodels.data.tokenizers import train_wordpiece

RUN = """
import sys
from transformers import AutoTokenizer
from hf_seqmodels.data.corpora import TextSource, load_documents, split_documents
from hf_seqmodels.data.tokenization import tokenize_documents
file, rows, cache, saved = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(saved)
for files in ((file,), (rows,), ()):
    train, _ = split_documents(load_documents(TextSource(files=files, cache_dir=cache)), 2)
    print(tokenize_documents(train, tokenizer, cache_dir=cache).cache_files[0]["filename"])
"""


def test_columns_hold_every_sentence(
    embedded: Dataset, tokenized: Dataset, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert len(tokenized) == len(embedded)
    for number in (0, 7, len(embedded) - 1):
        ids = tokenizer(embedded[number]["sentences"], add_special_tokens=False)["input_ids"]
        assert tokenized[number]["sentence_lengths"] == [len(sentence) for sentence in ids]
        assert tokenized[number]["tokens"] == [token for sentence in ids for token in sentence]


def test_second_run_finds_the_first_ones_tokens(
    sentence_file: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = tmp_path / "rows.csv"
    Dataset.from_dict({"text": [f"A first sentence. The {n} is here." for n in range(9)]}).to_csv(rows)
    command = [sys.executable, "-c", RUN, *map(str, (sentence_file, rows, tmp_path / "cache", tmp_path / "tokenizer"))]
    runs = []
    for _ in range(2):
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append([(path, Path(path).stat().st_mtime_ns, Path(path).stat().st_ino) for path in printed.split()])
    assert runs[0] == runs[1]
    assert len(list((tmp_path / "cache" / "hf_seqmodels").glob("*.arrow"))) == len(runs[0]) == 3


def test_changed_text_or_tokenizer_is_tokenised_anew(
    sentence_file: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def names() -> tuple[str, int]:
        documents = load_documents(TextSource(files=(str(sentence_file),), cache_dir=str(tmp_path / "cache")))
        found = tokenize_documents(documents, tokenizer, cache_dir=str(tmp_path))
        return found.cache_files[0]["filename"], len(found)

    first = names()
    assert names() == first
    sentence_file.write_text(sentence_file.read_text() + "\n\nOne more document.\n", encoding="utf-8")
    second = names()
    assert second[0] != first[0] and second[1] == first[1] + 1
    tokenizer = train_wordpiece(["other words make another vocabulary"], 100)
    assert names()[0] != second[0]


def test_padding_and_truncation_do_not_rename_a_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(tokenizer) == before
    assert tokenizer_fingerprint(train_wordpiece(["a b c"], 50)) != before


def test_several_processes_give_the_same(
    embedded: Dataset, tokenized: Dataset, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = tokenize_documents(embedded, tokenizer, num_proc=2, batch_size=10, cache_dir=str(tmp_path))
    assert found.to_dict() == tokenized.to_dict()


def test_empty_sentences_and_documents_are_left_out_and_counted(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    documents = Dataset.from_dict({"sentences": [["\u200b", "a word"], ["\u200b"], ["more words", "here"]]})
    with caplog.at_level(logging.WARNING):
        found = tokenize_documents(documents, tokenizer, cache_dir=str(tmp_path))
    assert [len(row["sentence_lengths"]) for row in found] == [1, 2]
    assert "Left out 2 sentences without a token, and 1 documents" in caplog.text


def test_no_token_at_all(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus is empty"):
        tokenize_documents(Dataset.from_dict({"sentences": [["\u200b"]]}), tokenizer, cache_dir=str(tmp_path))
