"""All randomness of the data: pure functions of integers through a counter-based generator."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

MAX_COUNTERS = 3


class Key(NamedTuple):
    """Names one example of one pass: samplers yield it, datasets take it.

    Attributes:
        epoch: pass over the data, from 0.
        shard: number of the shard, from 0.
        index: number of the example in that shard and epoch, from 0 (before shuffling).
    """

    epoch: int
    shard: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here


@lru_cache(maxsize=256)
def _philox_key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    key.flags.writeable = False
    return key


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """The random stream that belongs to (seed, purpose, counters), the same in every process and on every call.

    Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") enciphers a counter under a key: seed
    and purpose make the key, `counters` fill its high words, and the low word runs while numbers are drawn. So streams
    of other counters never overlap, and nothing needs to be stored to resume.

    Args:
        seed: any integer.
        purpose: what the numbers are for ("pairs", "mask", "shuffle", …); purposes share no stream.
        counters: up to three integers in [0, 2**64), as (epoch, shard, index); fewer are filled up with zeros.

    Raises:
        ValueError: more than three counters, or one out of range.
    """
    if len(counters) > MAX_COUNTERS:
        raise ValueError(f"counters={counters}: at most {MAX_COUNTERS} are allowed.")
    words = [0, *counters, *(0,) * (MAX_COUNTERS - len(counters))]
    if min(words) < 0 or max(words) >= 1 << 64:
        raise ValueError(f"counters={counters} must be integers in [0, 2**64).")
    return np.random.Generator(np.random.Philox(key=_philox_key(seed, purpose), counter=np.array(words, np.uint64)))
