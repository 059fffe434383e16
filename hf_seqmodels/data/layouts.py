"""How lines of text make documents of sentences: recognised or prescribed, then applied."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .sentences import split_sentences

FORMATS = ("auto", "sentences", "raw")
SAMPLE_LINES = 2000
_HEADING = re.compile(r"\s*=(?: =)* (?!=)\S.*(?<!=) =(?: =)*\s*")
_TITLE = re.compile(r"\s*= (?!=)\S.*(?<!=) =\s*")
_SENTENCE_END = re.compile(r"""[.!?…。！？]["'”’»)\]]*$""")
_SENTENCE_SHARE = 0.7
_WRAPPED_SHARE = 0.5
_WRAPPED_WIDTH = 120


@dataclass(frozen=True)
class Layout:
    """How to read lines.

    Args:
        format: `sentences`, a sentence on each line; or `raw`, text that must be split into sentences.
        boundary: what begins a document: `blank` line, `two blank` lines, or `title` (wikitext's ` = Title = `).
        wrapped: a sentence may go on in the next line (raw text of a fixed width).
    """

    format: str
    boundary: str = "blank"
    wrapped: bool = False

    def __str__(self) -> str:
        what = "one sentence per line" if self.format == "sentences" else "raw text, split into sentences"
        wrapped = ", lines joined to paragraphs" if self.wrapped else ""
        return (
            f"{what}{wrapped}; documents begin at each {self.boundary}{'' if self.boundary == 'title' else ' line(s)'}"
        )


def _is_wrapped(lines: Sequence[str]) -> bool:
    """Whether sentences run over line ends: lines are short, and most that have a line behind don't end a sentence."""
    inner = [line for line, following in pairwise(lines) if line and following]
    open_lines = sum(_SENTENCE_END.search(line) is None for line in inner)
    return open_lines > _WRAPPED_SHARE * len(inner) and max(map(len, lines)) <= _WRAPPED_WIDTH


def recognise_layout(sample: Sequence[str], text_format: str = "auto") -> Layout:
    """Recognises how the first lines of a text are laid out.

    Args:
        sample: the first lines, some hundreds of them.
        text_format: `sentences` or `raw` where that is known, else `auto`: `sentences` if at least 70 % of the lines
            are one whole sentence each and there are no wikitext titles.

    Raises:
        ValueError: another `text_format`.
    """
    if text_format not in FORMATS:
        raise ValueError(f"format={text_format!r} must be one of {', '.join(FORMATS)}.")
    if text_format == "sentences":
        return Layout("sentences")
    lines = [line.strip() for line in sample]
    full = [line for line in lines if line]
    titles = any(_TITLE.fullmatch(line) for line in full)
    if text_format == "auto" and full and not titles:
        whole = sum(_SENTENCE_END.search(line) is not None and len(split_sentences(line)) == 1 for line in full)
        if whole >= _SENTENCE_SHARE * len(full):
            return Layout("sentences")
    body = "\n".join(lines).strip("\n")
    boundary = "title" if titles else "two blank" if "\n\n\n" in body else "blank"
    return Layout("raw", boundary, _is_wrapped(["" if _HEADING.fullmatch(line) else line for line in lines]))


def _paragraph_sentences(lines: list[str], layout: Layout) -> list[str]:
    if layout.format == "sentences":
        return lines
    paragraphs = [" ".join(lines)] if layout.wrapped else lines
    return [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]


def documents_from_lines(lines: Iterable[str], layout: Layout) -> Iterator[list[str]]:
    """Groups lines into documents; reads lazily, holds one document.

    Headings of wikitext are dropped in that layout. Documents without a sentence are not yielded.

    Args:
        lines: with or without line ends.
        layout: how to read them.

    Yields:
        The sentences of each document.
    """
    document: list[str] = []
    paragraph: list[str] = []
    blanks = 0
    for line in lines:
        text = " ".join(line.split())
        titles = layout.boundary == "title"
        begins = bool(titles and _TITLE.fullmatch(text)) or (
            bool(text) and not titles and blanks >= (1 if layout.boundary == "blank" else 2)
        )
        blanks = 0 if text else blanks + 1
        if titles and _HEADING.fullmatch(text):
            text = ""
        if not text or begins:
            document += _paragraph_sentences(paragraph, layout)
            paragraph = []
        if begins and document:
            yield document
            document = []
        if text:
            paragraph.append(text)
    document += _paragraph_sentences(paragraph, layout)
    if document:
        yield document


def sentences_of_text(text: str) -> list[str]:
    """The sentences of a text that is one document: lines are paragraphs, or are joined if the text is wrapped."""
    lines = text.splitlines()
    if len(lines) < 2:
        return split_sentences(text)
    layout = Layout("raw", "blank", _is_wrapped([line.strip() for line in lines]))
    return [sentence for document in documents_from_lines(lines, layout) for sentence in document]
