"""The mean of the last checkpoints' weights as one model (Vaswani et al. 2017, section 6.1)."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average_checkpoints(folders: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of each weight, summed in float64 and returned in the dtype that the weights have.

    Raises:
        ValueError: no folders, or models of different weights.
    """
    if not folders:
        raise ValueError("There are no checkpoints to average.")
    first = load_file(folders[0] / WEIGHTS)
    sums = {name: weight.double() for name, weight in first.items()}
    for folder in folders[1:]:
        weights = load_file(folder / WEIGHTS)
        shapes, expected = ({name: w.shape for name, w in given.items()} for given in (weights, sums))
        if shapes != expected:
            differing = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
            raise ValueError(f"{folder} and {folders[0]} are different models; they differ in {', '.join(differing)}.")
        for name, weight in weights.items():
            sums[name] += weight
    return {name: (total / len(folders)).to(first[name].dtype) for name, total in sums.items()}


def save_average(folders: Sequence[Path], target: Path) -> None:
    """Puts the average of checkpoints in place of the weights of the model folder `target`, all at once.

    Raises:
        ValueError: as `average_checkpoints`.
    """
    with safe_open(folders[-1] / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    aside = target / f"{WEIGHTS}.partial"
    save_file(average_checkpoints(folders), aside, metadata)
    aside.replace(target / WEIGHTS)


def copy_weights(source: Path, target: Path) -> None:
    """Puts the weights of the model folder `source` in place of those of `target`, all at once."""
    aside = target / f"{WEIGHTS}.partial"
    shutil.copyfile(source / WEIGHTS, aside)
    aside.replace(target / WEIGHTS)
