"""Contiguous text: streams, chunks and their targets."""

import pickle

import numpy as np
import pytest

from hf_seqmodels.data.contiguous import ContiguousText, collate_chunks
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.sampling import BatchStream, Cursor

TOKENS = np.arange(1000, dtype=np.int32)


def _epoch(data: ContiguousText, epoch: int) -> list[list[dict]]:
    """Chunks of an epoch, each the examples of all streams."""
    chunks = len(data.chunk_bounds(epoch)) - 1
    return [[data[(epoch, chunk, stream)] for stream in range(data.num_streams)] for chunk in range(chunks)]


@pytest.mark.parametrize("streams", [1, 3, 8])
@pytest.mark.parametrize("random_bptt", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_target_once_but_for_fewer_than_streams(streams: int, random_bptt: bool, epoch: int) -> None:
    data = ContiguousText(TOKENS, streams, 16, seed=0, random_bptt=random_bptt)
    targets = []
    for stream in range(streams):
        inputs = np.concatenate([chunk[stream]["input_ids"] for chunk in _epoch(data, epoch)])
        following = np.concatenate([chunk[stream]["shift_labels"] for chunk in _epoch(data, epoch)])
        # TOKENS count up: each chunk goes on where the one before ended, each target follows its token.
        np.testing.assert_array_equal(inputs, np.arange(len(inputs)) + stream * data.length)
        np.testing.assert_array_equal(following, inputs + 1)
        targets += following.tolist()
    assert targets == list(range(1, 1000 - data.num_dropped))
    assert data.num_dropped < streams
    continues = [{example["continues"] for example in chunk} for chunk in _epoch(data, epoch)]
    assert continues == [{False}] + [{True}] * (len(continues) - 1)


def test_chunks_are_cut_elsewhere_in_each_epoch_and_the_same_in_every_process() -> None:
    data = ContiguousText(TOKENS, 2, 16, seed=0)
    bounds = [data.chunk_bounds(epoch) for epoch in range(20)]
    lengths = np.diff(bounds[0])
    assert 8 < lengths[0] <= 16 and set(lengths[1:-1]) == {16} and lengths[-1] <= 16
    assert len({first[1] for first in bounds}) > 3
    for copy in (ContiguousText(TOKENS, 2, 16, seed=0), pickle.loads(pickle.dumps(data))):
        assert all((copy.chunk_bounds(epoch) == bounds[epoch]).all() for epoch in (3, 0))
    assert any((ContiguousText(TOKENS, 2, 16, seed=1).chunk_bounds(e)[1] != bounds[e][1]) for e in range(20))


def test_random_lengths_are_those_of_the_paper() -> None:
    """Merity et al. 2017, section 5: N(70, 5), in one of twenty N(35, 5), never below 5."""
    data = ContiguousText(np.zeros(2_000_000, dtype=np.int32), 1, 70, seed=0, random_bptt=True)
    lengths = np.diff(data.chunk_bounds(0))[:-1]
    short = lengths < 52  # far from both means
    assert abs(short.mean() - 0.05) < 0.005  # 29,000 draws: 4 standard errors
    # int() rounds down: half a token below the mean.
    assert abs(lengths[~short].mean() - 69.5) < 0.15 and abs(lengths[~short].std() - 5) < 0.1
    assert abs(lengths[short].mean() - 34.5) < 0.6
    tiny = ContiguousText(TOKENS, 1, 2, seed=0, random_bptt=True)
    assert np.diff(tiny.chunk_bounds(0))[:-1].min() == 5


def test_micro_batches_take_the_streams_in_turn() -> None:
    """Read unshuffled, batch a of a step holds the same streams in every step, across the end of an epoch, too."""
    data = ContiguousText(TOKENS, 6, 50, seed=0)
    batches = BatchStream(data, seed=0, batch_size=2, shuffle=False).micro_batches(Cursor())
    chunks = [len(data.chunk_bounds(epoch)) - 1 for epoch in (0, 1)]
    for epoch, count in enumerate(chunks):
        for chunk in range(count):
            for slot in range(3):
                keys, _ = next(batches)
                assert keys == [(epoch, chunk, 2 * slot), (epoch, chunk, 2 * slot + 1)]
                assert collate_chunks([data[key] for key in keys])["continues"] == (chunk > 0)


def test_batches() -> None:
    data = ContiguousText(TOKENS, 4, 8, seed=0)
    batch = collate_chunks([data[(0, 1, stream)] for stream in range(4)])
    assert batch["input_ids"].shape == batch["shift_labels"].shape == (4, 8)
    assert batch["continues"] is True


def test_mistakes_are_named() -> None:
    with pytest.raises(CorpusError, match="has 4 tokens: too few for 4 streams"):
        ContiguousText(TOKENS[:4], 4, 8, seed=0)
    with pytest.raises(CorpusError, match="has 0 tokens"):
        ContiguousText(TOKENS[:0], 4, 8, seed=0)
    with pytest.raises(ValueError, match="bptt=0 must be at least 1"):
        ContiguousText(TOKENS, 4, 0, seed=0)
    data = ContiguousText(TOKENS, 4, 100, seed=0)
    for key in ((0, 4, 0), (0, -1, 0), (0, 0, 4)):
        with pytest.raises(IndexError):
            data[key]
