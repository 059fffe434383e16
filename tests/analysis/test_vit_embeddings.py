"""Similarity of positions, and filters that give what the model's stem gives."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels import SeqViTConfig, SeqViTForPreTraining, SeqViTModel
from hf_seqmodels.analysis import NotInModelError, patch_filters, position_similarity, principal_filters


def toy_model(**fields: Any) -> SeqViTModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    images = {"image_size": (8, 12), "patch_size": (2, 4), "num_channels": 3}
    return SeqViTModel(SeqViTConfig(**{**sizes, **images, **fields}))


@pytest.mark.parametrize("kind", ["learned", "sincos"])
def test_similarity_is_the_cosine(kind: str) -> None:
    model = toy_model(position_embedding_type=kind)
    with torch.no_grad():  # the model's own: what positions add to an image of zeros
        with_positions = model.embeddings(torch.zeros(1, 3, 8, 12))[0][0, 1:].double()
        without = model.embeddings.patch_embeddings(torch.zeros(1, 3, 8, 12), None)[0].double()
    table = (with_positions - without).numpy().reshape(4, 3, 16)
    similarity = position_similarity(model)
    assert similarity.shape == (4, 3, 4, 3) and similarity.dtype == np.float32
    for place in np.ndindex(similarity.shape):
        first, second = table[place[:2]], table[place[2:]]
        expected = first @ second / math.sqrt(first @ first) / math.sqrt(second @ second)
        assert similarity[place] == pytest.approx(expected, abs=1e-5)  # the sum was in float32
    np.testing.assert_allclose(similarity.reshape(12, 12).diagonal(), 1, atol=1e-6)


def test_sincos_positions_know_only_offsets() -> None:
    similarity = position_similarity(toy_model(position_embedding_type="sincos"))
    # Sines and cosines of two angles give the cosine of their difference. The table is float32.
    np.testing.assert_allclose(similarity[0, 0, 1, 1], similarity[2, 1, 3, 2], atol=1e-6)
    np.testing.assert_allclose(similarity[0, 0, 3, 0], similarity[3, 2, 0, 2], atol=1e-6)
    assert similarity[0, 0, 1, 0] > similarity[0, 0, 2, 0] > 0.3


def test_no_positions() -> None:
    with pytest.raises(NotInModelError, match="position_embedding_type='none'"):
        position_similarity(toy_model(position_embedding_type="none"))


@pytest.mark.parametrize("num_channels", [1, 3, 5])
def test_filters_of_patches(num_channels: int) -> None:
    model = toy_model(num_channels=num_channels)
    filters = patch_filters(model)
    assert filters.shape == (16, 2, 4, num_channels)
    pixels = torch.randn(1, num_channels, 8, 12)
    stem = model.embeddings.patch_embeddings
    embedded = (stem(pixels, None) - stem.projection.bias).detach()[0].unflatten(0, (4, 3)).numpy()
    patch = pixels[0, :, 4:6, 8:12].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(np.tensordot(filters, patch, 3), embedded[2, 2], rtol=0, atol=1e-5)


def test_filters_of_a_convolution() -> None:
    model = toy_model(stem="conv", stem_channels=6)
    filters = patch_filters(model)
    assert filters.shape == (6, 3, 3, 3)
    pixels = torch.randn(1, 3, 8, 12)
    convolved = model.embeddings.patch_embeddings.convolutions[0](pixels)[0, :, 4, 5].detach().numpy()
    window = pixels[0, :, 3:6, 4:7].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(np.tensordot(filters, window, 3), convolved, rtol=0, atol=1e-5)


def test_principal_filters() -> None:
    model = toy_model(num_channels=1)
    principal = principal_filters(SeqViTForPreTraining(model.config), count=100)
    assert principal.filters.shape == (8, 2, 4, 1)  # of 8 pixels there are no more
    principal = principal_filters(model, count=5)
    flat = principal.filters.reshape(5, 8).astype(np.float64)
    np.testing.assert_allclose(flat @ flat.T, np.eye(5), atol=1e-6)
    covariance = np.cov(patch_filters(model).reshape(16, 8), rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(principal.variance_ratios, values[::-1][:5] / values.sum(), rtol=1e-4)
    for mine, other in zip(flat, vectors.T[::-1]):
        assert abs(mine @ other) == pytest.approx(1, abs=1e-5)
        assert mine[np.abs(mine).argmax()] > 0


def test_refusals() -> None:
    with pytest.raises(NotInModelError, match="stem='shifted'"):
        principal_filters(toy_model(stem="shifted"))
    with pytest.raises(ValueError, match="count=0"):
        principal_filters(toy_model(), count=0)
