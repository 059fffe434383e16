"""Packed rows: several segments one behind the other in a row without padding, and the way there and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Segments:
    """Where the segments of one packed row begin and end.

    Args:
        cu_seq_lens: `(num_segments + 1,)` cumulative lengths, from 0 to the row's length (flash-attention's layout).
        lengths: the same as Python integers, `num_segments` of them.
    """

    cu_seq_lens: torch.Tensor
    lengths: tuple[int, ...]

    @classmethod
    def from_cu_seq_lens(cls, cu_seq_lens: torch.Tensor, row_length: int) -> "Segments":
        """Checks `cu_seq_lens` against the row it divides.

        Raises:
            ValueError: not rising from 0 to `row_length` in steps of at least one token.
        """
        if cu_seq_lens.dim() != 1:
            raise ValueError(f"cu_seq_lens must be (num_segments + 1,); got {tuple(cu_seq_lens.shape)}.")
        bounds = cu_seq_lens.tolist()
        lengths = tuple(end - start for start, end in pairwise(bounds))
        if not lengths or bounds[0] != 0 or bounds[-1] != row_length or min(lengths) < 1:
            raise ValueError(
                f"cu_seq_lens={bounds} must rise from 0 to the row's length {row_length}, a segment of at least one "
                "token at each step."
            )
        return cls(cu_seq_lens.to(torch.int32), lengths)

    @property
    def starts(self) -> torch.Tensor:
        """`(num_segments,)` index of each segment's first token."""
        return self.cu_seq_lens[:-1].long()

    @property
    def positions(self) -> torch.Tensor:
        """`(1, row_length)` position of each token in its own segment."""
        lengths = torch.tensor(self.lengths, device=self.cu_seq_lens.device)
        row = torch.arange(sum(self.lengths), device=self.cu_seq_lens.device)
        return (row - self.starts.repeat_interleave(lengths)).unsqueeze(0)

    def segment_of(self, index: torch.Tensor) -> torch.Tensor:
        """`(n,)` token indices -> `(n,)` the segment that each lies in."""
        return torch.searchsorted(self.cu_seq_lens[1:].to(index.dtype), index, right=True)

    def select(self, index: torch.Tensor) -> "Segments":
        """The segments of a row that keeps only the tokens `index` `(n,)`, in rising order."""
        bounds = torch.searchsorted(index, self.cu_seq_lens.to(index.dtype))
        return Segments(bounds.to(torch.int32), tuple(bounds.diff().tolist()))

    def same_segment(self, queries: "Segments") -> Callable[..., torch.Tensor]:
        """Mask function of transformers' masking interface: may query `q` of `queries` see key `k` of this row?"""
        query_ids, key_ids = (
            torch.arange(len(side.lengths), device=self.cu_seq_lens.device).repeat_interleave(
                side.cu_seq_lens.diff().long()
            )
            for side in (queries, self)
        )

        def visible(batch_idx: int, head_idx: int, q_idx: int, kv_idx: int) -> torch.Tensor:
            return query_ids[q_idx] == key_ids[kv_idx]

        return visible


@dataclass(frozen=True)
class Unpadding:
    """The way from a padded batch to one packed row and back.

    Args:
        indices: `(num_tokens,)` places of the real tokens in the flattened batch.
        segments: the batch's rows as segments of the packed row.
        shape: `(batch, seq_len)` of the padded batch.
    """

    indices: torch.Tensor
    segments: Segments
    shape: tuple[int, int]

    @classmethod
    def from_mask(cls, attention_mask: torch.Tensor) -> "Unpadding":
        """From `attention_mask` `(batch, seq_len)`, non-zero on real tokens; every row has at least one."""
        lengths = (attention_mask != 0).sum(-1)
        cu_seq_lens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        indices = (attention_mask != 0).flatten().nonzero().squeeze(-1)
        segments = Segments.from_cu_seq_lens(cu_seq_lens, indices.numel())
        return cls(indices, segments, (attention_mask.shape[0], attention_mask.shape[1]))

    def pack(self, values: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, …)` -> `(1, num_tokens, …)`."""
        return values.flatten(0, 1).index_select(0, self.indices).unsqueeze(0)

    def pad(self, values: torch.Tensor) -> torch.Tensor:
        """`(1, num_tokens, …)` -> `(batch, seq_len, …)` with zeros on padding."""
        flat = values.new_zeros((self.shape[0] * self.shape[1], *values.shape[2:]))
        return flat.index_copy(0, self.indices, values[0]).view(*self.shape, *values.shape[2:])

    def to_packed_index(self, index: torch.Tensor) -> torch.Tensor:
        """`(n,)` places of real tokens in the flattened batch -> their places in the packed row."""
        return torch.searchsorted(self.indices, index)


@dataclass(frozen=True)
class RowSelection:
    """Some positions of a batch, laid out again as rows: `(batch, width)` with the fullest row's count as width.

    Args:
        index: `(batch * width,)` places in the flattened batch; unused slots repeat their row's first place.
        slots: `(n,)` where the n selected positions stand in the flattened rows.
        width: positions in a row.
    """

    index: torch.Tensor
    slots: torch.Tensor
    width: int

    @classmethod
    def from_positions(cls, positions: torch.Tensor, shape: Sequence[int]) -> "RowSelection":
        """From `positions` `(n,)`, rising places in a flattened batch of `shape` `(batch, seq_len)`."""
        batch_size, seq_len = shape
        rows = positions // seq_len
        counts = torch.bincount(rows, minlength=batch_size)
        width = int(counts.max())
        rank = torch.arange(positions.numel(), device=positions.device) - (counts.cumsum(0) - counts)[rows]
        slots = rows * width + rank
        filler = torch.arange(batch_size, device=positions.device).repeat_interleave(width) * seq_len
        return cls(filler.index_copy(0, slots, positions), slots, width)

    def take(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, seq_len, hidden)` -> `(batch, width, hidden)`."""
        return states.flatten(0, 1).index_select(0, self.index).view(states.shape[0], self.width, -1)

    def flatten(self, rows: torch.Tensor) -> torch.Tensor:
        """`(batch, width, hidden)` -> the selected positions `(n, hidden)`."""
        return rows.flatten(0, 1).index_select(0, self.slots)


__all__ = ["RowSelection", "Segments", "Unpadding"]
