"""Where images come from: embedded digits, image folders, parquet files, or any dataset of `datasets`; undecoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from sklearn.datasets import load_digits

from .errors import CorpusError
from .random import generator
from .readers import check_readable
from .saved import load_saved
from .stratification import class_order

ON_CORRUPT_IMAGE = ("stop", "skip")
SPLITS = ("train", "validation", "test")
DIGITS_VALIDATION = 360
_DIGITS_SEED = 0
_DIGITS_MAXIMUM = 16
_FOLDER_COLUMNS = ("image", "label")


@dataclass(frozen=True)
class ImageSource:
    """Where images come from: folders, or parquet files, or `dataset_name`, or none of them for the embedded digits.

    Args:
        embedded: scikit-learn's digits, asked for by name; the default when nothing else is given.
        train_folder, validation_folder, test_folder: folders with a sub-folder of images for each class, or with
            images alone, which are unlabelled (unless a metadata file, as `datasets` reads it, has labels).
        train_file, validation_file, test_file: parquet files with a column of images and one of labels.
        dataset_name: a name on the Hub or a local dataset folder.
        dataset_config_name: the dataset's configuration, if it has several.
        image_column: the column of the images; see `decode_image` for what it may hold.
        label_column: the column of the labels, class ids or names; None for unlabelled images.
        on_corrupt_image: `stop`, with an error that names the image, or `skip` and count them.
        cache_dir: where prepared images are kept; None is the `datasets` library's folder.
        num_proc: processes that decode images.

    Raises:
        ValueError: sources of several kinds, validation or test data with no training data, or a field outside what
            is allowed.
    """

    embedded: bool = False
    train_folder: str | None = None
    validation_folder: str | None = None
    test_folder: str | None = None
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    image_column: str = "image"
    label_column: str | None = "label"
    on_corrupt_image: str = "stop"
    cache_dir: str | None = None
    num_proc: int | None = None

    def __post_init__(self) -> None:
        given = {
            "embedded": self.embedded,
            "folders": bool(self.folders),
            "files": bool(self.files),
            "dataset_name": self.dataset_name is not None,
        }
        kinds = [kind for kind, is_given in given.items() if is_given]
        if len(kinds) > 1:
            raise ValueError(f"Images come from {' and '.join(kinds)}: give one of them.")
        for kind, paths in (("folder", self.folders), ("file", self.files)):
            if paths and "train" not in paths:
                raise ValueError(f"train_{kind} is missing beside {', '.join(f'{split}_{kind}' for split in paths)}.")
        if self.on_corrupt_image not in ON_CORRUPT_IMAGE:
            raise ValueError(
                f"on_corrupt_image={self.on_corrupt_image!r} must be one of {', '.join(ON_CORRUPT_IMAGE)}."
            )
        if self.num_proc is not None and self.num_proc < 1:
            raise ValueError(f"num_proc={self.num_proc} must be at least 1, or None for this process.")

    @property
    def folders(self) -> dict[str, str]:
        """Split name to folder, of those given."""
        return _given((self.train_folder, self.validation_folder, self.test_folder))

    @property
    def files(self) -> dict[str, str]:
        """Split name to parquet file, of those given."""
        return _given((self.train_file, self.validation_file, self.test_file))

    def describe(self, split: str) -> str:
        """What errors call a split."""
        path = self.folders.get(split) or self.files.get(split)
        return path or f"{self.dataset_name or 'the embedded digits'} ({split})"


def _given(paths: tuple[str | None, ...]) -> dict[str, str]:
    return {split: path for split, path in zip(SPLITS, paths) if path}


def load_tables(source: ImageSource) -> dict[str, Dataset]:
    """The splits as they lie: columns `source.image_column`, undecoded, and `source.label_column` where labelled.

    Raises:
        CorpusError: a file or folder that is missing, unreadable or has no images; no such column.
    """
    if source.folders:
        return {split: _checked(_from_folder(path, source), split, source) for split, path in source.folders.items()}
    if source.files:
        return {split: _checked(_from_file(path, source), split, source) for split, path in source.files.items()}
    if source.dataset_name:
        return {split: _checked(table, split, source) for split, table in _from_name(source).items()}
    return _embedded_digits(source)


def _checked(table: Dataset, split: str, source: ImageSource) -> Dataset:
    """The table's two columns, after a look that they are there."""
    columns = [source.image_column]
    # A folder with no sub-folders says by that alone that its images are unlabelled.
    flat = bool(source.folders) and table.column_names == columns
    if source.label_column is not None and not flat:
        columns.append(source.label_column)
    for field, column in zip(("image_column", "label_column"), columns):
        if column not in table.column_names:
            hint = ", or label_column=None if the images are unlabelled" if field == "label_column" else ""
            raise CorpusError(
                f"{source.describe(split)} has no column {column!r}; it has {', '.join(table.column_names)}. Name one "
                f"with {field}{hint}."
            )
    if len(table) == 0:
        raise CorpusError(f"{source.describe(split)} has no images.")
    table = table.select_columns(columns)
    if isinstance(table.features[source.image_column], Image):
        table = table.cast_column(source.image_column, Image(decode=False))
    return table


def _from_folder(path: str, source: ImageSource) -> Dataset:
    folder = Path(path)
    if not folder.is_dir():
        raise CorpusError(f"{path}: {'is not a folder' if folder.exists() else 'no such folder'}.")
    depths = {len(found.relative_to(folder).parts) for found in folder.rglob("*") if _is_image(found)}
    if not depths:
        raise CorpusError(f"{path} has no images (files ending in .png, .jpg, … as Pillow knows them).")
    has_metadata = any(folder.rglob("metadata.*"))
    if len(depths) > 1 and not has_metadata:
        raise CorpusError(
            f"{path} has images at different depths: put all of them in one sub-folder for each class, or all in the "
            "folder itself, unlabelled."
        )
    table = _loaded(
        path,
        "imagefolder",
        # Not data_dir: a class or file with "test" in its name would be taken for a split, and the others dropped.
        data_files={"train": [f"{escape(str(folder.resolve()))}/**"]},
        drop_labels=depths == {1},
        cache_dir=source.cache_dir,
    )
    names = dict(zip(_FOLDER_COLUMNS, (source.image_column, source.label_column)))
    return table.rename_columns({old: new for old, new in names.items() if old in table.column_names and new})


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ImageFolder.EXTENSIONS and path.is_file()


def _from_file(path: str, source: ImageSource) -> Dataset:
    check_readable(path)
    return _loaded(path, "parquet", data_files={"train": [escape(path)]}, cache_dir=source.cache_dir)


def _loaded(path: str, builder: str, **settings: object) -> Dataset:
    try:
        return load_dataset(builder, split="train", **settings)
    except (DatasetGenerationError, ValueError) as error:
        raise CorpusError(f"{path} cannot be read: {error.__cause__ or error}") from error


def _from_name(source: ImageSource) -> Mapping[str, Dataset]:
    loaded = load_saved(str(source.dataset_name))
    if isinstance(loaded, Dataset):
        return {"train": loaded}
    if loaded is None:
        loaded = load_dataset(source.dataset_name, source.dataset_config_name, cache_dir=source.cache_dir)
    if "train" not in loaded:
        raise CorpusError(f"{source.dataset_name} has no split 'train'; it has {', '.join(map(str, loaded))}.")
    return {split: loaded[split] for split in SPLITS if split in loaded}


def _embedded_digits(source: ImageSource) -> dict[str, Dataset]:
    """1,797 handwritten digits of 8 × 8 pixels (Alpaydin & Kaynak 1998, UCI), 360 of them always held out."""
    digits = load_digits()
    grey = np.rint(digits.images * (255 / _DIGITS_MAXIMUM)).astype(np.uint8)
    columns = {source.image_column: list(grey)}
    features = {source.image_column: List(List(Value("uint8")))}
    if source.label_column is not None:
        columns[source.label_column] = digits.target
        features[source.label_column] = ClassLabel(names=list(map(str, digits.target_names)))
    table = Dataset.from_dict(columns, features=Features(features))
    order = class_order(digits.target, generator(_DIGITS_SEED, "digits"), equal=False)
    held_out, rest = np.sort(order[:DIGITS_VALIDATION]), np.sort(order[DIGITS_VALIDATION:])
    return {"train": table.select(rest), "validation": table.select(held_out)}
