"""The random streams of many examples, one after the other, without building a generator for each."""

import numpy as np

from .random import _philox_key

_NO_BUFFER = np.zeros(4, dtype=np.uint64)
_BUFFER_END = 4


class Streams:
    """Draws the same numbers as `generator(seed, purpose, *counters)`, about five times faster for many counters.

    Building a Philox generator asks the operating system for entropy that is then not used; here one generator is
    moved from stream to stream. Made where it is used and dropped there, it is no state of a dataset or collator.

    Args:
        seed, purpose: see `generator`.
    """

    def __init__(self, seed: int, purpose: str):
        self._key = _philox_key(seed, purpose)
        self._philox = np.random.Philox(key=self._key)
        self._generator = np.random.Generator(self._philox)

    def at(self, first: int, second: int, third: int) -> np.random.Generator:
        """The generator at the beginning of a stream; good until the next call."""
        self._philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": np.array([0, first, second, third], dtype=np.uint64), "key": self._key},
            "buffer": _NO_BUFFER,
            "buffer_pos": _BUFFER_END,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator
