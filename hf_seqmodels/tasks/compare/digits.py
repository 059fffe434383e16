"""Scikit-learn's digits for the claims about ViT: 8×8 images, of which the same 360 are always held out to test on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_seqmodels.data.augmentation import CROP_UNIFORMS, padded_crop
from hf_seqmodels.data.image_sources import ImageSource, load_tables
from hf_seqmodels.data.random import generator
from hf_seqmodels.data.stratification import class_order
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.pixels import normalize_images

from .training import Batch

NUM_CLASSES = 10
IMAGE_SIZE = 8
_CROP_PADDING = 1


@dataclass(frozen=True)
class Digits:
    """Images and their classes.

    Args:
        images: `(num_images, 1, 8, 8)` uint8.
        labels: `(num_images,)` int64, the digit.
        mean, std: of the pixels to train on, scaled to [0, 1].
    """

    images: torch.Tensor
    labels: torch.Tensor
    mean: float
    std: float

    def __len__(self) -> int:
        return len(self.labels)

    def pixel_values(self, rows: Any = slice(None)) -> torch.Tensor:
        """`(rows, 1, 8, 8)` normalised floats, not augmented."""
        return normalize_images(self.images[rows], self.mean, self.std)

    def draw(self, count: int, seed: int, number: int) -> "Digits":
        """`count` of the images, each class equally often to within one; a smaller draw is part of a larger one.

        Args:
            seed, number: name the draw.

        Raises:
            ValueError: there are not so many images, or fewer than one is asked for.
        """
        if not 0 < count <= len(self):
            raise ValueError(f"count={count} must be 1 to {len(self)}, as many images as there are.")
        rows = class_order(self.labels.numpy(), generator(seed, "digits drawn", number), equal=True)[:count]
        return Digits(self.images[rows], self.labels[rows], self.mean, self.std)

    def batches(self, batch_size: int, seed: int, number: int, labelled: bool = True) -> Callable[[int], Batch]:
        """What `fit` takes: batches for ever, all images in a new order in each epoch; a batch may span several.

        Every image is shifted by up to one pixel each way, anew each time; what comes in is reflected at the border.

        Args:
            batch_size: images of a step.
            seed, number: name order and shifts.
            labelled: whether the batch has `labels`, too.
        """
        total = len(self)

        @lru_cache(maxsize=2)
        def order(epoch: int) -> np.ndarray:
            return generator(seed, "digits order", number, epoch).permutation(total)

        def batch_of(step: int) -> Batch:
            places = range(step * batch_size, (step + 1) * batch_size)
            rows = [int(order(place // total)[place % total]) for place in places]
            uniforms = generator(seed, "digits crop", number, step).random((batch_size, CROP_UNIFORMS))
            cropped = padded_crop(self.images[rows], torch.from_numpy(uniforms), _CROP_PADDING)
            batch = {"pixel_values": normalize_images(cropped, self.mean, self.std)}
            return {**batch, "labels": self.labels[rows]} if labelled else batch

        return batch_of


@lru_cache(maxsize=1)
def read_digits() -> tuple[Digits, Digits]:
    """1,437 digits to train on and 360 to test on (Alpaydin & Kaynak 1998, UCI); no network."""
    source = ImageSource()
    tables = load_tables(source)
    images = {split: np.array(table[source.image_column], dtype=np.uint8) for split, table in tables.items()}
    mean, std = images["train"].mean() / 255, images["train"].std() / 255
    train, test = (
        Digits(
            torch.from_numpy(images[split]).unsqueeze(1),
            torch.tensor(tables[split][source.label_column]),
            float(mean),
            float(std),
        )
        for split in ("train", "validation")
    )
    return train, test


def vit_config(sizes: dict[str, Any]) -> SeqViTConfig:
    """A SeqViT's configuration for the digits: ten classes, told by the mean of the patches.

    Args:
        sizes: its other fields.
    """
    fields: dict[str, Any] = {"num_channels": 1, "num_labels": NUM_CLASSES, "pooling": "mean"}
    return SeqViTConfig(image_size=IMAGE_SIZE, **fields, **sizes)


def vit_classifier(sizes: dict[str, Any]) -> SeqViTForImageClassification:
    """A new classifier of `vit_config(sizes)`."""
    return SeqViTForImageClassification(vit_config(sizes))


@torch.inference_mode()
def accuracy(classifier: nn.Module, pixel_values: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images `(batch, 1, 8, 8)` that a model in evaluation mode gives their labels `(batch,)`."""
    return float((classifier(pixel_values=pixel_values).logits.argmax(-1) == labels).float().mean())


__all__ = ["IMAGE_SIZE", "NUM_CLASSES", "Digits", "accuracy", "read_digits", "vit_classifier", "vit_config"]
