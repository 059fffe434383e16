"""What a model costs: time of its steps, products that wait for each other, bytes of a cache."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.cache_utils import EncoderDecoderCache

from hf_seqmodels.tasks.benchmark.measure import Step, Timing, time_interleaved

from .claim import Progress

_WARMUP = 1
_PRODUCTS = {
    getattr(torch.ops.aten, name) for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "addmm_")
}


def time_steps(steps: dict[str, Step], rounds: int, progress: Progress) -> dict[str, Timing]:
    """Medians of interleaved steps on this thread, in seconds that it has really run: other work does not count."""
    done, total = 0, len(steps) * (_WARMUP + rounds)

    def reporting(step: Step) -> Step:
        def run() -> None:
            nonlocal done
            step()
            done += 1
            progress(done / total)

        return run

    return time_interleaved(
        {name: reporting(step) for name, step in steps.items()}, rounds, _WARMUP, time.process_time
    )


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, which steps of one model can share."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def training_step(optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]) -> Step:
    """Forward and backward of what `loss_of` gives, and the optimiser's step."""

    def step() -> None:
        loss_of().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def cache_bytes(cache: Any) -> int:
    """Bytes of what a cache keeps of the tokens so far: states, or keys and values; not those of a source."""
    own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    tensors = (value for layer in own.layers for value in vars(layer).values() if isinstance(value, torch.Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Chain(TorchDispatchMode):
    """Notes for each tensor's memory how many products, one after another, have gone into it."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0
        self.depths: dict[int, int] = {}
        self.kept: list[torch.Tensor] = []  # memory that is free again would be taken for its successor's

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        depth = max((self.depths.get(_memory(tensor), 0) for tensor in _tensors((args, kwargs))), default=0)
        depth += func.overloadpacket in _PRODUCTS
        for tensor in _tensors(outputs):
            self.kept.append(tensor)
            self.depths[_memory(tensor)] = max(depth, self.depths.get(_memory(tensor), 0))
        self.longest = max(self.longest, depth)
        return outputs


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def longest_chain() -> Iterator[list[int]]:
    """Counts, in what runs inside, the longest chain of matrix products each of which needs the one before.

    It is what remains sequential however many processors there are. Fused recurrent kernels of oneDNN are left off
    inside, since their products are not seen; attention has to be eager for the same reason.

    Yields:
        One number, once the block is left.
    """
    length = [0]
    onednn: Any = torch.backends.mkldnn
    was_enabled, onednn.enabled = onednn.enabled, False
    try:
        with _Chain() as chain:
            yield length
    finally:
        onednn.enabled = was_enabled
    length[0] = chain.longest


__all__ = [
    "cache_bytes",
    "longest_chain",
    "optimizer_of",
    "time_steps",
    "training_step",
]
