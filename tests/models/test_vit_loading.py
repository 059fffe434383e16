"""SeqViT's checkpoints: encoders move between heads, and positions to images of another size."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification

from hf_seqmodels import (
    SeqViTBackbone,
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForMaskedPatchPrediction,
    SeqViTForPreTraining,
    SeqViTModel,
)
from hf_seqmodels.models.positions import resize_positions

SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_labels": 5,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 12,
    "colour_bits": 1,
    "initializer_range": 0.3,
}
EXACT = {"rtol": 0, "atol": 1e-12}
PRETRAINED = [SeqViTForPreTraining, SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction]


def build(model_class: Any, **options: Any) -> Any:
    """In float64 and eval, from a fixed seed."""
    torch.manual_seed(0)
    return model_class(SeqViTConfig(**{**SIZES, **options})).double().eval()


def warnings_while_loading(load: Any, caplog: pytest.LogCaptureFixture) -> tuple[Any, dict, str]:
    """What `load` gives with its report, and the text of transformers' warnings."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        model, report = load(output_loading_info=True)
    finally:
        logger.removeHandler(caplog.handler)
    return model, report, caplog.text


@pytest.mark.parametrize("model_class", PRETRAINED)
@pytest.mark.parametrize("through", [SeqViTForImageClassification, AutoModelForImageClassification])
def test_a_pretrained_encoder_moves_into_a_classifier(model_class: Any, through: Any, tmp_path, caplog) -> None:
    """In one from_pretrained; the decoder is left behind without a word, the new head is announced."""
    pretrained = build(model_class)
    pretrained.save_pretrained(tmp_path)
    model, report, text = warnings_while_loading(
        lambda **more: through.from_pretrained(tmp_path, num_labels=7, **more), caplog
    )
    assert type(model) is SeqViTForImageClassification and model.classifier.out_features == 7
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert "UNEXPECTED" not in text and "decoder" not in text and "mask_token" not in text
    weights = pretrained.state_dict()
    encoder = {name: w for name, w in model.state_dict().items() if name.startswith("vit.")}
    assert encoder.keys() == {n for n in weights if n.startswith("vit.") and not n.endswith("mask_token")}
    assert all(torch.equal(weight, weights[name]) for name, weight in encoder.items())


@pytest.mark.parametrize("model_class", PRETRAINED)
@pytest.mark.parametrize("target", [SeqViTModel, SeqViTBackbone, AutoModel])
def test_a_pretrained_encoder_alone(model_class: Any, target: Any, tmp_path, caplog) -> None:
    pretrained = build(model_class)
    pretrained.save_pretrained(tmp_path)
    model, report, text = warnings_while_loading(lambda **more: target.from_pretrained(tmp_path, **more), caplog)
    assert not any(report.values()) and "LOAD REPORT" not in text
    encoder, weights = model.base_model.state_dict(), pretrained.vit.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in encoder.items())


@pytest.mark.parametrize("through", [SeqViTForImageClassification, AutoModelForImageClassification])
@pytest.mark.parametrize("size", [24, [8, 20]])
def test_positions_are_resized_on_loading(through: Any, size: Any, tmp_path) -> None:
    trained = build(SeqViTForImageClassification)
    trained.save_pretrained(tmp_path)
    model, report = through.from_pretrained(tmp_path, image_size=size, output_loading_info=True)
    assert not any(report.values()) and model.config.image_size == size
    table = trained.vit.embeddings.position_embeddings
    assert torch.equal(model.vit.embeddings.position_embeddings, resize_positions(table, (4, 4), model.config.grid))
    images = torch.randn(2, 3, *([size] * 2 if isinstance(size, int) else size), dtype=torch.float64)
    expected = trained(images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(model(images).logits, expected, **EXACT)
    with pytest.raises(ValueError, match="but the positions are those of"):
        model(torch.randn(2, 3, 16, 16))
    model.save_pretrained(tmp_path / "resized")
    again = through.from_pretrained(tmp_path / "resized")
    torch.testing.assert_close(again(images).logits, model(images).logits, **EXACT)


def test_the_same_size_and_a_whole_config_on_loading(tmp_path) -> None:
    build(SeqViTForImageClassification).save_pretrained(tmp_path)
    config = SeqViTConfig.from_pretrained(tmp_path, image_size=32)
    model = SeqViTForImageClassification.from_pretrained(tmp_path, config=config)
    assert model.config.grid == (8, 8) and model.vit.embeddings.position_embeddings.shape == (1, 64, 16)
    assert config.image_size == 32  # the caller's own
    same = SeqViTForImageClassification.from_pretrained(tmp_path, image_size=16)
    assert same.vit.embeddings.position_embeddings.shape == (1, 16, 16)


def test_mae_always_tells_hidden_places_apart(tmp_path) -> None:
    """From a config as from a folder: transformers' ViTMAE has position tables of zeros there."""
    for kind in ("sincos", "learned"):
        model = build(SeqViTForPreTraining, position_embedding_type=kind)
        assert any("position" in name for name in model.state_dict()) is (kind == "learned")
        model.save_pretrained(tmp_path)
        images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
        again = SeqViTForPreTraining.from_pretrained(tmp_path)
        outputs = again(images)
        hidden = outputs.logits[outputs.mask]
        assert (torch.cdist(hidden, hidden) + torch.eye(len(hidden))).min() > 1e-3
        torch.testing.assert_close(outputs.logits, model(images).logits, **EXACT)
        wider = SeqViTForPreTraining.from_pretrained(tmp_path, image_size=32)
        assert wider(torch.randn(1, 3, 32, 32)).logits.shape == (1, 64, 48)


def test_a_model_cut_to_fewer_layers_saves_and_loads(tmp_path: Path) -> None:
    SeqViTModel(SeqViTConfig(**SIZES)).save_pretrained(tmp_path / "whole")
    SeqViTModel.from_pretrained(tmp_path / "whole", num_hidden_layers=1).save_pretrained(tmp_path / "cut")
    assert SeqViTModel.from_pretrained(tmp_path / "cut").config.out_features == ["stage1"]
    asked = SeqViTConfig(**SIZES, out_features=["stem"])
    asked.save_pretrained(tmp_path / "asked")
    assert SeqViTConfig.from_pretrained(tmp_path / "asked").out_features == ["stem"]
