"""The state of a recurrent model as a transformers cache, so that `generate()` carries it."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class RecurrentCacheLayer(CacheLayerMixin):
    """The state of one layer after some tokens. It doesn't grow with them.

    Attributes:
        hidden: `(batch, directions, state)`, or `None` before the first token.
        cell: `(batch, directions, hidden)` of an LSTM, else `None`.
        cumulative_length: tokens seen, padding included.
    """

    is_compileable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self) -> None:
        super().__init__()
        self.hidden: torch.Tensor | None = None
        self.cell: torch.Tensor | None = None
        self.cumulative_length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to prepare: the state comes whole with each update."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        """Not for keys and values.

        Raises:
            TypeError: always; a recurrent layer uses `set_state`.
        """
        raise TypeError("A RecurrentCache holds states, not keys and values; attention layers need a DynamicCache.")

    def set_state(self, hidden: torch.Tensor, cell: torch.Tensor | None, tokens: int) -> None:
        """The state after `tokens` more tokens."""
        self.hidden, self.cell = hidden, cell
        self.cumulative_length += tokens
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of a mask over past and current tokens."""
        return self.cumulative_length + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def apply(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replaces each tensor of the state."""
        if self.hidden is not None:
            self.hidden = function(self.hidden)
        if self.cell is not None:
            self.cell = function(self.cell)

    def reset(self) -> None:
        """Back to before the first token."""
        self.hidden = self.cell = None
        self.cumulative_length = 0
        self.is_initialized = False

    def offload(self) -> None:
        """Moves the state to the CPU."""
        self.apply(lambda state: state.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Nothing: the next forward moves the state to its device."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Rows in the order of `beam_idx`, in which rows may repeat."""
        self.apply(lambda state: state.index_select(0, beam_idx.to(state.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times."""
        self.apply(lambda state: state.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps these rows."""
        self.apply(lambda state: state[indices.to(state.device)])


class RecurrentCache(Cache):
    """The states of all layers of RNN, LSTM or GRU after some tokens.

    A forward that gets one goes on from it and updates it in place, as transformers' own caches.

    Args:
        num_layers: of the model.
    """

    layers: list[RecurrentCacheLayer]  # type: ignore[assignment]  # of one kind

    def __init__(self, num_layers: int):
        super().__init__(layers=[RecurrentCacheLayer() for _ in range(num_layers)])

    @property
    def batch_size(self) -> int:
        """Rows; 0 before the first token."""
        hidden = self.layers[0].hidden
        return 0 if hidden is None else hidden.shape[0]

    def detach(self) -> "RecurrentCache":
        """The same states, cut from the graph: what truncated backpropagation through time goes on from."""
        again = RecurrentCache(len(self.layers))
        for new, old in zip(again.layers, self.layers):
            if old.hidden is not None:
                new.set_state(old.hidden.detach(), None if old.cell is None else old.cell.detach(), 0)
            new.cumulative_length = old.cumulative_length
        return again

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything in it by name, for a file: `0.hidden`, `0.cell`, `0.length`, …"""
        named: dict[str, torch.Tensor] = {}
        for number, layer in enumerate(self.layers):
            named[f"{number}.length"] = torch.tensor(layer.cumulative_length)
            if layer.hidden is not None:
                named[f"{number}.hidden"] = layer.hidden
            if layer.cell is not None:
                named[f"{number}.cell"] = layer.cell
        return named

    @classmethod
    def from_tensors(cls, named: dict[str, torch.Tensor]) -> "RecurrentCache":
        """From `tensors`."""
        cache = cls(sum(name.endswith(".length") for name in named))
        for number, layer in enumerate(cache.layers):
            hidden = named.get(f"{number}.hidden")
            if hidden is not None:
                layer.set_state(hidden, named.get(f"{number}.cell"), 0)
            layer.cumulative_length = int(named[f"{number}.length"])
        return cache


__all__ = ["RecurrentCache", "RecurrentCacheLayer"]
