"""Reading lines of local text files, with errors that say where."""

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .errors import CorpusError
from .layouts import SAMPLE_LINES, Layout, documents_from_lines

_BYTE_ORDER_MARK = "\ufeff"


def check_readable(path: str) -> None:
    """Raises:
    CorpusError: `path` is missing, is no file, or may not be read.
    """
    if not Path(path).exists():
        raise CorpusError(f"{path}: no such file.")
    if not Path(path).is_file():
        raise CorpusError(f"{path}: is not a file; name the text files in it.")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}).") from error


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 text file, without their ends; a name in .gz is one that gzip packed.

    Raises:
        CorpusError: a line is not UTF-8, or the file cannot be read or unpacked.
    """
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = _decode(line, path, number)
                yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: cannot be unpacked by gzip ({error}).") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror}).") from error


def _decode(line: bytes, path: str, number: int) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}). Convert "
            f"the file first, for instance with `iconv -f LATIN1 -t UTF-8`."
        ) from error


def sample_lines(path: str) -> list[str]:
    """The first lines of a text file, enough to recognise its layout."""
    return list(islice(read_lines(path), SAMPLE_LINES))


def documents_from_files(paths: tuple[str, ...], layouts: tuple[Layout, ...]) -> Iterator[dict[str, list[str]]]:
    """Rows `{"sentences": [...]}`, one a document, of several text files; a file's end ends its last document.

    Raises:
        CorpusError: see `read_lines`.
    """
    for path, layout in zip(paths, layouts):
        for sentences in documents_from_lines(read_lines(path), layout):
            yield {"sentences": sentences}


def fault_in(path: str) -> str | None:
    """Where a text table (JSON, JSON lines, CSV) goes wrong: "line 3: not UTF-8 …"; None if its lines look well."""
    try:
        for number, line in enumerate(read_lines(path), start=1):
            if path.endswith(".jsonl") and line.strip():
                try:
                    json.loads(line)
                except json.JSONDecodeError as error:
                    return f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})."
    except CorpusError as error:
        return str(error)
    return None
