"""SeqViTConfig: published sizes, transformers' defaults, grids, and what comes back from a file."""

import json
import pathlib

import pytest
import torch
from transformers import AutoConfig, ViTConfig

from hf_seqmodels import SeqViTConfig, SeqViTForImageClassification


@pytest.mark.parametrize(
    ("name", "millions"),
    # 1,000 classes of 224-pixel images: Touvron et al. 2021 (DeiT), table 1; Dosovitskiy et al. 2020, table 1
    [("Ti/16", 5.7), ("S/16", 22.1), ("B/16", 86.6), ("L/16", 304.3), ("H/14", 632.0)],
)
def test_presets_have_the_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = SeqViTForImageClassification(SeqViTConfig.preset(name, num_labels=1000))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_presets_take_overrides() -> None:
    config = SeqViTConfig.preset("Ti/4", image_size=32, num_hidden_layers=3, pooling="mean")
    assert (config.hidden_size, config.patch_size, config.grid, config.num_hidden_layers) == (192, 4, (8, 8), 3)
    assert (config.decoder_hidden_size, config.pooling) == (96, "mean")
    assert SeqViTConfig.preset("mu/2", image_size=8).num_hidden_layers == 1


@pytest.mark.parametrize("name", ["Ti", "Ti/", "Ti/four", "ti/4", "XL/16", "/4", "S/16/2", "S/-1"])
def test_presets_refuse_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"preset='{name}' is not known; give one of mu, Ti, S, B, L, H"):
        SeqViTConfig.preset(name)


def test_defaults_are_those_of_vit() -> None:
    ours, theirs = SeqViTConfig().to_dict(), ViTConfig().to_dict()
    # ours is the published 1e-6 (google-research/vision_transformer)
    left_out = {"model_type", "transformers_version", "_name_or_path", "layer_norm_eps"}
    shared = (ours.keys() & theirs.keys()) - left_out
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
    assert {"hidden_size", "image_size", "patch_size", "num_channels", "qkv_bias", "hidden_act"} <= shared


def test_rectangles_are_lists_and_come_back_equal(tmp_path: pathlib.Path) -> None:
    config = SeqViTConfig(image_size=(32, 48), patch_size=(4, 8), num_channels=1)
    assert (config.image_size, config.patch_size, config.grid) == ([32, 48], [4, 8], (8, 6))
    assert config.pixels_per_patch == 32
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is SeqViTConfig
    assert (again.image_size, again.patch_size, again.grid) == ([32, 48], [4, 8], (8, 6))


@pytest.mark.parametrize(
    ("fields", "prefix"),
    [
        ({}, 1),
        ({"use_cls_token": False, "pooling": "mean"}, 0),
        ({"use_distillation_token": True, "num_register_tokens": 4}, 6),
    ],
)
def test_prefix_tokens(fields: dict, prefix: int) -> None:
    assert SeqViTConfig(**fields).num_prefix_tokens == prefix


def test_stages_of_the_backbone(tmp_path: pathlib.Path) -> None:
    config = SeqViTConfig(num_hidden_layers=3, out_indices=[1, 3])
    assert config.stage_names == ["stem", "stage1", "stage2", "stage3"]
    assert config.out_features == ["stage1", "stage3"]
    config.save_pretrained(tmp_path)
    assert SeqViTConfig.from_pretrained(tmp_path).out_features == ["stage1", "stage3"]
    assert SeqViTConfig(num_hidden_layers=3).out_features == ["stage3"]


def test_what_is_set_wins_over_the_file(tmp_path: pathlib.Path) -> None:
    SeqViTConfig(pooling="map").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "seq_vit"
    assert SeqViTConfig.from_pretrained(tmp_path).pooling == "map"
    assert SeqViTConfig.from_pretrained(tmp_path, pooling="seq").pooling == "seq"
