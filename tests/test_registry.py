"""Importing the package plugs every class into transformers, once or many times."""

import importlib
import subprocess
import sys

import pytest
import transformers
from transformers import AutoConfig, PreTrainedModel

import hf_seqmodels
from hf_seqmodels.registry import ARCHITECTURES, Architecture, register

ROWS = [(architecture, name) for architecture in ARCHITECTURES for name in architecture.models]


@pytest.mark.parametrize(("architecture", "name"), ROWS, ids=[f"{a.config.model_type}-{name}" for a, name in ROWS])
def test_every_row_is_reachable(architecture: Architecture, name: str) -> None:
    auto, model = getattr(transformers, name), architecture.models[name]
    assert auto._model_mapping[architecture.config] is model
    assert model.config_class is architecture.config
    assert getattr(hf_seqmodels, model.__name__) is model


def test_names_do_not_collide_with_those_of_transformers() -> None:
    for architecture in ARCHITECTURES:
        assert type(AutoConfig.for_model(architecture.config.model_type)) is architecture.config
        names = [architecture.config.__name__, *(model.__name__ for model in architecture.models.values())]
        assert not [name for name in names if hasattr(transformers, name)]


def test_everything_public_is_exported() -> None:
    models = {model.__name__ for architecture in ARCHITECTURES for model in architecture.models.values()}
    configs = {architecture.config.__name__ for architecture in ARCHITECTURES}
    assert models | configs <= set(hf_seqmodels.__all__)
    assert all(hasattr(hf_seqmodels, name) for name in hf_seqmodels.__all__)
    assert all(issubclass(model, PreTrainedModel) for a in ARCHITECTURES for model in a.models.values())


def test_registering_again_is_harmless() -> None:
    before = {name: getattr(transformers, name)._model_mapping[a.config] for a, name in ROWS}
    register()
    assert before == {name: getattr(transformers, name)._model_mapping[a.config] for a, name in ROWS}


@pytest.mark.parametrize("first", ["transformers", "hf_seqmodels"])
def test_in_a_process_of_its_own(first: str) -> None:
    """Either import order; and a second import of all modules anew, as notebooks with autoreload do."""
    program = f"""
import {first}, sys, warnings
warnings.simplefilter("error")
import hf_seqmodels, transformers
for name in [name for name in sys.modules if name.startswith("hf_seqmodels")]:
    del sys.modules[name]
import hf_seqmodels
config = hf_seqmodels.SeqBertConfig(
    vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
)
model = transformers.AutoModelForPreTraining.from_config(config)
assert type(model) is hf_seqmodels.SeqBertForPreTraining, type(model)
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "fine\n", "")


def test_reload_of_the_package() -> None:
    assert importlib.reload(hf_seqmodels) is hf_seqmodels
