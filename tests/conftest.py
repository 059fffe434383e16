"""What every test relies on: no network, one thread per process, fixed seeds, a cache folder of its own."""

import atexit
import os
import random
import shutil
import tempfile

# Before torch, transformers and datasets are imported: they read these once. pytest-xdist's workers and the programs
# that tests start inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for _library in ("HF_HUB", "HF_DATASETS", "HF_EVALUATE"):
    os.environ[f"{_library}_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _fresh_accelerate_state() -> None:
    """Accelerate decides once in a process on devices and process groups; a test must not inherit another's decision,
    nor must the processes that it forks."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
