"""The four steps of the README's section on contributing, taken from it word for word, add an architecture that works.

They are carried out on a copy of the package and its tests; the contracts then run there on the new classes.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## Contributing: ")[1].split("\n## ")[0]
NEW_FILES = ("hf_seqmodels/models/configuration_gated_conv.py", "hf_seqmodels/models/modeling_gated_conv.py")
CLASSES = ("GatedConvModel", "GatedConvForSequenceClassification")
# Runs beside the contracts: what they test is the copy, whose README table would have the new classes.
OF_THE_COPY = """
from pathlib import Path

import hf_seqmodels
from hf_seqmodels.tasks.readme_tables import class_table


def test_the_copy():
    assert Path(hf_seqmodels.__file__).is_relative_to(Path(__file__).parents[1])
    paper = "([Dauphin et al. 2017](https://arxiv.org/abs/1612.08083))"
    assert f"| **GatedConv** {paper} | `GatedConvModel` | `AutoModel` | feature-extraction |" in class_table()
    row = "| `GatedConvForSequenceClassification` | `AutoModelForSequenceClassification` | text-classification |"
    assert row in class_table()
"""


def code_blocks(language: str) -> list[str]:
    """The section's blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def apply_diff(diff: str, folder: Path) -> None:
    """Makes the changes of a unified diff without line numbers: what a hunk looks for stands in its file just once."""
    for part in diff.split("--- ")[1:]:
        names, *hunks = re.split(r"^@@\n", part, flags=re.MULTILINE)
        name = names.split("\n")[0]
        assert f"+++ {name}\n" in names and hunks
        text = (folder / name).read_text(encoding="utf-8")
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            assert {line[0] for line in lines} == {" ", "+"}
            old, new = "".join(line[1:] for line in lines if line[0] == " "), "".join(line[1:] for line in lines)
            assert text.count(old) == 1, f"README: this stands {text.count(old)} times in {name}, not once:\n{old}"
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of package and contracts, with the new architecture."""
    folder = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hf_seqmodels", folder / "hf_seqmodels", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "contracts", folder / "tests" / "contracts", ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "tests/conftest.py", "tests/test_registry.py"):
        shutil.copy(ROOT / name, folder / name)
    for name, code in zip(NEW_FILES, code_blocks("python"), strict=True):
        assert f"`{name}`" in SECTION and not (folder / name).exists()
        (folder / name).write_text(code, encoding="utf-8")
    for diff in code_blocks("diff"):
        apply_diff(diff, folder)
    (folder / "tests" / "test_copy.py").write_text(OF_THE_COPY, encoding="utf-8")
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python in a copy of the tree, with that copy as the package."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", *arguments)


def test_the_classes_keep_every_promise(tree: Path) -> None:
    (command,) = re.findall(r"^python -m pytest (.*) -k \"(.*)\"$", SECTION, re.MULTILINE)
    done = pytest_in(
        tree, *command[0].split(), "tests/test_copy.py", "-k", f"{command[1]} or exported or test_the_copy"
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED ")]
    for contract in ("round_trip", "padding", "accumulation", "training", "travels", "refusals", "outputs"):
        for name in CLASSES[contract == "accumulation" :]:  # the bare model has no loss
            wanted = re.compile(rf"test_{contract}\.py::.*\b{name}\b")
            assert any(wanted.search(line) for line in passed), (contract, name)
    assert any("test_every_row_is_reachable[gated_conv-AutoModel]" in line for line in passed)
    for name in ("test_everything_public_is_exported", "test_the_copy"):
        assert any(line.endswith(name) for line in passed), name


def test_ruff_accepts_the_changed_files(tree: Path) -> None:
    names = [*NEW_FILES, *re.findall(r"^\+\+\+ (.*)$", SECTION, re.MULTILINE)]
    for command in (("check", "--no-cache"), ("format", "--no-cache", "--check")):
        done = python(tree, "-m", "ruff", *command, *names)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_mean_over_padding_breaks_the_promise(tree: Path, tmp_path: Path) -> None:
    """The control: with one mistake in the classifier its contract fails, and that of the bare model holds."""
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    file = tmp_path / NEW_FILES[1]
    right, wrong = "/ (attention_mask != 0).sum(1, keepdim=True)", "/ states.shape[1]"
    text = file.read_text(encoding="utf-8")
    assert text.count(right) == 1
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    done = pytest_in(tmp_path, "tests/contracts/test_padding.py", "-k", "outputs_of_each_row_alone and GatedConv")
    assert done.returncode == 1, done.stdout[-5000:] + done.stderr
    failed = re.findall(r"^FAILED .*\[(\w+)-.*-(\w+)\]", done.stdout, re.MULTILINE)
    assert set(failed) == {(CLASSES[1], "left"), (CLASSES[1], "right")}
    assert re.search(rf"^PASSED .*\[{CLASSES[0]}-plain-left\]", done.stdout, re.MULTILINE)
