"""Datasets that `save_to_disk` left in a folder; `load_dataset` takes such folders for something else."""

from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

_MARKS = ("state.json", "dataset_dict.json")


def load_saved(name: str) -> Dataset | DatasetDict | None:
    """The dataset in the folder `name`; `None` if it is no such folder."""
    if not any((Path(name) / mark).is_file() for mark in _MARKS):
        return None
    return load_from_disk(name)
