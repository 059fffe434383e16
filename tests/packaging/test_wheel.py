"""The wheel holds the whole package and nothing else, and works without the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders behind, and what they hold would end up in the next wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ("hf_seqmodels", "tests", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True)
    (built,) = target.glob("*.whl")
    return built


def test_it_holds_every_module_and_no_tests(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    compare = ROOT / "hf_seqmodels" / "tasks" / "compare"
    files = [*(ROOT / "hf_seqmodels").rglob("*.py"), *compare.glob("page.*.j2"), *compare.glob("*.css")]
    files += compare.glob("texts/*/*.yaml")
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}


def test_its_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = archive.read(name).decode()
    assert "\nName: hf_seqmodels\n" in metadata.replace("hf-seqmodels", "hf_seqmodels")
    assert "Requires-Python: >=3.11" in metadata and "Apache-2.0" in metadata
    for extra in ("test", "plot", "hub", "tensorboard"):
        assert f"Provides-Extra: {extra}" in metadata
    assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_it_imports_outside_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import hf_seqmodels as package, hf_seqmodels.tasks.arguments; print(package.__file__, package.__version__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    path, version = done.stdout.split()
    assert path.startswith(str(tmp_path)) and f"-{version}-" in wheel.name
