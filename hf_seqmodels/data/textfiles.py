"""Reading text files whose encoding may not be what one thinks."""

from os import PathLike
from pathlib import Path

from .errors import CorpusError


def read_text(path: str | PathLike[str], encoding: str = "utf-8") -> str:
    """The whole text of a file, a byte order mark removed.

    Raises:
        CorpusError: the file can't be read, is not in this encoding (names the line and the remedy), or there is no
            such encoding.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} can't be read: {error.strerror}.") from error
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}. If the file is in another "
            "encoding, name it: --encoding latin-1 (or cp1252, euc-kr, …)."
        ) from error
    except LookupError as error:
        raise CorpusError(f"encoding={encoding!r} is not known to Python; try utf-8 or latin-1.") from error
