"""The splits of a labelled task, wherever it comes from, brought to the columns of `read_labelled`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, List, load_dataset

from .labelled import Columns, FileFormat, Row, read_labelled, select
from .labels import label_names


@dataclass(frozen=True)
class LabelledSplits:
    """A task's data.

    Args:
        datasets: split name ("train", "validation", "test" where there is one) to examples.
        sources: split name to what errors call it.
        names: the label names; an id is a position here.
    """

    datasets: dict[str, Dataset]
    sources: dict[str, str]
    names: list[str]

    def with_validation(self, share: float, seed: int) -> "LabelledSplits":
        """These splits, or, if none is called validation, with a random share of the training data made into it.

        Raises:
            ValueError: the training data is too small to be divided.
        """
        if "validation" in self.datasets:
            return self
        train = self.datasets["train"]
        size = round(len(train) * share)
        if not 0 < size < len(train):
            raise ValueError(f"{self.sources['train']}: {len(train)} examples leave none for a share of {share}.")
        divided = train.train_test_split(test_size=size, seed=seed)
        datasets = {**self.datasets, "train": divided["train"], "validation": divided["test"]}
        return LabelledSplits(datasets, {**self.sources, "validation": self.sources["train"]}, self.names)


def from_files(
    paths: Mapping[str, str | None], columns: Columns, file_format: FileFormat, encoding: str
) -> LabelledSplits:
    """Splits from local files; a path of None is a split that isn't there. Raises ValueError as `read_labelled`."""
    sources = {split: path for split, path in paths.items() if path is not None}
    datasets = {split: read_labelled(path, columns, file_format, encoding) for split, path in sources.items()}
    return LabelledSplits(datasets, sources, label_names(datasets["train"]))


def from_datasets(name: str, config_name: str | None, columns: Columns) -> LabelledSplits:
    """Splits of a dataset on the Hub or in a folder.

    Raises:
        ValueError: there is no training split or not these columns.
    """
    loaded = load_dataset(name, config_name)
    if "train" not in loaded:
        raise ValueError(f"{name} has no split 'train'; it has {', '.join(map(str, loaded))}.")
    return from_dataset_dict(loaded, columns, name)


def from_dataset_dict(loaded: DatasetDict, columns: Columns, name: str) -> LabelledSplits:
    """Splits already loaded; label ids become names where the dataset knows them. Unlabelled tests are left out."""
    feature = loaded["train"].features.get(columns.label)
    feature = getattr(feature, "feature", feature) if isinstance(feature, List) else feature
    class_label = feature if isinstance(feature, ClassLabel) else None
    datasets, sources = {}, {}
    for split in ("train", "validation", "test"):
        if split not in loaded:
            continue
        if split == "test" and _is_unlabelled(loaded[split], columns.label):
            continue
        sources[split] = f"{name} ({split})"
        datasets[split] = select(_rows(loaded[split], columns.label, class_label), columns, sources[split])
    names = list(class_label.names) if class_label is not None else label_names(datasets["train"])
    return LabelledSplits(datasets, sources, names)


def _is_unlabelled(dataset: Dataset, label: str) -> bool:
    """Whether it is a benchmark's hidden test set, which has -1 in place of every label."""
    return label in dataset.column_names and set(map(str, dataset[label])) == {"-1"}


def _rows(dataset: Dataset, label: str, class_label: ClassLabel | None) -> Iterator[Row]:
    for number, row in enumerate(dataset, start=1):
        values: dict[str, Any] = dict(row)
        if class_label is not None and label in values:
            values[label] = class_label.int2str(values[label])  # an id, or a list of ids
        yield number, values
