"""Splitting running text into sentences, by rules that need no download."""

import re

# Where a sentence may end: marks with closing quotes and white space, or East Asian marks with or without white space.
_MARK = re.compile(r"""(?P<mark>[.!?…]+)(?P<closing>["'”’»)\]]*)\s+|[。！？]+[」』”’）]*\s*""")
_OPENING = "\"'“‘«([¿¡"
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms dr prof st sr jr rev gen col sgt capt lt gov sen rep hon messrs mt ft etc vs al cf approx dept est "
        "inc ltd co corp bros jan feb mar apr jun jul aug sep sept oct nov dec",
    )
)
_BEFORE_NUMBERS = frozenset(re.findall(r"\w+", "no nos fig figs p pp vol vols sec secs ch eq art ca"))


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Whether the mark between `before` and `after` ends a sentence."""
    following = after.lstrip(_OPENING + " ")
    if not following or following[0].islower():
        return not following
    if mark != "." or before[-1:].isspace() or not before:
        return True  # a full stop that stands alone, as in tokenised text, belongs to no abbreviation
    word = before.rsplit(None, 1)[-1].lstrip(_OPENING)
    if word.lower() in _BEFORE_NUMBERS and following[0].isdigit():
        return False
    initial = len(word) == 1 and word.isupper()
    return not (initial or word.lower() in _ABBREVIATIONS or re.fullmatch(r"(?:\w\.)+\w", word))


def split_sentences(text: str) -> list[str]:
    """Splits a paragraph into sentences.

    A sentence ends after `. ! ? …` (and closing quotes or brackets) with white space and anything but a small letter
    behind; not after usual English abbreviations, initials, or `No.` and the like before a number; and after `。！？`.
    In tokenised text (`… Ocean . It is …`) a full stop that stands alone always counts.

    Args:
        text: one paragraph; runs of white space become one space.

    Returns:
        The sentences in order; joined by spaces they are the text. Empty for blank text.
    """
    text = " ".join(text.split())
    sentences = []
    start = 0
    for match in _MARK.finditer(text):
        mark = match["mark"]
        if mark is None or _ends_sentence(text[start : match.start()], mark, text[match.end() : match.end() + 8]):
            sentences.append(text[start : match.end()].rstrip())
            start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences
