"""From examples of an `ImageDataset` to batches of a model. Without a rule nothing is random but the masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.models.patches import Size, patch_grid, random_patches
from hf_seqmodels.models.pixels import normalize_images

from .augmentation import AugmentationRule, augment
from .image_masking import (
    COLOUR_BITS,
    corrupt_patches,
    corruption_uniforms,
    patch_colour_classes,
    patch_noise,
    random_unit_mask,
    units_in_patches,
)
from .mixing import CUTMIX_UNIFORMS, cutmix, mixed_labels, mixup, soft_labels
from .random import Key
from .streams import Streams

Examples = list[dict[str, Any]]


def _batch(
    examples: Examples, rule: AugmentationRule | None, seed: int, mean: float | Sequence[float]
) -> torch.Tensor:
    """`(batch, channels, height, width)` float32 in [0, 1], augmented if there is a rule."""
    images = _stacked(examples, "image")
    if rule is None:
        return images.float() / 255
    streams = Streams(seed, "augment")
    draws = np.stack([streams.at(*example["key"]).random(rule.num_uniforms) for example in examples])
    return augment(images, torch.from_numpy(draws), rule, mean)


def _stacked(examples: Examples, name: str) -> torch.Tensor:
    return torch.stack([example[name] for example in examples])


def _refuse_mixing(rule: AugmentationRule | None) -> None:
    if rule is not None and (rule.mixes or rule.label_smoothing):
        raise ValueError(
            f"mixup_alpha={rule.mixup_alpha}, cutmix_alpha={rule.cutmix_alpha}, label_smoothing="
            f"{rule.label_smoothing}: masked images have no labels to mix or smooth; all must be 0."
        )


@dataclass(frozen=True)
class ClassificationCollator:
    """Examples -> `pixel_values` and `labels` of an image classifier.

    Args:
        rule: how to augment; None for evaluation. The dataset must have its `mixing_probability`.
        seed: names everything drawn.
        mean, std: of each channel, or one number for all; for values in [0, 1].
        num_labels: number of classes.

    Raises:
        ValueError: `num_labels` is below 1.
    """

    rule: AugmentationRule | None
    seed: int
    mean: float | Sequence[float]
    std: float | Sequence[float]
    num_labels: int

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"num_labels={self.num_labels} must be at least 1.")

    def __call__(self, examples: Examples) -> dict[str, torch.Tensor]:
        """Collates.

        Returns:
            `pixel_values` `(batch, channels, height, width)` float32, normalised; `labels`, `(batch,)` int64, or, if
            the rule mixes or smooths, `(batch, num_labels)` float32.

        Raises:
            ValueError: an example without a label or with one outside 0..num_labels - 1; a partner where the rule
                mixes nothing.
        """
        labels = self._labels(examples, "label")
        images = _batch(examples, self.rule, self.seed, self.mean)
        rows = [row for row, example in enumerate(examples) if "partner" in example]
        if rows and (self.rule is None or not self.rule.mixes):
            raise ValueError(
                "the examples come with partners, but the rule mixes nothing: the dataset's mixing_probability must "
                "be the rule's (0 without a rule)."
            )
        if self.rule is not None and (self.rule.mixes or self.rule.label_smoothing):
            labels = soft_labels(labels, self.num_labels, self.rule.label_smoothing)
            if rows:
                images[rows], labels[rows] = self._mixed(
                    [examples[row] for row in rows], images[rows], labels[rows], self.rule
                )
        return {"pixel_values": normalize_images(images, self.mean, self.std), "labels": labels}

    def _labels(self, examples: Examples, name: str) -> torch.Tensor:
        labels = [example.get(name) for example in examples]
        for example, label in zip(examples, labels):
            if label is None or not 0 <= label < self.num_labels:
                raise ValueError(f"{name}={label} of {example['key']} must be in 0..{self.num_labels - 1}.")
        return torch.tensor(labels)

    def _mixed(
        self, examples: Examples, images: torch.Tensor, labels: torch.Tensor, rule: AugmentationRule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and soft labels after mixing with the examples' partners."""
        streams = Streams(self.seed, "augment-partner")
        draws, places, weights, cut = [], [], [], []
        for example in examples:
            rng = streams.at(*example["key"])
            draws.append(rng.random(rule.num_uniforms))
            places.append(rng.random(CUTMIX_UNIFORMS))
            cut.append(rule.cutmix_alpha > 0 and (rule.mixup_alpha == 0 or rng.random() < 0.5))
            alpha = rule.cutmix_alpha if cut[-1] else rule.mixup_alpha
            weights.append(rng.beta(alpha, alpha))
        partners = augment(_stacked(examples, "partner"), torch.from_numpy(np.stack(draws)), rule, self.mean)
        weight = torch.tensor(weights, dtype=torch.float32)
        is_cut = torch.tensor(cut)
        boxes, remaining = cutmix(images, partners, weight, torch.from_numpy(np.stack(places)))
        mixed = torch.where(is_cut.view(-1, 1, 1, 1), boxes, mixup(images, partners, weight))
        weight = torch.where(is_cut, remaining, weight)
        partner_labels = soft_labels(self._labels(examples, "partner_label"), self.num_labels, rule.label_smoothing)
        return mixed, mixed_labels(labels, partner_labels, weight)


@dataclass(frozen=True)
class MaskedImageCollator:
    """Examples -> `pixel_values` and `bool_masked_pos` for MAE (He et al. 2021) and SimMIM (Xie et al. 2021).

    Args:
        rule: how to augment, without mixing; None for evaluation, whose masks are those of epoch 0.
        seed: names everything drawn.
        mean, std: of each channel, or one number for all; for values in [0, 1].
        patch_size: the model's.
        mask_ratio: share of the patches to mask.
        mask_patch_size: pixels of a masked unit, a multiple of the patch size; None masks patch by patch.

    Raises:
        ValueError: a field outside what is allowed.
    """

    rule: AugmentationRule | None
    seed: int
    mean: float | Sequence[float]
    std: float | Sequence[float]
    patch_size: Size
    mask_ratio: float
    mask_patch_size: Size | None = None

    def __post_init__(self) -> None:
        _refuse_mixing(self.rule)
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio} must lie in (0, 1).")
        if self.mask_patch_size is not None:
            units_in_patches(self.mask_patch_size, self.patch_size)

    def __call__(self, examples: Examples) -> dict[str, torch.Tensor]:
        """Collates.

        Returns:
            `pixel_values` `(batch, channels, height, width)` float32, normalised and whole; `bool_masked_pos`
            `(batch, num_patches)`, true on the patches to hide.
        """
        images = _batch(examples, self.rule, self.seed, self.mean)
        mask = random_unit_mask(
            self.seed,
            [example["key"] for example in examples],
            (images.shape[2], images.shape[3]),
            self.patch_size,
            self.mask_ratio,
            self.mask_patch_size,
        )
        return {"pixel_values": normalize_images(images, self.mean, self.std), "bool_masked_pos": mask}


@dataclass(frozen=True)
class PatchPredictionCollator:
    """Examples -> corrupted images whose patches' mean colours are to be predicted (Dosovitskiy et al. 2020, B.1.2).

    Args:
        rule: how to augment, without mixing; None for evaluation, whose masks are those of epoch 0.
        seed: names everything drawn.
        mean, std: of each channel, or one number for all; for values in [0, 1].
        patch_size: the model's.
        ratio: share of the patches to predict.
        bits: bits per channel of the colours; the model's `colour_bits`.

    Raises:
        ValueError: a field outside what is allowed.
    """

    rule: AugmentationRule | None
    seed: int
    mean: float | Sequence[float]
    std: float | Sequence[float]
    patch_size: Size
    ratio: float = 0.5
    bits: int = COLOUR_BITS

    def __post_init__(self) -> None:
        _refuse_mixing(self.rule)
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} must lie in (0, 1).")
        if self.bits < 1:
            raise ValueError(f"bits={self.bits} must be at least 1.")

    def __call__(self, examples: Examples) -> dict[str, torch.Tensor]:
        """Collates.

        Returns:
            `pixel_values` `(batch, channels, height, width)` float32, normalised, with some patches replaced;
            `bool_masked_pos` `(batch, num_patches)`, true where the mask token goes; `labels` `(batch, num_patches)`,
            the colours before corruption, -100 where nothing is to be predicted.
        """
        images = _batch(examples, self.rule, self.seed, self.mean)
        rows, columns = patch_grid((images.shape[2], images.shape[3]), self.patch_size)
        keys: list[Key] = [example["key"] for example in examples]
        selected = random_patches(patch_noise(self.seed, keys, rows * columns), self.ratio)
        uniforms = corruption_uniforms(self.seed, keys, rows * columns)
        corrupted, masked = corrupt_patches(images, selected, uniforms, self.patch_size)
        labels = patch_colour_classes(images, self.patch_size, self.bits)
        return {
            "pixel_values": normalize_images(corrupted, self.mean, self.std),
            "bool_masked_pos": masked,
            "labels": labels.masked_fill(~selected, IGNORE_INDEX),
        }
