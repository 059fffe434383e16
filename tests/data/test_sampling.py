"""The batch stream: every example once in an epoch, the same for any number of processes and workers, resumable."""

from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import pytest

from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor, ResumableLoader, evaluation_batches

SIZES = (5, 0, 7, 3)
PER_EPOCH = sum(SIZES)


class Numbers:
    """Shards of unequal size, one of them empty; an example is its own key."""

    def __init__(self, sizes: tuple[int, ...] = SIZES, streaming: bool = False):
        self.sizes = sizes
        self.num_shards = None if streaming else len(sizes)

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        return 1 + np.arange(self.sizes[shard]) % 4

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return {"key": tuple(key)}


def _keys(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"keys": [example["key"] for example in examples]}


def _take(stream: BatchStream, count: int, start: Cursor | None = None) -> list[tuple[list[Key], Cursor]]:
    return list(islice(stream.micro_batches(start or Cursor()), count))


@pytest.mark.parametrize("streaming", [False, True], ids=["known shards", "streaming"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
def test_every_example_once_in_each_epoch(streaming: bool, shuffle: bool) -> None:
    stream = BatchStream(Numbers(streaming=streaming), seed=1, batch_size=4, shuffle=shuffle)
    batches = [batch for batch, _ in _take(stream, 3 * PER_EPOCH // 4 + 1)]
    assert {len(batch) for batch in batches} == {4}
    keys = list(chain.from_iterable(batches))
    everything = {(shard, index) for shard, size in enumerate(SIZES) for index in range(size)}
    epochs = [keys[number * PER_EPOCH : (number + 1) * PER_EPOCH] for number in range(3)]
    for number, epoch in enumerate(epochs):
        assert {key.epoch for key in epoch} == {number}
        assert {(key.shard, key.index) for key in epoch} == everything
    orders = {tuple((key.shard, key.index) for key in epoch) for epoch in epochs}
    assert len(orders) == (3 if shuffle else 1)


@pytest.mark.parametrize("budget", [None, 6], ids=["examples", "tokens"])
@pytest.mark.parametrize("streaming", [False, True], ids=["known shards", "streaming"])
def test_goes_on_from_every_cursor(budget: int | None, streaming: bool) -> None:
    stream = BatchStream(Numbers(streaming=streaming), seed=1, batch_size=4, token_budget=budget)
    batches = _take(stream, 25)
    for number, (_, after) in enumerate(batches[:12], 1):
        assert _take(stream, 5, Cursor.from_dict(after.to_dict())) == batches[number : number + 5]
    # Negative control: a cursor that is one example off gives other batches.
    _, after = batches[0]
    assert _take(stream, 1, Cursor(after.epoch, after.shard, after.position + 1)) != batches[1:2]


def test_token_budget_takes_what_fits() -> None:
    data = Numbers()
    stream = BatchStream(data, seed=1, batch_size=1, token_budget=6)
    batches = [batch for batch, _ in _take(stream, 40)]
    tokens = [[int(data.example_lengths(key.epoch, key.shard)[key.index]) for key in batch] for batch in batches]
    assert max(map(sum, tokens)) <= 6
    assert all(sum(these) + following[0] > 6 for these, following in pairwise(tokens))
    assert [len(batch) for batch, _ in _take(BatchStream(data, 1, 1, token_budget=1), 9)] == [1] * 9


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_and_workers_share_one_stream(processes: int, workers: int) -> None:
    stream = BatchStream(Numbers(), seed=1, batch_size=2)
    expected = _take(stream, 12)
    found: list[Any] = [None] * 12
    for rank in range(processes):
        loader = ResumableLoader(stream, _keys, Cursor(), processes, rank, workers)
        for number, (batch, cursor) in enumerate(islice(loader, 12 // processes)):
            found[number * processes + rank] = batch["keys"]
            # The cursor is that of what was handed out, however far the workers are ahead.
            assert cursor == expected[(number + 1) * processes - 1][1]
    assert found == [[tuple(key) for key in batch] for batch, _ in expected]


def test_seed_names_the_order() -> None:
    first, again, other = (_take(BatchStream(Numbers(), seed, 4), 6) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("streaming", [False, True], ids=["known shards", "streaming"])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_counts_each_example_once(processes: int, streaming: bool) -> None:
    data = Numbers(streaming=streaming)
    passes = [list(evaluation_batches(data, 2, processes, rank)) for rank in range(processes)]
    assert len({len(batches) for batches in passes}) == 1
    counted = [key for batches in passes for batch, counts in batches for key in batch if counts]
    assert sorted(counted) == [Key(0, shard, index) for shard, size in enumerate(SIZES) for index in range(size)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"batch_size": 0}, "batch_size=0"), ({"batch_size": 1, "token_budget": 0}, "token_budget=0")],
)
def test_refuses_nonsense(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} must be at least 1"):
        BatchStream(Numbers(), 0, **arguments)


@pytest.mark.parametrize("sizes", [(), (0, 0)])
@pytest.mark.parametrize("streaming", [False, True])
def test_empty_dataset_is_an_error(sizes: tuple[int, ...], streaming: bool) -> None:
    with pytest.raises(ValueError, match="no examples"):
        _take(BatchStream(Numbers(sizes, streaming), 0, 1), 1)
