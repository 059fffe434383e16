"""An exponential moving average of the weights (Polyak & Juditsky 1992), the model that is evaluated and kept."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hf_seqmodels.training.errors import CheckpointError
from hf_seqmodels.training.precision import swapped

FILE = "ema.safetensors"


class AveragedWeights:
    """float32 averages of a model's trained weights: average <- d · average + (1 - d) · weight after each step.

    Frozen weights and buffers are not averaged: the averaged model has the model's own.

    Args:
        model: whose weights the averages can stand in for.
        trained: what the optimiser changes, by the model's names: its own parameters or their float32 masters.
        decay: d after many steps, in (0, 1); see `decay_at`.
    """

    def __init__(self, model: nn.Module, trained: Iterable[tuple[str, nn.Parameter]], decay: float):
        self.decay = decay
        sources = {name: parameter for name, parameter in trained if parameter.requires_grad}
        weights = dict(model.named_parameters())
        self._sources = list(sources.values())
        self._weights = [weights[name] for name in sources]
        self._averages = {name: source.detach().to(torch.float32, copy=True) for name, source in sources.items()}

    def decay_at(self, step: int) -> float:
        """d at optimiser step 1, 2, …: min(decay, (1 + step) / (10 + step)), so that the first weights fade soon.

        The warm-up is that of TensorFlow's ExponentialMovingAverage, with which EfficientNet and others were trained.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights that optimiser step `step` (from 1) has left."""
        values = [source.detach().float() for source in self._sources]
        torch._foreach_lerp_(list(self._averages.values()), values, 1.0 - self.decay_at(step))

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model holds the averages inside, in the dtype that its weights have then; untouched afterwards."""
        values = [average.to(weight.dtype) for average, weight in zip(self._averages.values(), self._weights)]
        with swapped(self._weights, values):
            yield

    def save(self, folder: Path) -> None:
        """Writes `ema.safetensors`, under the model's names."""
        save_file(self._averages, folder / FILE)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            CheckpointError: the file holds other weights than are trained here.
        """
        saved = load_file(folder / FILE)
        if saved.keys() != self._averages.keys():
            differing = sorted(saved.keys() ^ self._averages.keys())
            raise CheckpointError(f"{folder / FILE} averages other weights than are trained here: {differing}.")
        for name, average in self._averages.items():
            average.copy_(saved[name])


def check_file(folder: Path, average: AveragedWeights | None) -> None:
    """Compares whether a checkpoint holds averages with whether they are wanted.

    Raises:
        CheckpointError: it has none and the run averages, or it has some and the run does not.
    """
    exists = (folder / FILE).is_file()
    if average is not None and not exists:
        raise CheckpointError(
            f"{folder} has no {FILE}: it was trained without averaged weights, and this run has "
            f"ema_decay={average.decay}. Resume with ema_decay=0."
        )
    if average is None and exists:
        raise CheckpointError(
            f"{folder} has averaged weights ({FILE}), which ema_decay=0 would lose. "
            "Resume with the ema_decay that it was trained with."
        )
