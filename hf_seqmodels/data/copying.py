"""Two tasks for encoder–decoders that need the whole source: to copy a sequence of symbols, and to reverse it.

Every example is a pure function of (seed, split, epoch, index), so there is nothing to store, and a training run meets
new examples in every epoch. A model that squeezes the source into a vector of fixed size runs out of room as sources
grow (Cho et al. 2014, "On the Properties of Neural Machine Translation", section 4); one with attention does not
(Bahdanau et al. 2015, section 5.2.2).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

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

    @property
    def purpose(self) -> str:
        """Names its randomness."""
        return f"{self.name}ing"

    def num_tokens(self, rng: np.random.Generator) -> int:
        """Of the next example's source, as many as of its target; its first draw."""
        return int(rng.integers(self.shortest, self.longest + 1)) + 1

    def example(self, rng: np.random.Generator) -> dict[str, list[int]]:
        """`input_ids` and `labels`, both with the end of the sentence behind them."""
        symbols = rng.integers(_NUM_SPECIAL, self.vocab_size, size=self.num_tokens(rng) - 1).tolist()
        target = symbols if self.name == "copy" else symbols[::-1]
        return {"input_ids": [*symbols, EOS], "labels": [*target, EOS]}
