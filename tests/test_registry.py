"""Importing the package plugs it in, once and for all."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig

import hf_seqmodels
from hf_seqmodels.registry import ARCHITECTURES, register

ROWS = [
    (architecture.config, auto_class, model)
    for architecture in ARCHITECTURES
    for auto_class, model in architecture.models.items()
]


@pytest.mark.parametrize(("config", "auto_class", "model"), ROWS, ids=lambda value: getattr(value, "__name__", value))
def test_every_class_is_reachable(config: type, auto_class: str, model: type) -> None:
    auto = getattr(transformers, auto_class)
    assert auto._model_mapping[config] is model
    assert getattr(hf_seqmodels, model.__name__) is model
    assert type(AutoConfig.for_model(config.model_type)) is config


def test_importing_and_registering_again_is_harmless() -> None:
    register()
    importlib.reload(hf_seqmodels)
    code = "import hf_seqmodels, importlib; importlib.reload(hf_seqmodels); hf_seqmodels.register()"
    result = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_travelling_code_keeps_annotations_real() -> None:
    """`from __future__ import annotations` would switch the strict config's checks off without a word."""
    for path in (Path(hf_seqmodels.__file__).parent / "models").glob("*.py"):
        assert "from __future__" not in path.read_text(encoding="utf-8"), path
