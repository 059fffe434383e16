"""Small corpora on disk and a tokenizer, made once."""

from pathlib import Path

import datasets
import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.corpora import TextSource, load_documents
from hf_seqmodels.data.tokenization import tokenize_documents
from hf_seqmodels.data.tokenizers import SentencesOf, train_wordpiece

datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def embedded() -> Dataset:
    return load_documents(TextSource())


@pytest.fixture(scope="session")
def tokenizer(embedded: Dataset) -> PreTrainedTokenizerFast:
    return train_wordpiece(SentencesOf(embedded), 2000)


@pytest.fixture(scope="session")
def tokenized(
    embedded: Dataset, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    return tokenize_documents(embedded, tokenizer, cache_dir=str(tmp_path_factory.mktemp("tokens")))


@pytest.fixture
def sentence_file(tmp_path: Path) -> Path:
    """Twelve documents of one to five sentences, one on a line, with stray blank lines."""
    documents = ["\n".join(f"Sentence {s} of document {d} is here." for s in range(d % 5 + 1)) for d in range(12)]
    path = tmp_path / "sentences.txt"
    path.write_text("\n\n" + "\n\n \n".join(documents) + "\n", encoding="utf-8")
    return path
