"""Rollout, maps and distances against loops over single weights, and what a look at a model must not change."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels import (
    SeqViTBackbone,
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForPreTraining,
    SeqViTModel,
)
from hf_seqmodels.analysis import attention_distance, attention_maps, attention_rollout

GRID, PATCH = (4, 3), (2, 6)
# The weights that a float32 model gives differ between batches of one and of three by rounding.
CLOSE = {"rtol": 0, "atol": 1e-6}
FUNCTIONS = [attention_rollout, attention_maps, attention_distance]


def toy_config(**fields: Any) -> SeqViTConfig:
    """Rectangular images of five channels, patches that aren't square, registers, and attention far from uniform."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    images = {"image_size": (8, 18), "patch_size": PATCH, "num_channels": 5, "num_register_tokens": 2}
    return SeqViTConfig(**{**sizes, **decoder, **images, "initializer_range": 0.3, **fields})


def images(config: SeqViTConfig, count: int = 3, size: tuple[int, int] = (8, 18)) -> torch.Tensor:
    return torch.randn(count, config.num_channels, *size)


def weights_of(model: SeqViTModel, pixels: torch.Tensor) -> np.ndarray:
    """`(batch, layers, heads, tokens, tokens)`."""
    with torch.no_grad():
        outputs = model.eval()(pixels, output_attentions=True)
    return torch.stack(outputs.attentions, 1).double().numpy()


POOLINGS = [
    {"pooling": "cls"},
    {"pooling": "mean"},
    {"pooling": "mean", "use_cls_token": False},
    {"pooling": "seq", "use_cls_token": False, "num_register_tokens": 0},
    {"pooling": "cls", "use_distillation_token": True, "num_channels": 1},
    {"pooling": "cls", "use_locality_attention": True, "num_channels": 3},
]


@pytest.mark.parametrize("fields", POOLINGS, ids=str)
def test_rollout_against_loops(fields: dict[str, Any]) -> None:
    model = SeqViTModel(toy_config(**fields))
    pixels, first = images(model.config), model.config.num_prefix_tokens
    rollout = attention_rollout(model, pixels)
    assert rollout.shape == (3, *GRID) and rollout.dtype == np.float32
    np.testing.assert_allclose(rollout.sum((1, 2)), 1, rtol=1e-6)
    for image, found in zip(weights_of(model, pixels), rollout):
        tokens = image.shape[-1]
        joint = np.eye(tokens)
        for layer in image:
            step = np.zeros((tokens, tokens))
            for row, column in itertools.product(range(tokens), repeat=2):
                step[row, column] = (layer[:, row, column].mean() + (row == column)) / 2
            joint = step @ joint
        asking = [0] if fields["pooling"] == "cls" else range(first, tokens)
        seen = np.mean([joint[row, first:] for row in asking], axis=0)
        np.testing.assert_allclose(found.ravel(), seen / seen.sum(), **CLOSE)
        assert found.max() > 1.2 * found.min()  # far enough from uniform for a mistake to show


@pytest.mark.parametrize("fields", POOLINGS, ids=str)
def test_maps_against_loops(fields: dict[str, Any]) -> None:
    model = SeqViTModel(toy_config(**fields))
    pixels, first = images(model.config), model.config.num_prefix_tokens
    maps = attention_maps(model, pixels)
    assert maps.shape == (3, 3, 2, *GRID)
    weights = weights_of(model, pixels)
    for place in np.ndindex(maps.shape):
        *which, row, column = place
        patch = first + row * GRID[1] + column
        asking = slice(0, 1) if fields["pooling"] == "cls" else slice(first, None)
        assert maps[place] == pytest.approx(weights[(*which, asking, patch)].mean(), abs=1e-6)
    assert (maps.sum((-2, -1)) <= 1 + 1e-6).all()


def test_distance_against_loops() -> None:
    model = SeqViTModel(toy_config())
    pixels, first = images(model.config), model.config.num_prefix_tokens
    distance = attention_distance(model, pixels)
    weights = weights_of(model, pixels)
    places = [(row * PATCH[0], column * PATCH[1]) for row in range(GRID[0]) for column in range(GRID[1])]
    assert distance.shape == (3, 2)
    for layer, head in np.ndindex(3, 2):
        total = weight = 0.0
        for image in weights[:, layer, head]:
            for (i, query), (j, key) in itertools.product(enumerate(places), repeat=2):
                total += image[first + i, first + j] * math.dist(query, key)
                weight += image[first + i, first + j]
        assert distance[layer, head] == pytest.approx(total / weight, rel=1e-5)


def with_queries(scale: float) -> SeqViTModel:
    """Queries and keys are the normalised tokens times `scale`: a large one lets each token see itself alone."""
    model = SeqViTModel(toy_config(num_attention_heads=1))
    with torch.no_grad():
        for layer in model.layers:
            eye = torch.eye(16)
            layer.attention.qkv.weight.copy_(torch.cat([scale * eye, scale * eye, eye]))
            layer.attention.qkv.bias.zero_()
    return model


def test_attention_to_oneself_and_to_all_alike() -> None:
    selfish, uniform = with_queries(100.0), with_queries(0.0)
    pixels = images(selfish.config)
    # exp(-100) and less is left for others.
    np.testing.assert_allclose(attention_distance(selfish, pixels), 0, atol=1e-6)
    assert (attention_rollout(selfish, pixels) < 1e-6).all()  # no patch reaches the class token: zeros, not NaN
    places = [(row * PATCH[0], column * PATCH[1]) for row in range(GRID[0]) for column in range(GRID[1])]
    mean = np.mean([math.dist(query, key) for query in places for key in places])
    np.testing.assert_allclose(attention_distance(uniform, pixels), mean, rtol=1e-6)
    np.testing.assert_allclose(attention_rollout(uniform, pixels), 1 / 12, rtol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "model_class",
    [SeqViTBackbone, SeqViTForImageClassification, SeqViTForMaskedImageModeling, SeqViTForPreTraining],
)
def test_any_head_gives_the_encoders(function: Callable[..., np.ndarray], model_class: Any) -> None:
    model = model_class(toy_config())
    pixels = images(model.config)
    np.testing.assert_array_equal(function(model, pixels), function(model.vit, pixels))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_kernels_give_the_same(function: Callable[..., np.ndarray]) -> None:
    model = SeqViTForImageClassification(toy_config())
    pixels, found = images(model.config), []
    for kernel in ("eager", "sdpa"):
        model.set_attn_implementation(kernel)
        found.append(function(model, pixels))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_is_left_behind(function: Callable[..., np.ndarray]) -> None:
    rates = {"hidden_dropout_prob": 0.5, "drop_path_rate": 0.5, "patch_dropout_rate": 0.5}
    model = SeqViTForImageClassification(toy_config(**rates)).train()
    model.vit.layers[0].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    pixels = images(model.config)
    before = torch.get_rng_state()
    first = function(model, pixels)
    np.testing.assert_array_equal(first, function(model, pixels))  # no dropout
    with pytest.raises(ValueError, match="num_channels"):
        function(model, pixels[:, :2])
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled() and all(parameter.grad is None for parameter in model.parameters())


def test_other_sizes() -> None:
    model = SeqViTModel(toy_config())
    assert attention_maps(model, images(model.config, 2, (4, 36))).shape == (2, 3, 2, 2, 6)
    with pytest.raises(ValueError, match="not divisible by patch_size 2×6"):
        attention_rollout(model, images(model.config, 1, (4, 20)))


def test_bfloat16() -> None:
    model = SeqViTModel(toy_config()).to(torch.bfloat16)
    rollout = attention_rollout(model, images(model.config))
    np.testing.assert_allclose(rollout.sum((1, 2)), 1, rtol=1e-6)  # however coarse the weights


@pytest.mark.parametrize("shape", [(0, 5, 8, 18), (5, 8, 18)])
def test_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        attention_rollout(SeqViTModel(toy_config()), torch.zeros(shape))
