"""The counter-based generator: same integers, same stream; other integers, another stream."""

import subprocess
import sys

import numpy as np
import pytest

from hf_seqmodels.data.random import Key, generator


def test_same_integers_give_the_same_stream() -> None:
    first = generator(7, "mask", 1, 2, 3).random(8)
    assert np.array_equal(first, generator(7, "mask", 1, 2, 3).random(8))


def test_stream_is_the_same_in_another_process() -> None:
    code = (
        "from hf_seqmodels.data.random import generator; print(generator(7, 'mask', 1, 2, 3).integers(10**9, size=4))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(generator(7, "mask", 1, 2, 3).integers(10**9, size=4))


def test_every_seed_purpose_and_counter_has_its_own_stream() -> None:
    names = [
        (s, p, *c) for s in (0, 1) for p in ("mask", "pairs") for c in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    draws = {generator(*name).integers(2**63) for name in names}
    assert len(draws) == len(names)


def test_streams_of_neighbouring_counters_do_not_overlap() -> None:
    long = generator(0, "mask", 0, 0, 0).integers(2**63, size=4096)
    next_one = generator(0, "mask", 0, 0, 1).integers(2**63, size=4096)
    assert not set(long.tolist()) & set(next_one.tolist())


def test_numbers_are_uniform_over_streams() -> None:
    first_numbers = np.array([generator(3, "mask", 0, 0, index).random() for index in range(4000)])
    assert abs(first_numbers.mean() - 0.5) < 0.02  # standard error 0.0046
    assert abs(np.corrcoef(first_numbers[:-1], first_numbers[1:])[0, 1]) < 0.06  # standard error 0.016


@pytest.mark.parametrize("counters", [(1, 2, 3, 4), (-1,), (1 << 64,)])
def test_bad_counters_are_refused(counters: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counters="):
        generator(0, "mask", *counters)


def test_key_is_a_plain_tuple() -> None:
    assert Key(epoch=1, shard=2, index=3) == (1, 2, 3)
