"""An embedded classification task with real labels: does a docstring document a class or a function?

The examples are the docstrings of the standard library of the Python that runs this, read from its source (nothing is
imported), so there is nothing to download and the labels are facts.
"""

import ast
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

LABELS = ("class", "function")

# Not the library itself, or not there in every installation.
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip"}
_MIN_WORDS = 3
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
    splits: dict[str, dict[str, list[str]]] = {
        split: {label: [] for label in LABELS} for split in ("train", "validation")
    }
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if _SKIPPED.intersection(name.split("/")):
            continue
        split = "validation" if zlib.crc32(name.encode()) % _VALIDATION_SHARE == 0 else "train"
        for text, label in _documented(path):
            if text not in seen and len(text.split()) >= _MIN_WORDS:
                seen.add(text)
                splits[split][label].append(text)
    return DatasetDict({split: _balanced(texts, root) for split, texts in splits.items()})


def _documented(path: Path) -> Iterator[tuple[str, str]]:
    """First paragraph and label of each documented class and function of a file, nested ones included."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # some files of the library are templates or broken on purpose
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                text = " ".join(docstring.split("\n\n")[0].split())
                yield text, "class" if isinstance(node, ast.ClassDef) else "function"


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
