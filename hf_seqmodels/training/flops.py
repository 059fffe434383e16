"""FLOPs of models, and the machine's own matrix-product rate, against which a run's speed is read."""

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hf_seqmodels.models.recurrent_layernorm import NUM_GATES
from hf_seqmodels.training import rng


def measure_gemm_rate(dtype: torch.dtype, device: torch.device, size: int | None = None) -> float:
    """Best rate, in FLOP/s, of a square matrix product of that type on that device; takes about half a second.

    Args:
        size: rows and columns; by default 2048 on a CPU and 8192 on an accelerator.
    """
    size = size or (2048 if device.type == "cpu" else 8192)
    # A generator of its own: measuring must not shift the random state of training.
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(size, size, generator=generator).to(device, dtype)
    best = float("inf")
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        left @ left
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_flops(model: torch.nn.Module, batch: dict[str, Any]) -> int:
    """FLOPs of the matrix products in one forward and backward of `model(**batch)`, as it is really computed.

    The model's gradients are cleared; neither its weights nor the random state change.
    """
    with rng.preserved(), FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def recurrent_flops(model_type: str, hidden_size: int, num_layers: int) -> int:
    """FLOPs of the matrix products for one token of a forward pass; one of training has three times as many.

    PyTorch's counter does not see those of fused kernels. Every gate multiplies input and state, both as wide as the
    layer, by a matrix; a multiplication and an addition are two FLOPs.
    """
    return NUM_GATES[model_type] * num_layers * 2 * (2 * hidden_size**2)
