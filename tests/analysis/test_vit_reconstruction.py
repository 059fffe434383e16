"""Reconstructions: visible patches are the input's, hidden ones the model's, in the input's colours."""

from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels import (
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForPreTraining,
)
from hf_seqmodels.analysis import NotInModelError, reconstruct
from hf_seqmodels.models.patches import patchify

MODELS = [SeqViTForPreTraining, SeqViTForMaskedImageModeling]
GRID, PATCH = (4, 3), (2, 4)


def toy_config(**fields: Any) -> SeqViTConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    images = {"image_size": (8, 12), "patch_size": PATCH, "num_channels": 3, "num_register_tokens": 1}
    return SeqViTConfig(**{**sizes, **decoder, **images, **fields})


def normalised(num_channels: int) -> tuple[torch.Tensor, np.ndarray, list[float], list[float]]:
    """Pixel values, the images that they stand for (one with constant patches), and their mean and deviation."""
    colours = torch.rand(2, num_channels, 8, 12)
    colours[1, :, :4] = 0.25
    mean = [0.2 + 0.1 * channel for channel in range(num_channels)]
    std = [0.5 - 0.05 * channel for channel in range(num_channels)]
    pixels = (colours - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    return pixels, colours.permute(0, 2, 3, 1).numpy(), mean, std


def spread(mask: np.ndarray) -> np.ndarray:
    """`(batch, rows, columns)` -> `(batch, height, width)`."""
    return mask.repeat(PATCH[0], 1).repeat(PATCH[1], 2)


@pytest.mark.parametrize("num_channels", [1, 3, 5])
@pytest.mark.parametrize("model_class", MODELS)
def test_panels(model_class: Any, num_channels: int) -> None:
    model = model_class(toy_config(num_channels=num_channels))
    pixels, colours, mean, std = normalised(num_channels)
    hidden = torch.rand(2, 12) < 0.5
    found = reconstruct(model, pixels, mean, std, hidden)
    np.testing.assert_array_equal(found.mask, hidden.view(2, *GRID).numpy())
    where = spread(found.mask)
    np.testing.assert_allclose(found.image, colours, atol=1e-6)  # normalised and back, in float32
    np.testing.assert_array_equal(found.masked[where], 0.5)
    np.testing.assert_array_equal(found.masked[~where], found.image[~where])
    np.testing.assert_array_equal(found.pasted[~where], found.image[~where])
    np.testing.assert_array_equal(found.pasted[where], found.reconstruction[where])
    assert not np.isclose(found.pasted[where], found.image[where]).all()  # the untrained model can't know
    for panel in (found.image, found.masked, found.reconstruction, found.pasted):
        assert panel.shape == (2, 8, 12, num_channels) and panel.dtype == np.float32
        assert panel.min() >= 0 and panel.max() <= 1


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_right_predictions_give_the_input(norm_pix_loss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SeqViTForPreTraining(toy_config(norm_pix_loss=norm_pix_loss))
    pixels, colours, mean, std = normalised(3)
    monkeypatch.setattr(model.decoder, "forward", lambda *_: model.targets(pixels))
    np.testing.assert_allclose(reconstruct(model, pixels, mean, std).reconstruction, colours, atol=1e-6)
    # Wrong ones don't, unless a patch's mean is all there is to it.
    monkeypatch.setattr(model.decoder, "forward", lambda *_: torch.zeros(2, 12, 24))
    wrong = reconstruct(model, pixels, mean, std).reconstruction
    assert not np.isclose(wrong[0], colours[0], atol=1e-3).any(-1).all()


def test_right_predictions_of_simmim_give_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SeqViTForMaskedImageModeling(toy_config(use_cls_token=False, pooling="mean", stem="conv"))
    pixels, colours, mean, std = normalised(3)
    monkeypatch.setattr(model.decoder, "forward", lambda _: patchify(pixels, PATCH))
    np.testing.assert_allclose(reconstruct(model, pixels, mean, std).reconstruction, colours, atol=1e-6)


@pytest.mark.parametrize("model_class", MODELS)
def test_nothing_is_left_behind(model_class: Any) -> None:
    model = model_class(toy_config(hidden_dropout_prob=0.5, mask_ratio=0.5)).train()
    model.vit.embeddings.eval()
    modes = [module.training for module in model.modules()]
    pixels, _, mean, std = normalised(3)
    first, second = (reconstruct(model, pixels, mean, std) for _ in range(2))
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(first.pasted, second.pasted)
    np.testing.assert_array_equal(first.mask.sum((1, 2)), 6)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("model_class", MODELS)
def test_other_sizes_and_bfloat16(model_class: Any) -> None:
    model = model_class(toy_config()).to(torch.bfloat16)
    found = reconstruct(model, torch.zeros(1, 3, 4, 24), 0.5, 0.5)
    assert found.pasted.shape == (1, 4, 24, 3) and found.mask.shape == (1, 2, 6)
    np.testing.assert_array_equal(found.image, 0.5)


def test_refusals() -> None:
    pixels, _, mean, std = normalised(3)
    with pytest.raises(NotInModelError, match="SeqViTForImageClassification predicts no pixels"):
        reconstruct(SeqViTForImageClassification(toy_config()), pixels, mean, std)
    model = SeqViTForPreTraining(toy_config())
    with pytest.raises(ValueError, match="bool_masked_pos of shape"):
        reconstruct(model, pixels, mean, std, torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"mean=\[0.1, 0.2\] has 2 values"):
        reconstruct(model, pixels, [0.1, 0.2], std)
