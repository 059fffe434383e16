"""Documents to token ids: once, in parallel, kept on disk."""

import json
import logging
from pathlib import Path

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerFast

from .errors import CorpusError

logger = logging.getLogger(__name__)

TOKEN_FEATURES = Features({"tokens": List(Value("int32")), "sentence_lengths": List(Value("int32"))})
# Part of the cache's name: to be raised when the same text comes to make other columns.
TOKENIZATION_VERSION = 1


def tokenize_batch(
    batch: dict[str, list[list[str]]], tokenizer: PreTrainedTokenizerFast
) -> dict[str, list[np.ndarray]]:
    """Tokenises documents, without special tokens.

    Args:
        batch: column `sentences`, the sentences of each document.
        tokenizer: a fast tokenizer.

    Returns:
        Columns `tokens`, all ids of each document, and `sentence_lengths`, how many belong to each sentence; int32.
        Sentences without a token are left out, and documents without a sentence.
    """
    flat = [sentence for document in batch["sentences"] for sentence in document]
    columns: dict[str, list[np.ndarray]] = {"tokens": [], "sentence_lengths": []}
    if not flat:
        return columns
    encoded = tokenizer(
        flat, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    first = 0
    for document in batch["sentences"]:
        sentences = encoded[first : first + len(document)]
        first += len(document)
        lengths = np.array([len(ids) for ids in sentences if ids], dtype=np.int32)
        if len(lengths):
            columns["tokens"].append(np.concatenate([np.array(ids, dtype=np.int32) for ids in sentences if ids]))
            columns["sentence_lengths"].append(lengths)
    return columns


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Names what a tokenizer does to text, the same in every process; its padding and truncation don't matter here."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return Hasher.hash(json.dumps({**state, "truncation": None, "padding": None}, sort_keys=True))


def tokenize_documents(
    documents: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    *,
    num_proc: int | None = None,
    cache_dir: str | None = None,
    batch_size: int = 1000,
) -> Dataset:
    """Tokenises documents and keeps the result on disk; the same documents and tokenizer are found there again.

    Args:
        documents: column `sentences`, one row a document.
        tokenizer: a fast tokenizer.
        num_proc: processes; None is one process, in which the fast tokenizer runs its own threads.
        cache_dir: where the result is kept; None is the `datasets` library's folder.
        batch_size: documents at a time.

    Returns:
        Memory-mapped dataset with the columns of `tokenize_batch`. How many empty sentences and documents were left
        out is logged.

    Raises:
        CorpusError: no document has any token.
        ValueError: `tokenizer` is not a fast one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer: load one with AutoTokenizer.")
    fingerprint = Hasher.hash((TOKENIZATION_VERSION, documents._fingerprint, tokenizer_fingerprint(tokenizer)))
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "hf_seqmodels"
    folder.mkdir(parents=True, exist_ok=True)
    tokenized = documents.map(
        tokenize_batch,
        batched=True,
        batch_size=batch_size,
        remove_columns=documents.column_names,
        features=TOKEN_FEATURES,
        fn_kwargs={"tokenizer": tokenizer},
        num_proc=num_proc,
        cache_file_name=str(folder / f"tokens-{fingerprint}.arrow"),
        new_fingerprint=fingerprint,
        desc="Tokenising",
    )
    if len(tokenized) == 0:
        raise CorpusError("The corpus is empty: no document has any token.")
    dropped_documents = len(documents) - len(tokenized)
    dropped_sentences = _count(documents, "sentences") - _count(tokenized, "sentence_lengths")
    if dropped_documents or dropped_sentences:
        logger.warning(
            "Left out %d sentences without a token, and %d documents without a sentence.",
            dropped_sentences,
            dropped_documents,
        )
    return tokenized


def _count(documents: Dataset, column: str) -> int:
    """Entries of a column of lists, all rows together."""
    batches = documents.select_columns([column]).with_format("arrow").iter(batch_size=10_000)
    return sum(pc.sum(pc.list_value_length(table.column(column))).as_py() or 0 for table in batches)
