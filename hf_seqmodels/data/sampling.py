"""Which examples make up which batch: a stateless, endless stream, and a loader that knows where it stands in it."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from hf_seqmodels.data.bucketing import HasParts, bucket
from hf_seqmodels.data.random import Key, generator


class ShardedDataset(Protocol):
    """What samplers ask of a dataset."""

    @property
    def num_shards(self) -> int | None:
        """`None` for a stream, whose end is not known beforehand."""
        ...

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_examples,)` tokens of each example of `shard` in `epoch`; IndexError past the last shard."""
        ...

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """The example, a pure function of its key."""
        ...


@dataclass(frozen=True)
class Cursor:
    """A place in the stream: the next example is number `position` of the `shard`-th shard of `epoch`."""

    epoch: int = 0
    shard: int = 0
    position: int = 0

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, int]) -> "Cursor":
        """From `to_dict`."""
        return cls(**values)


class BatchStream:
    """An endless stream of micro-batches over epochs, the same for any number of processes and workers.

    Shards come in an order drawn for each epoch (as they lie when streaming), examples in an order drawn for each
    shard. Batches run on across shards and epochs, so none is ever short; with `bucket_window` they end where a window
    does.

    Args:
        dataset: what to draw from.
        seed: names the orders.
        batch_size: examples in a micro-batch; ignored with `token_budget`.
        token_budget: a micro-batch takes as many next examples as fit into this many tokens (at least one).
        shuffle: `False` takes everything as it lies.
        bucket_window: so many examples at a time, in the order drawn, are divided into micro-batches of similar length
            (see `bucket`), which come in an order drawn again. `token_budget` then counts padding, too: rows times
            longest, part by part where the dataset has `part_lengths`.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self,
        dataset: ShardedDataset,
        seed: int,
        batch_size: int,
        token_budget: int | None = None,
        shuffle: bool = True,
        bucket_window: int | None = None,
    ):
        numbers = {"batch_size": batch_size, "token_budget": token_budget, "bucket_window": bucket_window}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        self.dataset = dataset
        self.seed = seed
        self.batch_size = batch_size
        self.token_budget = token_budget
        self.shuffle = shuffle
        self.bucket_window = bucket_window

    def micro_batches(self, start: Cursor) -> Iterator[tuple[list[Key], Cursor]]:
        """Micro-batches from `start` on, each with the cursor of what follows it.

        Raises:
            ValueError: the dataset has no examples, or, with `bucket_window`, no micro-batch begins at `start`.
        """
        return self._running_on(start) if self.bucket_window is None else self._bucketed(start, self.bucket_window)

    def _running_on(self, start: Cursor) -> Iterator[tuple[list[Key], Cursor]]:
        batch: list[Key] = []
        tokens = 0
        for key, length, here, after in self._examples(start):
            if self.token_budget is not None and batch and tokens + length > self.token_budget:
                yield batch, here
                batch, tokens = [], 0
            batch.append(key)
            tokens += length
            if self.token_budget is None and len(batch) == self.batch_size:
                yield batch, after
                batch, tokens = [], 0

    def _bucketed(self, start: Cursor, window: int) -> Iterator[tuple[list[Key], Cursor]]:
        for epoch, number, shard, lengths, position in self._visits(start):
            parts = self.dataset.part_lengths(epoch, shard) if isinstance(self.dataset, HasParts) else lengths[:, None]
            order = self._order("shuffle", len(lengths), epoch, shard)
            for first in range(position - position % window, len(order), window):
                members = order[first : first + window]
                batches = bucket(parts[members], self.batch_size, self.token_budget)
                place = first
                for chosen in self._order("buckets", len(batches), epoch, shard, first // window):
                    batch = members[batches[chosen]].tolist()
                    here, place = place, place + len(batch)
                    if here < position < place:
                        raise ValueError(
                            f"position={position} lies inside a micro-batch: the run was saved with another "
                            f"bucket_window than {window}, another token_budget or batch_size, or other data."
                        )
                    if here >= position:
                        yield [Key(epoch, shard, index) for index in batch], Cursor(epoch, number, place)

    def _examples(self, start: Cursor) -> Iterator[tuple[Key, int, Cursor, Cursor]]:
        """Key, length, and the cursors before and after, endlessly."""
        for epoch, number, shard, lengths, position in self._visits(start):
            order = self._order("shuffle", len(lengths), epoch, shard)
            for place in range(position, len(order)):
                index = int(order[place])
                yield (
                    Key(epoch, shard, index),
                    int(lengths[index]),
                    Cursor(epoch, number, place),
                    Cursor(epoch, number, place + 1),
                )

    def _visits(self, start: Cursor) -> Iterator[tuple[int, int, int, np.ndarray, int]]:
        """Epoch, ordinal, shard and lengths of one shard after the other, endlessly, and where in it to begin."""
        epoch, ordinal, position = start.epoch, start.shard, start.position
        while True:
            num_examples = 0
            for number, shard, lengths in self._shards(epoch, ordinal):
                num_examples += len(lengths)
                yield epoch, number, shard, lengths, position
                position = 0
            if num_examples == 0 and ordinal == 0:
                raise ValueError(f"The dataset has no examples in epoch {epoch}.")
            epoch, ordinal, position = epoch + 1, 0, 0

    def _shards(self, epoch: int, first: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """Ordinal, shard and lengths of the epoch's shards from the `first`-th on."""
        if self.dataset.num_shards is None:
            number = first
            while True:
                try:
                    lengths = self.dataset.example_lengths(epoch, number)
                except IndexError:
                    return
                yield number, number, lengths
                number += 1
        order = self._order("shards", self.dataset.num_shards, epoch)
        for number in range(first, len(order)):
            yield number, int(order[number]), self.dataset.example_lengths(epoch, int(order[number]))

    def _order(self, purpose: str, count: int, *counters: int) -> np.ndarray:
        return generator(self.seed, purpose, *counters).permutation(count) if self.shuffle else np.arange(count)


class _ProcessSampler(Sampler[list[Key]]):
    """This process's micro-batches, and a note of the cursor after each round of all processes."""

    def __init__(self, stream: BatchStream, start: Cursor, num_processes: int, process_index: int):
        self.stream = stream
        self.start = start
        self.num_processes = num_processes
        self.process_index = process_index
        self.cursors: deque[Cursor] = deque()

    def __iter__(self) -> Iterator[list[Key]]:
        round_of_batches: list[list[Key]] = []
        for batch, after in self.stream.micro_batches(self.start):
            round_of_batches.append(batch)
            if len(round_of_batches) == self.num_processes:
                # Workers prefetch, so the sampler is ahead of the training; the queue keeps the two in step.
                self.cursors.append(after)
                yield round_of_batches[self.process_index]
                round_of_batches = []


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C, `timeout` and job managers signal the whole process group, but the training loop decides when to stop.

    The worker still dies of SIGTERM sent to itself, by which PyTorch ends workers that hang.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgrp()


class ResumableLoader:
    """Collated micro-batches of this process, with the place in the stream of what was consumed, not prefetched.

    Args:
        stream: what to load.
        collate: list of examples -> batch.
        start: where to begin.
        num_workers: loading processes; 0 loads in this one.
    """

    def __init__(
        self,
        stream: BatchStream,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        start: Cursor,
        num_processes: int = 1,
        process_index: int = 0,
        num_workers: int = 0,
    ):
        self.sampler = _ProcessSampler(stream, start, num_processes, process_index)
        self.loader: DataLoader[Any] = DataLoader(
            stream.dataset,  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=_leave_signals_to_the_trainer if num_workers else None,
            # The loader draws a seed when it starts; with a generator of its own the global state stays untouched.
            generator=torch.Generator().manual_seed(0),
        )

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Cursor]]:
        for batch in self.loader:
            yield batch, self.sampler.cursors.popleft()


def evaluation_batches(
    dataset: ShardedDataset, batch_size: int, num_processes: int = 1, process_index: int = 0, limit: int | None = None
) -> Iterator[tuple[list[Key], bool]]:
    """One pass in order, each example once over all processes, always the same (epoch 0).

    Every process gets the same number of batches, so that collective operations stay in step: a process that is left
    without one gets its group's first batch again, marked as not counting.

    Args:
        limit: batches at most, over all processes.

    Yields:
        Keys of a batch, and whether it counts.
    """
    group: list[list[Key]] = []
    for batch in islice(_ordered_batches(dataset, batch_size), limit):
        group.append(batch)
        if len(group) == num_processes:
            yield group[process_index], True
            group = []
    if group:
        counts = process_index < len(group)
        yield group[process_index if counts else 0], counts


def _ordered_batches(dataset: ShardedDataset, batch_size: int) -> Iterator[list[Key]]:
    shards = count() if dataset.num_shards is None else range(dataset.num_shards)
    batch: list[Key] = []
    for shard in shards:
        try:
            examples = len(dataset.example_lengths(0, shard))
        except IndexError:
            break
        for index in range(examples):
            batch.append(Key(0, shard, index))
            if len(batch) == batch_size:
                yield batch
                batch = []
    if batch:
        yield batch
