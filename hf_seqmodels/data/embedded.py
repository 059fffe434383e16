"""The text that comes with every Python: CPython's language reference as documents of sentences."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pydoc_data.topics import topics

from .sentences import split_sentences

_HEADING = re.compile(r'^(?P<title>[^\s].*)\n(?P<line>\*{3,}|={3,}|-{3,}|~{3,}|\^{3,}|"{3,})\n', re.MULTILINE)
_ENTRY = re.compile(r"(?:class |async |exception )?[\w.]+\(.*")
_CODE = re.compile(
    r"::=|>>>|  # |^\s*\.\.\.|^\s*[+|]|\w\(.*\):\s*$|^\s*(?:def|class|import|from|return|print)\b", re.MULTILINE
)
_PROSE_END = (".", ":", "!", "?", ".)")
_MIN_WORDS = 4
_MIN_SENTENCES = 2
_LONG_SECTION = 12


def _sections(topic: str) -> Iterator[str]:
    """A topic cut at its headings, the headings left out."""
    headings = list(_HEADING.finditer(topic))
    ends = [heading.start() for heading in headings[1:]] + [len(topic)]
    if not headings or topic[: headings[0].start()].strip():
        yield topic[: headings[0].start()] if headings else topic
    for heading, end in zip(headings, ends):
        yield topic[heading.end() : end]


def _block_text(block: str) -> str:
    """The prose of a block of lines: joined, its list mark and reST emphasis gone; "" for code, grammar and tables."""
    if _CODE.search(block):
        return ""
    text = " ".join(block.split())
    text = re.sub(r"^(?:\* |\d+\. |\[\d+\] |\(\d+\) |Note: ?|See also: ?)", "", text)
    text = re.sub(r"\*{1,2}(\w(?:[^*]*\w)?)\*{1,2}", r"\1", text)
    indented_code = block.startswith("   ") and (not text.endswith(_PROSE_END) or re.search(r"\s[=!]?=\s", text))
    return "" if indented_code else text


def _section_documents(section: str) -> Iterator[list[str]]:
    """A section's sentences; a long one, a list of functions say, cut at its entries."""
    document: list[str] = []
    for block in re.split(r"\n\s*\n", section):
        if not block.strip():
            continue
        if _ENTRY.fullmatch(block.strip()):
            if len(document) >= _LONG_SECTION:
                yield document
                document = []
            continue
        sentences = split_sentences(_block_text(block.strip("\n")))
        document += [sentence for sentence in sentences if len(sentence.split()) >= _MIN_WORDS]
    yield document


@lru_cache(maxsize=1)
def embedded_text() -> tuple[tuple[str, ...], ...]:
    """CPython's language reference (`pydoc_data.topics`, PSF licence) as documents: tuples of sentences.

    Its topics overlap (`if` is a section of `compound`), which would carry held-out text into training. So each topic
    is cut at its headings, and no sentence is kept twice. Code, grammar and tables are left out. The text is that of
    the running Python: other versions give slightly other documents.
    """
    documents: dict[tuple[str, ...], None] = {}
    seen: set[str] = set()
    for name in sorted(topics):
        for section in _sections(topics[name]):
            for sentences in _section_documents(section):
                new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in seen)
                seen.update(new)
                if len(new) >= _MIN_SENTENCES:
                    documents[new] = None
    return tuple(documents)
