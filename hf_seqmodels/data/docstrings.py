"""An embedded classification task with real labels: does a docstring document a class or a function?

The examples are the docstrings of the standard library of the Python that runs this, read from its source (nothing is
imported), so there is nothing to download and the labels are facts. All docstrings, whole, are text without labels.
"""

import ast
import re
import sysconfig
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from .sentences import split_sentences

SPLITS = ("train", "validation")
LABELS = ("class", "function")

# Not the library itself, or not there in every installation.
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip"}
_MIN_WORDS = 3
_KINDS: dict[type[ast.AST], str] = {ast.Module: "module", ast.ClassDef: "class"}  # and functions
_VALIDATION_SHARE = 5  # one file in five


def embedded_classification(stdlib: Path | None = None) -> DatasetDict:
    """Docstrings (their first paragraph) of the standard library, labelled `class` or `function` (methods included).

    Both labels are equally frequent in either split, so always guessing one is right half the time. The docstrings of
    a file all go to the same split, and no text occurs twice. The same Python version gives the same data.

    Args:
        stdlib: a folder with Python sources; None is the running Python's own library.

    Returns:
        `train` (about 1,700 examples) and `validation` (about 350), with columns `text` and `label`.

    Raises:
        ValueError: the folder holds too few documented classes or functions (an installation without sources).
    """
    root = stdlib or Path(sysconfig.get_paths()["stdlib"])
    splits: dict[str, dict[str, list[str]]] = {split: {label: [] for label in LABELS} for split in SPLITS}
    seen: set[str] = set()
    for split, label, docstring in _documented(root):
        text = _first_paragraph(docstring)
        if label in LABELS and text not in seen and len(text.split()) >= _MIN_WORDS:
            seen.add(text)
            splits[split][label].append(text)
    return DatasetDict({split: _balanced(texts, root) for split, texts in splits.items()})


def docstring_documents(split: str, stdlib: Path | None = None) -> tuple[tuple[str, ...], ...]:
    """All docstrings of a split's files, those of modules included, whole and without labels: tuples of sentences.

    Examples of code are left out. No document begins with the same paragraph as another, and none of `train` as one of
    `validation`: what is trained on them has seen no text of the validation's examples.

    Args:
        split: `train` or `validation`, divided by files as in `embedded_classification`.
        stdlib: as there.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}.")
    docstrings = _documented(stdlib or Path(sysconfig.get_paths()["stdlib"]))
    seen = {_first_paragraph(text) for of, _, text in docstrings if of == "validation" and split == "train"}
    documents = []
    for of, _, docstring in docstrings:
        if of == split and (beginning := _first_paragraph(docstring)) not in seen:
            seen.add(beginning)
            documents.append(tuple(_sentences(docstring)))
    return tuple(document for document in documents if document)


def _first_paragraph(docstring: str) -> str:
    return " ".join(docstring.split("\n\n")[0].split())


def _sentences(docstring: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", docstring):
        if ">>>" not in paragraph:
            yield from split_sentences(paragraph)


@lru_cache(maxsize=1)
def _documented(root: Path) -> tuple[tuple[str, str, str], ...]:
    """Split, kind (`module`, `class` or `function`) and docstring of all that is documented, nested things included.

    Kept, because parsing the library takes seconds.
    """
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if _SKIPPED.intersection(name.split("/")):
            continue
        split = "validation" if zlib.crc32(name.encode()) % _VALIDATION_SHARE == 0 else "train"
        found += [(split, kind, docstring) for kind, docstring in _of_file(path)]
    return tuple(found)


def _of_file(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # some files of the library are templates or broken on purpose
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield _KINDS.get(type(node), "function"), docstring


def _balanced(texts: dict[str, list[str]], root: Path) -> Dataset:
    """As many texts of each label as the rarer one has, in an order that depends on the texts alone."""
    size = min(len(of_label) for of_label in texts.values())
    if size == 0:
        raise ValueError(f"{root} holds too few documented classes and functions; are Python's sources installed?")

    def order(text: str) -> int:
        return zlib.crc32(text.encode("utf-8", "surrogatepass"))

    rows = [(text, label) for label, of_label in texts.items() for text in sorted(of_label, key=order)[:size]]
    rows.sort(key=lambda row: order(row[0]))
    return Dataset.from_dict(
        {"text": [text for text, _ in rows], "label": [LABELS.index(label) for _, label in rows]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=list(LABELS))}),
    )
