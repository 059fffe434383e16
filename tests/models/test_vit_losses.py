"""Losses of SeqViT: soft and hard labels are one thing, they add up, and no label changes the configuration."""

import copy

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from hf_seqmodels import (
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForMaskedPatchPrediction,
    SeqViTForPreTraining,
)
from hf_seqmodels.models.losses import image_classification_loss
from hf_seqmodels.models.patches import patchify

SIZES = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 5,
}
DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 12,
}
EXACT = {"rtol": 0, "atol": 1e-12}


def logits(rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, 5, dtype=torch.float64)


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(labels, 5).double()


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_one_hot_labels_are_hard_labels(problem_type: str | None) -> None:
    scores, labels = logits(), torch.randint(0, 5, (6,))
    expected = nn.functional.cross_entropy(scores, labels)
    for targets in (labels, one_hot(labels)):
        torch.testing.assert_close(image_classification_loss(scores, targets, problem_type), expected, **EXACT)


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses() -> None:
    scores, first, second = logits(), torch.randint(0, 5, (6,)), torch.randint(0, 5, (6,))
    share = 0.3
    mixed = image_classification_loss(scores, share * one_hot(first) + (1 - share) * one_hot(second))
    parts = [image_classification_loss(scores, labels) for labels in (first, second)]
    torch.testing.assert_close(mixed, share * parts[0] + (1 - share) * parts[1], **EXACT)


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_label_smoothing_is_that_of_torch_and_that_of_soft_labels(problem_type: str | None) -> None:
    scores, labels = logits(), torch.randint(0, 5, (6,))
    loss = image_classification_loss(scores, labels, problem_type, label_smoothing=0.1)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(scores, labels, label_smoothing=0.1), **EXACT)
    torch.testing.assert_close(loss, image_classification_loss(scores, 0.9 * one_hot(labels) + 0.1 / 5), **EXACT)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_add_up(soft: bool, as_tensor: bool) -> None:
    scores = logits()
    labels = scores.flip(0).softmax(-1) if soft else torch.tensor([1, -100, 0, 4, -100, 2])
    count = (labels != -100).sum()  # as Trainer counts
    parts = [
        image_classification_loss(scores[i:j], labels[i:j], num_items_in_batch=count if as_tensor else int(count))
        for i, j in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(parts), image_classification_loss(scores, labels), **EXACT)


def test_losses_of_low_precision_are_in_float32() -> None:
    scores = torch.randn(6, 5).bfloat16()
    for labels in (torch.randint(0, 5, (6,)), torch.rand(6, 5)):
        loss = image_classification_loss(scores, labels)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, image_classification_loss(scores.float(), labels))


def test_several_labels_on_request_and_regression() -> None:
    scores, targets = logits(), torch.rand(6, 5, dtype=torch.float64)
    torch.testing.assert_close(
        image_classification_loss(scores, targets, "multi_label_classification"),
        nn.functional.binary_cross_entropy_with_logits(scores, targets),
        **EXACT,
    )
    torch.testing.assert_close(
        image_classification_loss(scores[:, :1], targets[:, 0]), nn.functional.mse_loss(scores[:, 0], targets[:, 0])
    )


def test_soft_labels_leave_the_config_alone_and_hard_ones_may_follow() -> None:
    model = SeqViTForImageClassification(SeqViTConfig(**SIZES))
    before = copy.deepcopy(model.config.to_dict())
    pixels = torch.randn(2, 3, 8, 8)
    for labels in (torch.rand(2, 5).softmax(-1), torch.tensor([3, 0]), torch.rand(2, 5)):
        assert model(pixels, labels=labels).loss.isfinite()
        assert model.config.to_dict() == before


def test_transformers_vit_changes_its_config() -> None:
    """The control: float labels become multi-label targets for good, and the next hard batch crashes."""
    model = ViTForImageClassification(ViTConfig(**SIZES))
    pixels = torch.randn(2, 3, 8, 8)
    model(pixels, labels=torch.rand(2, 5).softmax(-1))
    assert model.config.problem_type == "multi_label_classification"
    with pytest.raises(ValueError, match="size"):
        model(pixels, labels=torch.tensor([3, 0]))


def test_label_smoothing_of_the_config_is_for_training() -> None:
    model = SeqViTForImageClassification(SeqViTConfig(**SIZES, label_smoothing=0.2)).double()
    pixels, labels = torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))
    for training in (True, False):
        outputs = model.train(training)(pixels, labels=labels)
        expected = nn.functional.cross_entropy(outputs.logits, labels, label_smoothing=0.2 if training else 0.0)
        torch.testing.assert_close(outputs.loss, expected, **EXACT)


MASK = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("normalised", [False, True])
def test_mae_is_the_squared_error_of_hidden_patches(normalised: bool) -> None:
    model = SeqViTForPreTraining(SeqViTConfig(**SIZES, **DECODER, norm_pix_loss=normalised)).double()
    pixels = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    outputs = model(pixels, bool_masked_pos=MASK)
    targets = patchify(pixels, 4)
    if normalised:
        targets = (targets - targets.mean(-1, keepdim=True)) / (targets.var(-1, keepdim=True) + 1e-6).sqrt()
    expected = (outputs.logits - targets)[MASK.bool()].square().mean()
    torch.testing.assert_close(outputs.loss, expected, **EXACT)
    assert torch.equal(outputs.mask, MASK.bool())


def test_simmim_is_the_absolute_error_of_hidden_patches() -> None:
    model = SeqViTForMaskedImageModeling(SeqViTConfig(**SIZES)).double()
    pixels = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    outputs = model(pixels, bool_masked_pos=MASK)
    hidden = patchify(outputs.reconstruction - pixels, 4)[MASK.bool()]
    torch.testing.assert_close(outputs.loss, hidden.abs().mean(), **EXACT)


def test_patch_prediction_is_cross_entropy_where_there_are_labels() -> None:
    model = SeqViTForMaskedPatchPrediction(SeqViTConfig(**SIZES, colour_bits=1)).double()
    labels = torch.randint(0, 8, (2, 4)).masked_fill(~MASK.bool(), -100)
    outputs = model(torch.randn(2, 3, 8, 8), bool_masked_pos=MASK, labels=labels)
    expected = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, expected, **EXACT)


@pytest.mark.parametrize("model_class", [SeqViTForPreTraining, SeqViTForMaskedImageModeling])
def test_masks_are_random_in_training_and_fixed_in_evaluation(model_class) -> None:
    model = model_class(SeqViTConfig(**{**SIZES, **DECODER, "image_size": 16}, mask_ratio=0.6))
    pixels = torch.randn(3, 3, 16, 16)
    state = torch.get_rng_state()
    first, second = model.eval()(pixels), model(pixels)
    assert torch.equal(first.mask, second.mask) and torch.equal(first.loss, second.loss)
    assert torch.equal(torch.get_rng_state(), state)  # evaluating in between changes no training
    model.train()
    masks = [model(pixels).mask for _ in range(3)]
    assert not torch.equal(masks[0], masks[1])
    assert all(mask.sum(1).eq(10).all() for mask in [*masks, first.mask])  # round(0.6 * 16)
