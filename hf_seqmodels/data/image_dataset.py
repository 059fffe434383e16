"""Prepared images as a dataset of `(epoch, shard, index)` keys, with the partners of images that are to be mixed."""

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset

from .random import Key, generator


class PixelRows:
    """The column `pixels` of a dataset, row by row, read where it lies: in memory or in a mapped file.

    Args:
        dataset: prepared images; selections and orders of them cost nothing more.
        size: bytes of an image.

    Raises:
        ValueError: a row of another size.
    """

    def __init__(self, dataset: Dataset, size: int):
        column = dataset.data.column("pixels")
        # `take` would copy a selection into memory; the rows it names are looked up instead.
        selection = dataset._indices
        self._rows = None if selection is None else selection.column(0).to_numpy()
        lengths = pc.unique(pc.binary_length(column)).to_pylist()
        if any(length != size for length in lengths):
            raise ValueError(f"The dataset's images have {sorted(lengths)} bytes, not {size} as the shape asks.")
        self._chunks = [_view(chunk, size) for chunk in column.chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks])

    def __len__(self) -> int:
        return len(self._rows) if self._rows is not None else int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> np.ndarray:
        """`(size,)` uint8, read-only."""
        place = row if self._rows is None else int(self._rows[row])
        chunk = int(self._ends.searchsorted(place, side="right"))
        return self._chunks[chunk][place - (int(self._ends[chunk - 1]) if chunk else 0)]


def _view(chunk: pa.Array, size: int) -> np.ndarray:
    """`(len(chunk), size)` uint8 over the memory of an array of equally long byte strings."""
    _, offsets, data = chunk.buffers()
    width = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    start = int(np.frombuffer(offsets, dtype=width, count=1, offset=chunk.offset * np.dtype(width).itemsize)[0])
    return np.frombuffer(data, dtype=np.uint8, count=len(chunk) * size, offset=start).reshape(len(chunk), size)


class ImageDataset:
    """Images for `BatchStream`: one shard, every image of length 1. Implements `ShardedDataset`.

    Args:
        dataset: prepared images, see `load_images`.
        shape: channels, height and width.
        seed: names the partners.
        mixing_probability: how often an image comes with another one to be mixed with (mixup, CutMix): the rule's
            for training, 0 for evaluation.

    Raises:
        ValueError: an image has not as many bytes as `shape`; mixing of unlabelled images or of fewer than two; a
            probability outside [0, 1].
    """

    num_shards = 1

    def __init__(self, dataset: Dataset, shape: tuple[int, int, int], seed: int, mixing_probability: float = 0.0):
        if not 0 <= mixing_probability <= 1:
            raise ValueError(f"mixing_probability={mixing_probability} must lie in [0, 1].")
        labelled = "label" in dataset.column_names
        if mixing_probability and (len(dataset) < 2 or not labelled):
            raise ValueError(
                f"mixing_probability={mixing_probability} needs at least two images and labels; there are "
                f"{len(dataset)} images, {'labelled' if labelled else 'unlabelled'}."
            )
        self.dataset = dataset
        self.shape = shape
        self.seed = seed
        self.mixing_probability = mixing_probability
        self._labels = dataset.with_format("numpy")["label"][:].tolist() if labelled else None
        self._pixels  # noqa: B018  # a wrong shape shall show here, not in a worker

    @cached_property
    def _pixels(self) -> PixelRows:
        return PixelRows(self.dataset, int(np.prod(self.shape)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the views: pickled they would be copies of all pixels, where the dataset names its files."""
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}

    def __len__(self) -> int:
        return len(self.dataset)

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_images,)` ones, in every epoch. Raises IndexError past the only shard."""
        if shard != 0:
            raise IndexError(f"shard={shard}: there is only shard 0.")
        return np.ones(len(self), dtype=np.int64)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """An image and whom it is mixed with, a pure function of seed and key.

        Returns:
            `image` `(channels, height, width)` uint8; `key`; `label`, if labelled; and, if it is to be mixed,
            `partner` and `partner_label` of another image.
        """
        key = Key(*key)
        example: dict[str, Any] = {"image": self._image(key.index), "key": key}
        if self._labels is not None:
            example["label"] = self._labels[key.index]
        if self.mixing_probability and self._labels is not None:
            rng = generator(self.seed, "partner", *key)
            if rng.random() < self.mixing_probability:
                partner = int(rng.integers(len(self) - 1))
                partner += partner >= key.index
                example["partner"] = self._image(partner)
                example["partner_label"] = self._labels[partner]
        return example

    def _image(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._pixels[row].reshape(self.shape).copy())
