"""Docstrings as text without labels."""

from pathlib import Path

import pytest

from hf_seqmodels.data.docstrings import docstring_documents, embedded_classification


def write_library(folder: Path) -> None:
    """Forty modules; one is a copy of another, wherever it falls."""
    for number in range(40):
        (folder / f"m{number}.py").write_text(
            f'"""Module {number} is here. It helps."""\n\nclass A:\n    """A thing {number}.\n\n'
            f'    It is described.\n\n    >>> A()\n    code {number}\n    """\n\n'
            f'    def f(self):\n        """Return thing {number}."""\n'
        )
        (folder / f"copy{number}.py").write_text((folder / f"m{number}.py").read_text())


def test_documents_are_whole_and_belong_to_one_split(tmp_path: Path) -> None:
    write_library(tmp_path)
    train, validation = (docstring_documents(split, tmp_path) for split in ("train", "validation"))
    assert (f"A thing {0}.", "It is described.") in train + validation
    assert ("Module 0 is here.", "It helps.") in train + validation
    assert "code" not in " ".join(sentence for document in train + validation for sentence in document)
    beginnings = [document[0] for document in train + validation]
    assert len(train) > len(validation) > 0 and len(beginnings) == len(set(beginnings)) == 120


def test_no_validation_example_is_training_text(tmp_path: Path) -> None:
    write_library(tmp_path)
    examples = set(embedded_classification(tmp_path)["validation"]["text"])
    train, validation = ({doc[0] for doc in docstring_documents(split, tmp_path)} for split in ("train", "validation"))
    assert examples and not examples & train
    assert examples <= validation


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split='test' must be one of train, validation"):
        docstring_documents("test", tmp_path)
