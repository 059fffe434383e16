"""Ending the communication between processes."""

from typing import Any

import torch
from accelerate import Accelerator

# Groups of runs that have ended, kept until Python ends.
_LEFT: list[Any] = []


def leave_group(accelerator: Accelerator) -> None:
    """Ends trackers and communication of a run.

    Were DDP the last to let go of the group, it would wait, with Python's lock held, for a thread of the group that
    may need this lock (torch 2.13, gloo): one run in some forty was seen to hang at its end.
    """
    if torch.distributed.is_initialized():
        _LEFT.append(torch.distributed.group.WORLD)
    accelerator.end_training()
