"""Buckets: every example once, little padding, the same for any number of processes and workers, resumable."""

from itertools import chain, islice
from typing import Any

import numpy as np
import pytest

from hf_seqmodels.data.bucketing import bucket
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor, ResumableLoader
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.training.phases import Phase, check_phases

SIZES = (37, 0, 64, 5)
PER_EPOCH = sum(SIZES)
BUDGET = 60


class Pairs:
    """Shards of unequal size, one of them empty; an example is its own key."""

    def __init__(self, streaming: bool = False):
        self.num_shards = None if streaming else len(SIZES)

    def part_lengths(self, epoch: int, shard: int) -> np.ndarray:
        drawn = np.random.default_rng(shard).integers(1, 20, size=SIZES[shard])
        return np.stack([drawn, 1 + drawn * 7 % 19], axis=1)

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        return self.part_lengths(epoch, shard).sum(axis=1)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return {"key": tuple(key)}


def _keys(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"keys": [example["key"] for example in examples]}


def _stream(streaming: bool = False, **settings: Any) -> BatchStream:
    settings = {"seed": 1, "batch_size": 6, "token_budget": BUDGET, "bucket_window": 16} | settings
    return BatchStream(Pairs(streaming), **settings)


def _take(stream: BatchStream, count: int, start: Cursor | None = None) -> list[tuple[list[Key], Cursor]]:
    return list(islice(stream.micro_batches(start or Cursor()), count))


def _epochs(stream: BatchStream, count: int) -> list[list[list[Key]]]:
    epochs: list[list[list[Key]]] = [[] for _ in range(count)]
    for batch, _ in stream.micro_batches(Cursor()):
        if batch[0].epoch == count:
            return epochs
        epochs[batch[0].epoch].append(batch)
    raise AssertionError("the stream ended")


def _parts(batch: list[Key]) -> np.ndarray:
    return np.array([Pairs().part_lengths(key.epoch, key.shard)[key.index] for key in batch])


@pytest.mark.parametrize("streaming", [False, True], ids=["known shards", "streaming"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("budget", [None, BUDGET], ids=["examples", "tokens"])
def test_every_example_once_in_each_epoch(streaming: bool, shuffle: bool, budget: int | None) -> None:
    epochs = _epochs(_stream(streaming, shuffle=shuffle, token_budget=budget), 3)
    everything = sorted((shard, index) for shard, size in enumerate(SIZES) for index in range(size))
    for batches in epochs:
        assert sorted((key.shard, key.index) for key in chain.from_iterable(batches)) == everything
    orders = {tuple((key.shard, key.index) for key in chain.from_iterable(batches)) for batches in epochs}
    assert len(orders) == (3 if shuffle else 1)


def test_budget_counts_padding_and_batches_are_even() -> None:
    batches = _epochs(_stream(), 1)[0]
    sizes = [len(batch) * _parts(batch).max(axis=0).sum() for batch in batches]
    assert max(sizes) <= BUDGET
    assert [len(batch) for batch in _epochs(_stream(token_budget=None), 1)[0] if batch[0].shard == 3] == [5]
    lengths = np.repeat(np.arange(1, 9), 40)[:, None]
    rows = [len(batch) for batch in bucket(lengths, batch_size=1, token_budget=64)]
    assert sum(rows) == 320 and min(rows) * 8 > 32  # no small rest is left over: the shortest are many a batch
    assert [len(batch) for batch in bucket(lengths, batch_size=100, token_budget=None)] == [80] * 4
    # An example beyond the budget is a batch alone.
    assert [len(batch) for batch in bucket(np.array([[9], [9], [1]]), 1, token_budget=5)] == [1, 1, 1]


def test_little_is_padding() -> None:
    def share(stream: BatchStream) -> float:
        parts = [_parts(batch) for batch in _epochs(stream, 1)[0]]
        padded = sum(len(part) * part.max(axis=0).sum() for part in parts)
        return float(1 - sum(part.sum() for part in parts) / padded)

    # Negative control: the same, not bucketed.
    assert share(_stream(bucket_window=64)) < 0.75 * share(_stream(bucket_window=None))


@pytest.mark.parametrize("budget", [None, BUDGET], ids=["examples", "tokens"])
@pytest.mark.parametrize("streaming", [False, True], ids=["known shards", "streaming"])
def test_goes_on_from_every_cursor(budget: int | None, streaming: bool) -> None:
    stream = _stream(streaming, token_budget=budget)
    batches = _take(stream, 80)
    assert batches[-1][1].epoch > 0
    for number, (_, after) in enumerate(batches[:-5], 1):
        assert _take(stream, 5, Cursor.from_dict(after.to_dict())) == batches[number : number + 5]


def test_cursor_of_other_settings_is_an_error() -> None:
    stream = _stream()
    (first, after), *_ = _take(stream, 1)
    assert len(first) > 1
    with pytest.raises(ValueError, match=r"position=1 lies inside a micro-batch: .* another bucket_window than 16"):
        _take(stream, 1, Cursor(after.epoch, after.shard, 1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_and_workers_share_one_stream(processes: int, workers: int) -> None:
    stream = _stream()
    expected = _take(stream, 12)
    found: list[Any] = [None] * 12
    for rank in range(processes):
        loader = ResumableLoader(stream, _keys, Cursor(), processes, rank, workers)
        for number, (batch, cursor) in enumerate(islice(loader, 12 // processes)):
            found[number * processes + rank] = batch["keys"]
            assert cursor == expected[(number + 1) * processes - 1][1]
    assert found == [[tuple(key) for key in batch] for batch, _ in expected]


def test_seed_names_the_order_and_batches_of_a_window_are_mixed() -> None:
    first, again, other = (_take(_stream(seed=seed), 30) for seed in (1, 1, 2))
    assert first == again != other
    longest = [int(_parts(batch).max()) for batch, _ in _take(_stream(bucket_window=64), 12)]
    assert longest != sorted(longest, reverse=True)
    in_order = [int(_parts(batch).max()) for batch in _epochs(_stream(bucket_window=64, shuffle=False), 1)[0][:10]]
    assert in_order == sorted(in_order, reverse=True)


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="bucket_window=0 must be at least 1"):
        _stream(bucket_window=0)
    phase = Phase("x", 8, Pairs(), _keys, 2, carries=RecurrentCache, bucket_window=16)
    with pytest.raises(ValueError, match="bucket_window=16 does not go with carried states"):
        check_phases([phase], 8)
