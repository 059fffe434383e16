"""Examples made when they are asked for: a training run meets new ones in every epoch, and nothing is stored."""

from typing import Any, Protocol

import numpy as np

from .random import Key, generator


class ExampleMaker(Protocol):
    """What makes examples of one kind."""

    @property
    def purpose(self) -> str:
        """Names its randomness."""
        ...

    def num_tokens(self, rng: np.random.Generator) -> int:
        """Tokens of the next example."""
        ...

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """The next example."""
        ...


class GeneratedExamples:
    """Examples of one kind, each a pure function of (seed, split, epoch, index). Implements `ShardedDataset`.

    Args:
        maker: what makes them.
        num_examples: of an epoch; they are one shard.
        seed: names them.
        split: names them, too: splits share no example's randomness.

    Raises:
        ValueError: `num_examples` below 1.
    """

    num_shards = 1

    def __init__(self, maker: ExampleMaker, num_examples: int, seed: int, split: str = "train"):
        if num_examples < 1:
            raise ValueError(f"num_examples={num_examples} must be at least 1.")
        self.maker = maker
        self.num_examples = num_examples
        self.seed = seed
        self.split = split

    def __len__(self) -> int:
        return self.num_examples

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_examples,)` tokens of each. Raises IndexError past the only shard."""
        if shard != 0:
            raise IndexError(f"shard={shard}: there is only shard 0.")
        keys = (Key(epoch, shard, index) for index in range(self.num_examples))
        return np.array([self.maker.num_tokens(self._generator(key)) for key in keys], dtype=np.int64)

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, Any]:
        """The example, a pure function of seed, split and key."""
        return self.maker.example(self._generator(Key(*key)))

    def _generator(self, key: Key) -> np.random.Generator:
        return generator(self.seed, f"{self.maker.purpose}/{self.split}", *key)
