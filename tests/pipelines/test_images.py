"""transformers' image pipelines on saved SeqViT models: the right class, and what a forward by hand gives."""

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

import hf_seqmodels
from hf_seqmodels import SeqViTConfig, SeqViTImageProcessor
from tests.pipelines.toys import forget_unused_weights, saved

# A batch and an image alone add float32 numbers in another order.
ROUNDING = 1e-5
NAMES = {0: "cat", 1: "dog", 2: "house"}
HEADS = ["ForImageClassification", "ForPreTraining", "Model"]


def pictures() -> list[Image.Image]:
    """Of several sizes and modes."""
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (*shape, 3), dtype=np.uint8)).convert(mode)
        for shape, mode in (((16, 16), "RGB"), ((20, 33), "L"), ((40, 12), "RGBA"))
    ]


def saved_vit(head: str, folder: pathlib.Path) -> tuple[hf_seqmodels.SeqViTModel, str]:
    torch.manual_seed(0)
    config = SeqViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=12,
        id2label=NAMES,
        initializer_range=0.3,
    )
    return saved(getattr(hf_seqmodels, f"SeqViT{head}")(config), SeqViTImageProcessor(size=16), folder)


def test_image_classification(tmp_path: pathlib.Path) -> None:
    model, folder = saved_vit("ForImageClassification", tmp_path)
    classify = pipeline("image-classification", folder, device="cpu")
    assert type(classify.model) is hf_seqmodels.SeqViTForImageClassification
    assert type(classify.image_processor) is SeqViTImageProcessor
    processor = AutoImageProcessor.from_pretrained(folder)
    found = classify(pictures(), batch_size=3, top_k=3)
    for picture, answer in zip(pictures(), found, strict=True):
        with torch.no_grad():
            pixels = processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
            expected = model(pixels).logits.softmax(-1)[0].tolist()
        scores = {row["label"]: row["score"] for row in answer}
        assert [scores[name] for name in NAMES.values()] == pytest.approx(expected, abs=ROUNDING)
        alone = {row["label"]: row["score"] for row in classify(picture, top_k=3)}
        assert alone == pytest.approx(scores, abs=ROUNDING)
    assert len({tuple(row["score"] for row in answer) for answer in found}) == 3  # they differ


def test_a_file_is_classified(tmp_path: pathlib.Path) -> None:
    _, folder = saved_vit("ForImageClassification", tmp_path)
    picture = pictures()[0]
    picture.save(tmp_path / "picture.png")
    classify = pipeline("image-classification", folder, device="cpu")
    assert classify(str(tmp_path / "picture.png")) == classify(picture)


@pytest.mark.parametrize("head", HEADS)
def test_image_feature_extraction(head: str, tmp_path: pathlib.Path, said: list[str]) -> None:
    """From any checkpoint: the base model comes out of it."""
    model, folder = saved_vit(head, tmp_path)
    extract = pipeline("image-feature-extraction", folder, device="cpu", return_tensors=True)
    assert type(extract.model) is hf_seqmodels.SeqViTModel
    if head == "ForImageClassification":  # MAE's own report says which weights are left out
        forget_unused_weights(said)
    processor = AutoImageProcessor.from_pretrained(folder)
    features = extract(pictures(), batch_size=3)
    for picture, feature in zip(pictures(), features, strict=True):
        with torch.no_grad():
            pixels = processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
            expected = model.base_model(pixels).last_hidden_state
        torch.testing.assert_close(feature, expected, rtol=0, atol=ROUNDING)
