"""Text as parallel streams of tokens, cut into chunks that continue each other (truncated BPTT)."""

from typing import Any

import numpy as np
import torch

from .errors import CorpusError
from .random import Key
from .recent import Recent
from .streams import Streams

# Merity et al. 2017, "Regularizing and Optimizing LSTM Language Models", section 5.
_FULL_LENGTH_SHARE = 0.95
_LENGTH_DEVIATION = 5
_SHORTEST = 5


class ContiguousText:
    """All tokens of a corpus cut into equal streams that are read side by side, a chunk of each at a time.

    Stream s is the s-th of `num_streams` equal parts. Chunk c of an epoch is the next n tokens of every stream, and
    their targets are the tokens that follow. Every target is met once an epoch, but for fewer than `num_streams` at
    the corpus's end (`num_dropped`), which would make streams of unequal length.

    As a `ShardedDataset` each chunk is a shard with the streams as its examples: read unshuffled, `num_streams`
    examples are an optimiser step, and each row of it continues the same row of the step before.

    Args:
        tokens: `(tokens,)` ids.
        num_streams: rows of an optimiser step, over micro-batches and processes.
        bptt: tokens of a chunk. The first chunk of an epoch is shorter by less than half, another time in each, so
            that the cuts, over which no gradient flows, fall elsewhere.
        seed: names the random lengths.
        random_bptt: draws each chunk's length (Merity et al. 2017, section 5): normal around `bptt`, or in one of
            twenty around its half, with deviation 5, and at least 5. The learning rate stays as it is, since each
            step's loss is a mean over its own tokens.

    Raises:
        ValueError: `num_streams` or `bptt` below 1.
        CorpusError: too few tokens for so many streams.
    """

    num_shards: None = None

    def __init__(self, tokens: np.ndarray, num_streams: int, bptt: int, seed: int, random_bptt: bool = False) -> None:
        for name, value in (("num_streams", num_streams), ("bptt", bptt)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        self.length, self.num_dropped = divmod(len(tokens) - 1, num_streams)
        if self.length < 1:
            raise CorpusError(
                f"The text has {len(tokens)} tokens: too few for {num_streams} streams (batch × accumulation steps × "
                "processes), each of which needs one and its target."
            )
        self.num_streams = num_streams
        self._tokens = tokens
        self._bptt = bptt
        self._seed = seed
        self._random_bptt = random_bptt
        self._bounds: Recent[int, np.ndarray] = Recent()

    def chunk_bounds(self, epoch: int) -> np.ndarray:
        """`(chunks + 1,)` where in each stream the chunks of an epoch begin; the last entry is the end."""
        return self._bounds.get(epoch, self._draw_bounds)

    def _draw_bounds(self, epoch: int) -> np.ndarray:
        streams = Streams(self._seed, "bptt")
        bounds = [0]
        while bounds[-1] < self.length:
            chunk = len(bounds) - 1
            bounds.append(bounds[-1] + self._draw_length(streams.at(epoch, chunk, 0), chunk))
        bounds[-1] = self.length
        return np.array(bounds, dtype=np.int64)

    def _draw_length(self, random: np.random.Generator, chunk: int) -> int:
        if self._random_bptt:
            mean = self._bptt if random.random() < _FULL_LENGTH_SHARE else self._bptt / 2
            return max(_SHORTEST, int(random.normal(mean, _LENGTH_DEVIATION)))
        return self._bptt if chunk else int(random.integers(self._bptt // 2, self._bptt)) + 1

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_streams,)` the length of chunk `shard`, as often as there are streams.

        Raises:
            IndexError: past the epoch's last chunk.
        """
        bounds = self.chunk_bounds(epoch)
        if not 0 <= shard < len(bounds) - 1:
            raise IndexError(f"chunk {shard} does not exist: epoch {epoch} has {len(bounds) - 1}.")
        return np.full(self.num_streams, bounds[shard + 1] - bounds[shard])

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, Any]:
        """One stream's part of a chunk.

        Returns:
            `input_ids` and `shift_labels`, `(length,)` int64, and `continues`, whether a chunk comes before it.

        Raises:
            IndexError: no such chunk or stream.
        """
        epoch, chunk, stream = key
        length = int(self.example_lengths(epoch, chunk)[stream])
        first = stream * self.length + int(self.chunk_bounds(epoch)[chunk])
        window = self._tokens[first : first + length + 1].astype(np.int64)
        return {"input_ids": window[:-1], "shift_labels": window[1:], "continues": chunk > 0}


def collate_chunks(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Streams of one chunk -> `input_ids` and `shift_labels`, `(streams, length)`, and `continues`."""
    batch: dict[str, Any] = {
        name: torch.from_numpy(np.stack([example[name] for example in examples]))
        for name in ("input_ids", "shift_labels")
    }
    return {**batch, "continues": examples[0]["continues"]}
