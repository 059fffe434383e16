"""Images prepared for a model, once: decoded, of one size and channel count, labelled by class ids, cached on disk."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from datasets.fingerprint import Hasher

from .errors import CorpusError
from .image_dataset import PixelRows
from .image_decoding import DECODING_ERRORS, decode_image
from .image_sources import ImageSource, load_tables
from .random import generator
from .stratification import class_order

logger = logging.getLogger(__name__)

# Part of every cache's name: to be raised when the same image comes to make other pixels.
PREPARATION_VERSION = 1
STATISTICS_IMAGES = 10_000
_PREPARATION_BATCH = 256
_HIDDEN_LABEL = -1


@dataclass(frozen=True)
class ImageSplits:
    """Prepared images.

    Args:
        datasets: split name ("train", "validation", "test" where there is one) to images: a column `pixels` of
            channels · height · width bytes and, if labelled, an integer column `label`.
        names: the classes; a label is a position here. None if the training images are unlabelled.
    """

    datasets: dict[str, Dataset]
    names: list[str] | None


def load_images(
    source: ImageSource, image_size: tuple[int, int], num_channels: int, validation_share: float, seed: int
) -> ImageSplits:
    """Loads images and prepares them; sources that lie on disk are prepared once and then come from the cache.

    Args:
        source: where from.
        image_size: height and width that every image is brought to; see `decode_image`.
        num_channels: channels that every image is brought to.
        validation_share: share of the training images to validate on if the source has no validation images; they are
            drawn at random, as often from each class as it occurs.
        seed: names that draw.

    Returns:
        The splits. A test split whose labels are all hidden (-1) is left out.

    Raises:
        CorpusError: a file or folder that is missing or has no images, no such column, a corrupt image (unless they
            are skipped), a label that is not among the training data's classes.
        ValueError: `validation_share` leaves no image on one of the two sides.
    """
    tables = load_tables(source)
    column = source.label_column
    names = _class_names(tables["train"], source) if column in tables["train"].column_names else None
    datasets = {}
    for split, table in tables.items():
        labelled = names is not None and column in table.column_names
        if split == "test" and labelled and table.unique(column) == [_HIDDEN_LABEL]:
            continue
        datasets[split] = _prepared(table, split, source, image_size, num_channels, names)
    if "validation" not in datasets:
        train = datasets["train"]
        count = round(len(train) * validation_share)
        if not 0 < count < len(train):
            raise ValueError(
                f"validation_share={validation_share} of {len(train)} training images leaves none on one of the sides."
            )
        order = class_order(_labels(train), generator(seed, "validation"), equal=False)
        datasets["train"] = train.select(np.sort(order[count:]))
        datasets["validation"] = train.select(np.sort(order[:count]))
    return ImageSplits(datasets, names)


def subset(dataset: Dataset, size: int | float, seed: int) -> Dataset:
    """A random part that has every class equally often, for experiments with few labels.

    Classes that run out leave their places to the others. With the same seed a smaller part lies within a larger one.

    Args:
        dataset: prepared images.
        size: a number of images, or a share below 1.
        seed: names the draw.

    Raises:
        ValueError: `size` leaves no image, or there are not so many.
    """
    count = round(len(dataset) * size) if isinstance(size, float) and size < 1 else int(size)
    if not 0 < count <= len(dataset):
        raise ValueError(f"size={size} makes {count} of {len(dataset)} images: it must be 1 to {len(dataset)}.")
    order = class_order(_labels(dataset), generator(seed, "subset"), equal=True)
    return dataset.select(np.sort(order[:count]))


def channel_statistics(dataset: Dataset, shape: tuple[int, int, int]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel's pixels, scaled to [0, 1], over at most 10,000 images.

    Args:
        dataset: prepared images; with more of them, evenly spaced ones are looked at.
        shape: channels, height and width.

    Returns:
        Means and standard deviations, one a channel; the deviation of a constant channel is given as 1.
    """
    rows = PixelRows(dataset, int(np.prod(shape)))
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_IMAGES)).astype(np.int64))
    total = np.zeros(shape[0], dtype=np.int64)
    squares = np.zeros(shape[0], dtype=np.int64)
    for row in chosen.tolist():
        pixels = rows[row].reshape(shape[0], -1).astype(np.int64)
        total += pixels.sum(1)
        squares += (pixels * pixels).sum(1)
    count = len(chosen) * shape[1] * shape[2]
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation == 0] = 255
    return (mean / 255).tolist(), (deviation / 255).tolist()


def _labels(dataset: Dataset) -> np.ndarray:
    """`(num_images,)` class ids; all one class where there are no labels."""
    if "label" not in dataset.column_names:
        return np.zeros(len(dataset), dtype=np.int64)
    return np.asarray(dataset.with_format("numpy")["label"][:])


def _class_names(table: Dataset, source: ImageSource) -> list[str]:
    """The classes of the training data: those of a ClassLabel, numbers up to the largest, or names in their order."""
    column = source.label_column
    feature = table.features[column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    values = table.unique(column)
    if all(isinstance(value, str) for value in values):
        return sorted(values, key=lambda name: (int(name), "") if name.isdecimal() else (0, name))
    if all(isinstance(value, int) and value >= 0 for value in values):
        return [str(number) for number in range(max(values) + 1)]
    wrong = next(value for value in values if not isinstance(value, int | str) or value == _HIDDEN_LABEL)
    raise CorpusError(
        f"{source.describe('train')}: label {wrong!r} in column {column!r} must be a class name or an id from 0 on."
    )


def _label_ids(table: Dataset, split: str, source: ImageSource, names: list[str]) -> dict[Any, int]:
    """What stands in the label column -> class id."""
    column = source.label_column
    if column not in table.column_names:
        raise CorpusError(f"{source.describe(split)} has no labels, while the training images have.")
    feature = table.features[column]
    ids: dict[Any, int] = {name: number for number, name in enumerate(names)}
    mapping = {}
    for value in table.unique(column):
        named = (
            feature.names[value] if isinstance(feature, ClassLabel) and value not in (None, _HIDDEN_LABEL) else value
        )
        known = isinstance(named, int) and 0 <= named < len(names)
        if not known and named not in ids:
            row = list(table[column]).index(value) + 1
            raise CorpusError(
                f"{source.describe(split)}, row {row}: label {named!r} is not among those of the training data: "
                f"{', '.join(names)}."
            )
        mapping[value] = named if known else ids[named]
    return mapping


def _prepared(
    table: Dataset,
    split: str,
    source: ImageSource,
    image_size: tuple[int, int],
    num_channels: int,
    names: list[str] | None,
) -> Dataset:
    where = source.describe(split)
    settings: dict[str, Any] = {
        "image_column": source.image_column,
        "label_column": source.label_column,
        "ids": None if names is None else _label_ids(table, split, source, names),
        "image_size": image_size,
        "num_channels": num_channels,
        "skip": source.on_corrupt_image == "skip",
        "where": where,
    }
    features = {"pixels": Value("large_binary")} | ({} if names is None else {"label": Value("int64")})
    prepared = table.map(
        prepare_images,
        batched=True,
        batch_size=_PREPARATION_BATCH,
        with_indices=True,
        remove_columns=table.column_names,
        features=Features(features),
        fn_kwargs=settings,
        num_proc=source.num_proc,
        new_fingerprint=Hasher.hash((PREPARATION_VERSION, table._fingerprint, sorted(settings.items()))),
        desc=f"Preparing images ({split})",
    )
    if len(prepared) < len(table):
        logger.warning("%s: %d of %d images are corrupt, left out.", where, len(table) - len(prepared), len(table))
    if len(prepared) == 0:
        raise CorpusError(f"{where} has no images that can be decoded.")
    return prepared


def prepare_images(
    batch: dict[str, list[Any]],
    rows: list[int],
    image_column: str,
    label_column: str | None,
    ids: dict[Any, int] | None,
    image_size: tuple[int, int],
    num_channels: int,
    skip: bool,
    where: str,
) -> dict[str, list[Any]]:
    """Rows of undecoded images (and labels) -> rows of pixels (and class ids); corrupt ones are left out if `skip`.

    Raises:
        CorpusError: a corrupt image, named by its path or, where it has none, by its row and column.
    """
    pixels, labels = [], []
    for place, value in enumerate(batch[image_column]):
        try:
            pixels.append(decode_image(value, image_size, num_channels))
        except DECODING_ERRORS as error:
            if skip:
                continue
            path = value.get("path") if isinstance(value, dict) and value["bytes"] is None else None
            name = path or f"{where}, row {rows[place] + 1}, column {image_column!r}"
            raise CorpusError(
                f"{name}: the image cannot be decoded ({error}). Remove it, or pass over such with "
                "on_corrupt_image=skip."
            ) from error
        if ids is not None and label_column is not None:
            labels.append(ids[batch[label_column][place]])
    return {"pixels": pixels} if ids is None else {"pixels": pixels, "label": labels}


__all__ = ["ImageSource", "ImageSplits", "channel_statistics", "load_images", "prepare_images", "subset"]
