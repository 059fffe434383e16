"""bfloat16 weights with float32 masters (Micikevicius et al. 2018, "Mixed Precision Training", section 3.1)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

PRECISIONS = ("no", "bf16", "bf16_master", "auto")


def choose_precision(wanted: str, device: torch.device) -> str:
    """`wanted`, or for "auto" what is fast there: "bf16" where the hardware multiplies bfloat16, else "no"."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "no"


def _cpu_multiplies_bfloat16() -> bool:
    """Without AVX512-BF16 or AMX, PyTorch computes bfloat16 products on the CPU, but slower than float32's."""
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def swapped(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """The parameters hold other values inside, of any dtype, and their own memory again afterwards."""
    own = [parameter.data for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values):
            parameter.data = value.data
        yield
    finally:
        for parameter, data in zip(parameters, own):
            parameter.data = data


class MasterWeights:
    """Casts a model to bfloat16 in place and keeps its float32 weights for the optimiser.

    Autocast casts every weight at every forward and keeps activations in float32 between matrix products; here both
    are bfloat16 throughout, while small updates add up in the masters.

    Args:
        model: its floating-point parameters and buffers become bfloat16.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._masters = {
            name: nn.Parameter(parameter.detach().to(torch.float32, copy=True), requires_grad=parameter.requires_grad)
            for name, parameter in model.named_parameters()
        }
        model.to(torch.bfloat16)
        self._weights = dict(model.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The float32 masters under the model's names, tied weights once."""
        yield from self._masters.items()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The float32 masters."""
        yield from self._masters.values()

    @torch.no_grad()
    def accumulate(self) -> None:
        """Adds the gradients of the last backward to the masters' float32 gradients, and frees them."""
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            master = self._masters[name]
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the model's weights."""
        torch._foreach_copy_(list(self._weights.values()), list(self._masters.values()))

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """The model holds its float32 masters inside, for saving."""
        with swapped(list(self._weights.values()), list(self._masters.values())):
            yield

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Takes float32 weights by the model's names (tied weights once), and publishes them.

        Raises:
            KeyError: a weight is missing.
        """
        for name, master in self._masters.items():
            master.copy_(state[name])
        self.publish()
