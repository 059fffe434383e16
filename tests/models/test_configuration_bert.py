"""SeqBertConfig: published sizes, BERT's files, and what the code that travels must look like."""

import ast
import json
import pathlib

import pytest
import torch
from transformers import AutoConfig, BertConfig, BertModel

import hf_seqmodels.models
from hf_seqmodels import SeqBertConfig, SeqBertModel


@pytest.mark.parametrize(
    ("name", "millions"),
    # as published: Turc et al. 2019, table 1, and Devlin et al. 2018, section 3
    [("tiny", 4.4), ("mini", 11.2), ("small", 28.8), ("medium", 41.4), ("base", 109.5), ("large", 335.1)],
)
def test_presets_have_the_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = SeqBertModel(SeqBertConfig.preset(name))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_presets_take_overrides_and_refuse_unknown_names() -> None:
    config = SeqBertConfig.preset("tiny", vocab_size=100, num_hidden_layers=3)
    assert (config.vocab_size, config.num_hidden_layers, config.hidden_size) == (100, 3, 128)
    with pytest.raises(ValueError, match="preset='huge' is not known; choose one of tiny, mini"):
        SeqBertConfig.preset("huge")


def test_defaults_are_those_of_bert() -> None:
    ours, theirs = SeqBertConfig().to_dict(), BertConfig().to_dict()
    left_out = {"model_type", "transformers_version", "_name_or_path"}
    assert {k: v for k, v in ours.items() if k in theirs and k not in left_out} == {
        k: v for k, v in theirs.items() if k in ours and k not in left_out
    }


def test_a_bert_config_file_is_read_as_ours(tmp_path: pathlib.Path) -> None:
    BertConfig(hidden_size=24, num_attention_heads=3, num_labels=5).save_pretrained(tmp_path)
    config = SeqBertConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.hidden_size, config.num_labels) == ("seq_bert", 24, 5)
    assert type(AutoConfig.from_pretrained(tmp_path)) is BertConfig


def test_what_is_set_wins_over_the_file(tmp_path: pathlib.Path) -> None:
    SeqBertConfig(unpad_inputs=True).save_pretrained(tmp_path)
    assert SeqBertConfig.from_pretrained(tmp_path).unpad_inputs
    assert not SeqBertConfig.from_pretrained(tmp_path, unpad_inputs=False).unpad_inputs
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "seq_bert"


def test_gradients_are_those_of_bert_when_nothing_is_dropped() -> None:
    """Training mode without dropout: the gradient of the same function."""
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs = BertModel(config).double().train()
    ours = SeqBertModel(SeqBertConfig(**{k: v for k, v in config.to_dict().items() if k != "model_type"})).double()
    ours.train().load_state_dict(theirs.state_dict())
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    batch = {"input_ids": torch.randint(0, 40, (2, 7)), "attention_mask": mask}
    batch["token_type_ids"] = torch.randint(0, 2, (2, 7))
    weight = torch.randn(2, 7, 16, dtype=torch.float64)
    for model in (ours, theirs):
        outputs = model(**batch)
        ((outputs.last_hidden_state * weight).sum() + outputs.pooler_output.square().sum()).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=0, atol=1e-11)


FILES = sorted(pathlib.Path(hf_seqmodels.models.__file__).parent.glob("*.py"))
ALLOWED = {"torch", "transformers", "huggingface_hub", "numpy", "PIL"}
STANDARD = {"os", "collections", "copy", "dataclasses", "functools", "itertools", "math", "typing", "warnings"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_code_that_travels_stands_on_its_own(file: pathlib.Path) -> None:
    """No `__future__` (it turns @strict off); only torch, transformers, what these need anyway, and flat siblings."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED | STANDARD
        if isinstance(node, ast.ImportFrom):
            assert node.module and node.level <= 1
            if node.level == 1:
                assert (file.parent / f"{node.module}.py").exists()
            else:
                assert node.module.split(".")[0] in ALLOWED | STANDARD
