"""Labelled text from local files: sentences or pairs with a class, or tokens with tags."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet
from datasets import Dataset, Features, List, Value

from .textfiles import read_text

Task = Literal["classification", "tagging"]
FileFormat = Literal["auto", "csv", "tsv", "json", "parquet", "two_column", "conll"]
Row = tuple[int, dict[str, Any]]  # line (or row) number from 1, columns

_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
}


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Args:
        task: "classification": the text is a string and the label one class; "tagging": lists of tokens and of tags.
        text: text or tokens.
        label: class or tags.
        pair: second text of a pair, classification only.
    """

    task: Task = "classification"
    text: str = "text"
    label: str = "label"
    pair: str | None = None

    def features(self) -> Features:
        """The columns that every source is brought to: text (or tokens), label (or tags) by name, source line."""
        if self.task == "tagging":
            strings = List(Value("string"))
            return Features({"text": strings, "label": strings, "line": Value("int64")})
        pair = {} if self.pair is None else {"pair": Value("string")}
        return Features({"text": Value("string"), **pair, "label": Value("string"), "line": Value("int64")})


def read_labelled(
    path: str | PathLike[str], columns: Columns, file_format: FileFormat = "auto", encoding: str = "utf-8"
) -> Dataset:
    """Reads one file.

    Args:
        path: the file.
        columns: the task and the names of its columns. Two-column and CoNLL files have no names and ignore these.
        file_format: "csv" and "tsv" (with a header), "json" (a list of objects or one object per line), "parquet",
            "two_column" (a label, a space, the text: the stsa.binary files) or "conll" (one token per line, columns
            apart by tabs or spaces, token first and tag last, a blank line between sentences). "auto" goes by the
            suffix; without a known one it is "two_column" or, for tagging, "conll".
        encoding: of text files.

    Returns:
        Columns `text`, `label` (and `pair`) as names, not ids, and `line`: where each example is in the file.

    Raises:
        ValueError: the file is unreadable, empty or not in that encoding or format, a column is missing, a text is
            empty, a label is missing, or tokens and tags differ in number. File and line are named.
    """
    if file_format == "auto":
        fallback: FileFormat = "conll" if columns.task == "tagging" else "two_column"
        file_format = _SUFFIXES.get(Path(path).suffix.lower(), fallback)
    if file_format == "parquet":
        rows = parquet_rows(path)
    else:
        rows = _PARSERS[file_format](read_text(path, encoding), str(path))
    if file_format in ("two_column", "conll"):
        expected = "tagging" if file_format == "conll" else "classification"
        if columns.task != expected or columns.pair is not None:
            what = "pairs" if columns.pair is not None else columns.task
            raise ValueError(f"{path}: the format {file_format} is for {expected}, not for {what}.")
        columns = Columns(task=columns.task)
    return select(rows, columns, str(path))


def select(rows: Iterator[Row], columns: Columns, source: str) -> Dataset:
    """Brings rows to the common columns, see `read_labelled`; `source` names them in errors."""
    wanted = {"text": columns.text, "label": columns.label}
    if columns.pair is not None:
        wanted["pair"] = columns.pair
    selected: dict[str, list[Any]] = {name: [] for name in (*wanted, "line")}
    for line, row in rows:
        for ours, theirs in wanted.items():
            if theirs not in row:
                raise ValueError(
                    f"{source}, line {line}: no column {theirs!r}; it has {', '.join(map(str, row))}. "
                    "Name the columns: --text_column, --pair_column, --label_column."
                )
            try:
                value = _tag_list(row[theirs]) if columns.task == "tagging" else _one_value(row[theirs])
            except ValueError as error:
                raise ValueError(f"{source}, line {line}: column {theirs!r} {error}.") from error
            selected[ours].append(value)
        selected["line"].append(line)
        if columns.task == "tagging" and len(selected["text"][-1]) != len(selected["label"][-1]):
            counts = f"{len(selected['text'][-1])} tokens but {len(selected['label'][-1])} tags"
            raise ValueError(f"{source}, line {line}: {counts}.")
    if not selected["line"]:
        raise ValueError(f"{source} holds no examples.")
    return Dataset.from_dict(selected, features=columns.features())


def _one_value(value: Any) -> str:
    if isinstance(value, list | dict):
        raise ValueError("holds a list or an object, and classification needs one value (tagging: --task tagging)")
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError("is empty")
    return text


def _tag_list(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("must hold a list, one entry per token")
    if not value:
        raise ValueError("is an empty list")
    return [_one_value(item) for item in value]


def csv_rows(text: str, source: str, delimiter: str = ",") -> Iterator[Row]:
    """The rows of a table with a header; ValueError where it is no such table, `source` and line named."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = reader.fieldnames or []  # asking for it reads it, so that line_num counts it
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{source}, line {line}: {error}.") from error
        if None in row:
            raise ValueError(f"{source}, line {line}: more fields than the header's {len(header)}.")
        yield line, row


def _tsv_rows(text: str, source: str) -> Iterator[Row]:
    return csv_rows(text, source, delimiter="\t")


def json_rows(text: str, source: str) -> Iterator[Row]:
    """The objects of a JSON list, or one object a line; ValueError where it is neither, `source` and line named."""
    is_list = text.lstrip().startswith("[")
    documents = [text] if is_list else text.split("\n")
    for number, document in enumerate(documents, start=1):
        if not document.strip():
            continue
        try:
            value = json.loads(document)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}, line {number + error.lineno - 1}: not JSON: {error.msg}.") from error
        for index, row in enumerate(value if is_list else [value], start=1):
            line = index if is_list else number
            if not isinstance(row, dict):
                raise ValueError(f"{source}, line {line}: expected an object with the columns, got {row!r:.60}.")
            yield line, row


def _two_column_rows(text: str, source: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        label, *rest = content.split(maxsplit=1)
        if not rest:
            raise ValueError(f"{source}, line {line}: expected a label, a space and the text, got {content!r}.")
        yield line, {"label": label, "text": rest[0]}


def _conll_rows(text: str, source: str) -> Iterator[Row]:
    tokens: list[str] = []
    tags: list[str] = []
    first = 0
    for line, content in enumerate([*text.split("\n"), ""], start=1):
        fields = content.split("\t") if "\t" in content else content.split()
        fields = [field.strip() for field in fields]
        if not any(fields) or fields[0] == "-DOCSTART-":
            if tokens:
                yield first, {"text": tokens, "label": tags}
            tokens, tags = [], []
            continue
        if len(fields) < 2 or not fields[0] or not fields[-1]:
            raise ValueError(f"{source}, line {line}: expected a token and its tag, got {content!r}.")
        first = first if tokens else line
        tokens.append(fields[0])
        tags.append(fields[-1])


def parquet_rows(path: str | PathLike[str]) -> Iterator[Row]:
    """The rows of a parquet file; ValueError where it is none."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{path} can't be read as parquet: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


_PARSERS: dict[FileFormat, Callable[[str, str], Iterator[Row]]] = {
    "csv": csv_rows,
    "tsv": _tsv_rows,
    "json": json_rows,
    "two_column": _two_column_rows,
    "conll": _conll_rows,
}
