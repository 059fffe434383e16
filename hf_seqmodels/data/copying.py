"""Two tasks for encoder–decoders that need the whole source: to copy a sequence of symbols, and to reverse it.

Every example is a pure function of (seed, split, epoch, index), so there is nothing to store, and a training run meets
new examples in every epoch. A model that squeezes the source into a vector of fixed size runs out of room as sources
grow (Cho et al. 2014, "On the Properties of Neural Machine Translation", section 4); one with attention does not
(Bahdanau et al. 2015, section 5.2.2).
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .random import Key, generator

TaskName = Literal["copy", "reverse"]
TASKS: tuple[str, ...] = get_args(TaskName)

# The special tokens of all our translation models; symbols follow.
PAD, BOS, EOS, UNK = range(4)
_NUM_SPECIAL = 4


@dataclass(frozen=True)
class CopyingTask:
    """Symbols to be written again, in their order or from the last to the first.

    Args:
        name: `copy` or `reverse`.
        shortest, longest: symbols of a source; every length in between is as likely as another.
        num_symbols: how many different ones there are.

    Raises:
        ValueError: another name, `shortest` below 1 or above `longest`, or fewer than 2 symbols.
    """

    name: str
    shortest: int = 5
    longest: int = 60
    num_symbols: int = 24

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise ValueError(f"name={self.name!r} is not known; choose one of {', '.join(TASKS)}.")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must lie in [1, longest={self.longest}].")
        if self.num_symbols < 2:
            raise ValueError(f"num_symbols={self.num_symbols} must be at least 2.")

    @property
    def vocab_size(self) -> int:
        """The symbols and the special tokens."""
        return _NUM_SPECIAL + self.num_symbols

    def length(self, rng: np.random.Generator) -> int:
        """Symbols of the next example, the first that is drawn for it."""
        return int(rng.integers(self.shortest, self.longest + 1))

    def example(self, rng: np.random.Generator) -> dict[str, list[int]]:
        """`input_ids` and `labels`, both with the end of the sentence behind them."""
        symbols = rng.integers(_NUM_SPECIAL, self.vocab_size, size=self.length(rng)).tolist()
        target = symbols if self.name == "copy" else symbols[::-1]
        return {"input_ids": [*symbols, EOS], "labels": [*target, EOS]}


class CopyingExamples:
    """Examples of a task, made when asked for, others in every epoch. Implements `ShardedDataset`, in one shard.

    Args:
        task: what to make.
        num_examples: of an epoch.
        seed: names them.
        split: names them, too: splits share no example's randomness.

    Raises:
        ValueError: `num_examples` below 1.
    """

    num_shards = 1

    def __init__(self, task: CopyingTask, num_examples: int, seed: int, split: str = "train"):
        if num_examples < 1:
            raise ValueError(f"num_examples={num_examples} must be at least 1.")
        self.task = task
        self.num_examples = num_examples
        self.seed = seed
        self.split = split

    def __len__(self) -> int:
        return self.num_examples

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(num_examples,)` tokens of each source, as many as of its target. IndexError past the only shard."""
        if shard != 0:
            raise IndexError(f"shard={shard}: there is only shard 0.")
        lengths = [self.task.length(self._generator(Key(epoch, shard, index))) for index in range(len(self))]
        return np.array(lengths, dtype=np.int64) + 1

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, Any]:
        """The example, a pure function of seed, split and key."""
        return self.task.example(self._generator(Key(*key)))

    def _generator(self, key: Key) -> np.random.Generator:
        return generator(self.seed, f"{self.task.name}ing/{self.split}", *key)
