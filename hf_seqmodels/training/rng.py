"""The random state of a process, saved and restored whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hf_seqmodels.training.errors import CheckpointError


def capture() -> dict[str, torch.Tensor]:
    """State of PyTorch's CPU generator and of each visible GPU's: name -> bytes. Data draws nothing from these."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states.update({f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())})
    return states


def restore(states: dict[str, torch.Tensor]) -> None:
    """Sets every generator of `capture`.

    Raises:
        CheckpointError: `states` are those of other devices.
    """
    expected = set(capture())
    if set(states) != expected:
        raise CheckpointError(
            f"The random state is that of {sorted(states)}, this process has {sorted(expected)}: "
            "resume on the same kind and number of devices."
        )
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        if name != "cpu":
            torch.cuda.set_rng_state(state, name)


@contextmanager
def preserved() -> Iterator[None]:
    """What happens inside draws no random number that training would have drawn."""
    states = capture()
    try:
        yield
    finally:
        restore(states)


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rng-{rank}.safetensors"


def save(folder: Path, rank: int) -> None:
    """Writes this process's state."""
    save_file(capture(), _file(folder, rank))


def load(folder: Path, rank: int) -> None:
    """Restores this process's state.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        states = load_file(_file(folder, rank))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Cannot restore the random state from {_file(folder, rank)}: {error}.") from error
    restore(states)
