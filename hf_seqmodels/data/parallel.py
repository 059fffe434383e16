"""Loading parallel text: sentences and their translations, from files or any dataset of the `datasets` library."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError

from .corpora import TextSource, named_dataset
from .errors import CorpusError
from .labelled import Row, csv_rows, json_rows, parquet_rows
from .readers import check_readable, read_lines

logger = logging.getLogger(__name__)

PAIR_FEATURES = Features({"source": Value("string"), "target": Value("string")})
TRANSLATION_COLUMN = "translation"

Pair = tuple[int, str, str]  # line (or row) number from 1, source, target


@dataclass(frozen=True)
class ParallelSource:
    """Where the pairs of one split come from: `files` or `dataset_name`.

    Args:
        files: two text files, whose k-th lines belong together, source first; or one table: .json or .jsonl, .csv,
            .parquet, anything else is taken as tab-separated (no quotes). All but parquet may be packed (.gz).
        dataset_name: a name on the Hub, a local dataset folder, or a folder written by `save_to_disk`.
        dataset_config: the dataset's configuration, if it has several.
        split: the dataset's split.
        source_column: the column of a table or dataset with the source; a language where the table has a column
            `translation` of texts by language. A number counts columns from 1. Tab-separated files have a header if
            columns are named and none if they are numbered. None is column 1 of a tab-separated file, else "source".
        target_column: as `source_column`; None is column 2 of a tab-separated file, else "target".
        skip_empty: leaves out pairs of which a side is empty, and logs how many; otherwise these are an error.

    Raises:
        ValueError: not exactly one of `files` and `dataset_name`, more than two files, columns of text files, or of a
            tab-separated file one column named and one numbered.
    """

    files: tuple[str, ...] = ()
    dataset_name: str | None = None
    dataset_config: str | None = None
    split: str = "train"
    source_column: str | int | None = None
    target_column: str | int | None = None
    skip_empty: bool = False

    def __post_init__(self) -> None:
        if bool(self.files) == bool(self.dataset_name):
            raise ValueError(
                f"files={self.files} and dataset_name={self.dataset_name!r}: give one of the two, and no more."
            )
        if len(self.files) > 2:
            raise ValueError(f"files={self.files}: give two text files (source, target) or one table.")
        if len(self.files) == 2 and (self.source_column, self.target_column) != (None, None):
            raise ValueError(
                f"source_column={self.source_column!r}, target_column={self.target_column!r}: files={self.files} are "
                "two texts, which have no columns."
            )
        if self.is_tab_separated and len({type(column) for column in self.columns}) > 1:
            raise ValueError(
                f"source_column={self.source_column!r}, target_column={self.target_column!r}: name both (the file has "
                "a header) or number both (it has none)."
            )

    @property
    def suffix(self) -> str:
        """What the first file's name says that it is, ".gz" aside."""
        return Path(self.files[0].removesuffix(".gz")).suffix.lower() if self.files else ""

    @property
    def is_tab_separated(self) -> bool:
        """Whether this is a single file that is read as tab-separated."""
        return len(self.files) == 1 and self.suffix not in (".json", ".jsonl", ".csv", ".parquet")

    @property
    def columns(self) -> tuple[str | int, str | int]:
        """Source and target column, defaults filled in, numbers as `int`."""
        source, target = (1, 2) if self.is_tab_separated else ("source", "target")
        return _column(self.source_column, source), _column(self.target_column, target)

    def __str__(self) -> str:
        return ", ".join(self.files) or f"{self.dataset_name} ({self.split})"


def load_parallel(source: ParallelSource) -> Dataset:
    """Loads pairs of sentences.

    Returns:
        Columns `source` and `target`, stripped of white space at both ends, in the order of the file.

    Raises:
        CorpusError: a file that is missing, unreadable or not UTF-8 (named, with the line), texts of different line
            counts (both stated), an empty side (its line; see `skip_empty`), no such column, no pairs.
    """
    for path in source.files:
        check_readable(path)
    columns: dict[str, list[str]] = {"source": [], "target": []}
    empty: list[str] = []
    try:
        for line, *pair in _pairs(source):
            texts = [text.strip() for text in pair]
            if all(texts):
                columns["source"].append(texts[0])
                columns["target"].append(texts[1])
            else:
                empty.append(_place(source, line, side=texts.index("")))
    except CorpusError:
        raise
    except (DatasetGenerationError, ValueError) as error:
        raise CorpusError(f"{source} cannot be read: {error}") from error
    if empty and not source.skip_empty:
        raise CorpusError(f"{empty[0]}: empty ({len(empty)} in all). skip_empty=True leaves such pairs out.")
    if empty:
        logger.info("%s: left out %d pairs with an empty side, the first at %s.", source, len(empty), empty[0])
    if not columns["source"]:
        raise CorpusError(f"{source} has no pairs.")
    return Dataset.from_dict(columns, features=PAIR_FEATURES)


def _column(given: str | int | None, default: str | int) -> str | int:
    if given is None:
        return default
    return int(given) if str(given).isdecimal() else given


def _place(source: ParallelSource, line: int, side: int) -> str:
    if len(source.files) == 2:
        return f"{source.files[side]}, line {line}"
    return f"{source}, line {line}, {('source', 'target')[side]}"


def _pairs(source: ParallelSource) -> Iterator[Pair]:
    if len(source.files) == 2:
        return _from_two_texts(*source.files)
    if source.is_tab_separated:
        return _from_tab_separated(source)
    return _from_rows(_table_rows(source), source)


def _from_two_texts(source_path: str, target_path: str) -> Iterator[Pair]:
    counts = [0, 0]
    for line, pair in enumerate(zip_longest(read_lines(source_path), read_lines(target_path)), start=1):
        for side in (0, 1):
            counts[side] += pair[side] is not None
        if None not in pair:
            yield line, *pair
    if counts[0] != counts[1]:
        raise CorpusError(
            f"{source_path} has {counts[0]} lines and {target_path} has {counts[1]}: their k-th lines must belong "
            "together, so they need as many."
        )


def _from_tab_separated(source: ParallelSource) -> Iterator[Pair]:
    path, places = source.files[0], source.columns
    header: list[str] | None = None
    for line, text in enumerate(read_lines(path), start=1):
        fields = text.split("\t")
        if header is None and isinstance(places[0], str):
            header = fields
            places = tuple(_number(name, header, str(source)) for name in places)  # type: ignore[assignment]
            continue
        if not text.strip():
            yield line, "", ""
            continue
        missing = [place for place in places if not 1 <= int(place) <= len(fields)]
        if missing:
            raise CorpusError(
                f"{path}, line {line}: no column {missing[0]}; apart by tabs it has {len(fields)}: {text!r:.60}."
            )
        yield line, fields[int(places[0]) - 1], fields[int(places[1]) - 1]


def _number(name: str | int, header: list[str], source: str) -> int:
    if name not in header:
        raise CorpusError(
            f"{source} has no column {name!r}; its first line has {', '.join(header)}. Name them with source_column "
            "and target_column, or give numbers (from 1) if the file has no header."
        )
    return header.index(str(name)) + 1


def _table_rows(source: ParallelSource) -> Iterator[Row]:
    if not source.files:
        named = TextSource(dataset_name=source.dataset_name, dataset_config=source.dataset_config, split=source.split)
        return ((number, dict(row)) for number, row in enumerate(named_dataset(named), start=1))
    path = source.files[0]
    if source.suffix == ".parquet":
        return parquet_rows(path)
    text = "\n".join(read_lines(path))
    return csv_rows(text, path) if source.suffix == ".csv" else json_rows(text, path)


def _from_rows(rows: Iterator[Row], source: ParallelSource) -> Iterator[Pair]:
    for line, row in rows:
        texts = [_text_of(row, column, f"{source}, line {line}") for column in source.columns]
        yield line, texts[0], texts[1]


def _text_of(row: dict[str, Any], column: str | int, place: str) -> str:
    names = list(row)
    by_language = row.get(TRANSLATION_COLUMN)
    if isinstance(column, int) and 1 <= column <= len(names):
        text = row[names[column - 1]]
    elif column in row:
        text = row[str(column)]
    elif isinstance(by_language, dict) and column in by_language:
        text = by_language[column]
    else:
        languages = f"; {TRANSLATION_COLUMN} has {', '.join(by_language)}" if isinstance(by_language, dict) else ""
        raise CorpusError(
            f"{place}: no column {column!r}; it has {', '.join(names)}{languages}. Name them with source_column and "
            "target_column."
        )
    if text is not None and not isinstance(text, str):
        raise CorpusError(f"{place}: column {column!r} holds {type(text).__name__}, not text.")
    return text or ""
