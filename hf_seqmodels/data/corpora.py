"""Loading text as documents: the embedded corpus, local files, or any dataset of the `datasets` library."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict, Features, IterableDataset, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from .embedded import embedded_text
from .errors import CorpusError
from .layouts import FORMATS, SAMPLE_LINES, Layout, documents_from_lines, recognise_layout, sentences_of_text
from .random import generator
from .readers import check_readable, documents_from_files, fault_in, sample_lines
from .saved import load_saved

logger = logging.getLogger(__name__)

TABLE_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
DOCUMENT_FEATURES = Features({"sentences": List(Value("string"))})
# Part of every cache's name: to be raised when the same text comes to make other documents.
READING_VERSION = 1
_LIBRARY_SAYS_EMPTY = "corresponds to no data"

Documents: TypeAlias = Dataset | IterableDataset


@dataclass(frozen=True)
class TextSource:
    """Where text comes from: `files`, or `dataset_name`, or neither for the embedded corpus.

    Args:
        files: local text files, or tables (.json, .jsonl, .csv, .parquet) with a text column; one kind at a time.
        dataset_name: a name on the Hub, a local dataset folder, or a folder written by `save_to_disk`.
        dataset_config: the dataset's configuration, if it has several.
        split: the dataset's split.
        text_column: the column of a table or dataset that holds the text.
        format: `sentences` (one sentence a line or row, an empty one between documents), `raw` (text that is split
            into sentences; each row of a table is a document), or `auto`, which decides and logs its decision.
        streaming: read while training, and keep nothing but the current shard.
        cache_dir: where prepared documents are kept; None is the `datasets` library's folder.

    Raises:
        ValueError: both `files` and `dataset_name`, or an unknown `format`.
    """

    files: tuple[str, ...] = ()
    dataset_name: str | None = None
    dataset_config: str | None = None
    split: str = "train"
    text_column: str = "text"
    format: str = "auto"
    streaming: bool = False
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.files and self.dataset_name:
            raise ValueError(f"files={self.files} and dataset_name={self.dataset_name!r}: give one of the two.")
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format!r} must be one of {', '.join(FORMATS)}.")


def load_documents(source: TextSource, num_proc: int | None = None) -> Documents:
    """Loads text as documents.

    Args:
        source: where from.
        num_proc: processes that split text into sentences, where that is done row by row.

    Returns:
        A dataset with a column `sentences` (list of strings) and one row a document.

    Raises:
        CorpusError: a file that is missing, unreadable or not UTF-8 (named, with the line), no such column, no text.
    """
    try:
        if source.files:
            documents = _from_files(source, num_proc)
        elif source.dataset_name:
            documents = _from_table(named_dataset(source), source, num_proc)
        else:
            documents = _embedded_documents(source.streaming)
    except CorpusError:
        raise
    except (DatasetGenerationError, ValueError) as error:
        raise _explained(error, source) from error
    if isinstance(documents, Dataset) and len(documents) == 0:
        raise CorpusError(f"The corpus is empty: {_describe(source)} has no text.")
    return documents


def load_table(source: TextSource) -> Documents:
    """The rows of table files or of a dataset as they are.

    Raises:
        CorpusError: a file that is missing or unreadable (named), no such column, or one that holds no text.
    """
    try:
        table = _table_files(source) if source.files else named_dataset(source)
        _text_sample(table, source)
    except CorpusError:
        raise
    except (DatasetGenerationError, ValueError) as error:
        raise _explained(error, source) from error
    return table


def split_documents(documents: Documents, held_out: int | float, seed: int = 0) -> tuple[Documents, Dataset]:
    """Splits off held-out documents, whole ones.

    Args:
        documents: what `load_documents` returns.
        held_out: a share below 1 (rounded, at least 2 documents) or a number of documents. They are drawn at random;
            of a stream, of which only a number can be held out, they are the first ones, read at once.
        seed: names the draw.

    Returns:
        The rest, and the held-out documents.

    Raises:
        ValueError: `held_out` is not positive, is a share while `documents` is a stream, or leaves fewer than two
            documents to train on.
    """
    if held_out <= 0:
        raise ValueError(f"held_out={held_out} must be positive: a share below 1, or a number of documents.")
    if isinstance(documents, IterableDataset):
        if held_out < 1:
            raise ValueError(f"held_out={held_out}: of a stream only a number of documents can be held out, no share.")
        rows = list(documents.take(int(held_out)))
        if not rows:
            raise CorpusError("The corpus is empty: the stream has no documents.")
        return documents.skip(len(rows)), Dataset.from_list(rows, features=DOCUMENT_FEATURES)
    count = max(2, round(held_out * len(documents))) if held_out < 1 else int(held_out)
    if count > len(documents) - 2:
        raise ValueError(
            f"held_out={held_out} takes {count} of {len(documents)} documents: at least 2 must remain to train on."
        )
    order = generator(seed, "held-out").permutation(len(documents))
    return documents.select(sorted(order[count:].tolist())), documents.select(sorted(order[:count].tolist()))


def _describe(source: TextSource) -> str:
    return ", ".join(source.files) or source.dataset_name or "the embedded text"


def _explained(error: Exception, source: TextSource) -> CorpusError:
    """The libraries' general errors -> one that names file and line where they can be found."""
    if _LIBRARY_SAYS_EMPTY in str(error):
        return CorpusError(f"The corpus is empty: {_describe(source)} has no text.")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CorpusError):
            return cause
        last, cause = cause, cause.__cause__
    for path in source.files:
        fault = None if path.endswith(".parquet") else fault_in(path)
        if fault:
            return CorpusError(fault)
    return CorpusError(f"{_describe(source)} cannot be read: {last}")


def _embedded_documents(streaming: bool) -> Documents:
    rows = [{"sentences": list(sentences)} for sentences in embedded_text()]
    documents = Dataset.from_list(rows, features=DOCUMENT_FEATURES)
    return documents.to_iterable_dataset() if streaming else documents


def _table_files(source: TextSource) -> Documents:
    for path in source.files:
        check_readable(path)
    return load_dataset(
        TABLE_BUILDERS[Path(source.files[0]).suffix],
        data_files=list(source.files),
        split="train",
        streaming=source.streaming,
        cache_dir=source.cache_dir,
    )


def _from_files(source: TextSource, num_proc: int | None) -> Documents:
    for path in source.files:
        check_readable(path)
    kinds = {TABLE_BUILDERS.get(Path(path).suffix, "text") for path in source.files}
    if len(kinds) > 1:
        raise CorpusError(f"{_describe(source)}: files of several kinds ({', '.join(sorted(kinds))}); give one kind.")
    if kinds != {"text"}:
        return _from_table(_table_files(source), source, num_proc)
    layouts = tuple(recognise_layout(sample_lines(path), source.format) for path in source.files)
    for path, layout in zip(source.files, layouts):
        logger.info("%s: read as %s.", path, layout)
    arguments = {"paths": source.files, "layouts": layouts}
    if source.streaming:
        return IterableDataset.from_generator(documents_from_files, features=DOCUMENT_FEATURES, gen_kwargs=arguments)
    states = [Path(path).stat() for path in source.files]
    stamps = [
        (str(Path(path).resolve()), state.st_size, state.st_mtime_ns) for path, state in zip(source.files, states)
    ]
    return Dataset.from_generator(
        documents_from_files,
        features=DOCUMENT_FEATURES,
        gen_kwargs=arguments,
        cache_dir=source.cache_dir,
        fingerprint=Hasher.hash((READING_VERSION, stamps, [str(layout) for layout in layouts])),
    )


def named_dataset(source: TextSource) -> Documents:
    """The rows of `source.dataset_name` and its split; CorpusError where a saved dataset has no such split."""
    name = str(source.dataset_name)
    saved = load_saved(name)
    if isinstance(saved, DatasetDict):
        if source.split not in saved:
            raise CorpusError(f"{name} has no split {source.split!r}; it has {', '.join(saved)}.")
        saved = saved[source.split]
    if saved is not None:
        return saved.to_iterable_dataset() if source.streaming else saved
    return load_dataset(
        name, source.dataset_config, split=source.split, streaming=source.streaming, cache_dir=source.cache_dir
    )


def _text_sample(table: Documents, source: TextSource) -> tuple[list[str], list[str]]:
    """The texts of the first rows, and all columns' names, once it is clear that the text column holds text."""
    sample: list[dict[str, Any]] = list(islice(table, SAMPLE_LINES))
    columns = table.column_names or list(sample[0] if sample else [])
    if columns and source.text_column not in columns:
        raise CorpusError(
            f"{_describe(source)} has no column {source.text_column!r}; it has {', '.join(columns)}. Name one with "
            "text_column."
        )
    texts = [row[source.text_column] or "" for row in sample]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise CorpusError(
            f"{_describe(source)}: column {source.text_column!r} holds {type(wrong).__name__}, not text."
        )
    return texts, columns


def _from_table(table: Documents, source: TextSource, num_proc: int | None) -> Documents:
    texts, columns = _text_sample(table, source)
    blank_rows = any(not text.strip() for text in texts)
    if source.format == "sentences" or (source.format == "auto" and blank_rows):
        return _from_rows_as_lines(table, source, recognise_layout(texts, source.format))
    logger.info("%s: each row is read as a document of raw text, split into sentences.", _describe(source))
    settings: dict[str, Any] = {
        "batched": True,
        "remove_columns": columns,
        "features": DOCUMENT_FEATURES,
        "fn_kwargs": {"text_column": source.text_column},
    }
    if isinstance(table, Dataset):
        settings["num_proc"] = num_proc
        settings["new_fingerprint"] = Hasher.hash((READING_VERSION, "rows", table._fingerprint, source.text_column))
        settings["desc"] = "Splitting into sentences"
    return table.map(split_rows, **settings)


def split_rows(batch: dict[str, list[Any]], text_column: str) -> dict[str, list[list[str]]]:
    """Texts, each a document -> their sentences; blank ones are dropped."""
    documents = (sentences_of_text(text or "") for text in batch[text_column])
    return {"sentences": [sentences for sentences in documents if sentences]}


def documents_from_rows(table: Documents, text_column: str, layout: Layout) -> Iterator[dict[str, list[str]]]:
    """Rows that are lines of text -> rows `{"sentences": [...]}`, one a document."""
    lines = (row[text_column] or "" for batch in table.iter(batch_size=1000) for row in _rows(batch))
    for sentences in documents_from_lines(lines, layout):
        yield {"sentences": sentences}


def _rows(batch: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(batch, values)) for values in zip(*batch.values()))


def _from_rows_as_lines(table: Documents, source: TextSource, layout: Layout) -> Documents:
    logger.info("%s: each row is read as a line of %s.", _describe(source), layout)
    arguments = {"table": table, "text_column": source.text_column, "layout": layout}
    if isinstance(table, IterableDataset):
        return IterableDataset.from_generator(documents_from_rows, features=DOCUMENT_FEATURES, gen_kwargs=arguments)
    return Dataset.from_generator(
        documents_from_rows,
        features=DOCUMENT_FEATURES,
        gen_kwargs=arguments,
        cache_dir=source.cache_dir,
        fingerprint=Hasher.hash((READING_VERSION, table._fingerprint, source.text_column, str(layout))),
    )
