"""Three problems that need a long memory, of any length and without end: adding, copying after a pause, and recall.

Every example is a pure function of (seed, split, epoch, index), so there is nothing to store, and a training run meets
new examples in every epoch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset, Features, List, Value

from hf_seqmodels.models.losses import IGNORE_INDEX

from .generated import GeneratedExamples
from .random import Key

COPIED_SYMBOLS = 10


@dataclass(frozen=True)
class LongRangeProblem(ABC):
    """What makes examples of one length.

    Args:
        length: the problem's T, at least 2.

    Raises:
        ValueError: a shorter length.
    """

    name: ClassVar[str]
    num_recalled: ClassVar[int]  # symbols at the end of the labels that have to be remembered; 0 of a regression
    vocab_size: ClassVar[int]  # of the ids; 1 where there are none
    num_labels: ClassVar[int]

    length: int

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"length={self.length} must be at least 2.")

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Steps of an example's input."""

    @property
    @abstractmethod
    def baseline(self) -> float:
        """Loss of the best answer that remembers nothing."""

    @property
    def features(self) -> Features:
        """Of the examples in a `datasets.Dataset`: ids, and a label of each."""
        return Features({"input_ids": List(Value("int64")), "labels": List(Value("int64"))})

    @property
    def purpose(self) -> str:
        """Names its randomness, by problem and length: every length has numbers of its own."""
        return f"{self.name}/{self.length}"

    def num_tokens(self, rng: np.random.Generator) -> int:
        """Steps of an example: all have the same."""
        return self.num_steps

    @abstractmethod
    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """One example: the models' keyword arguments, without the batch."""


@dataclass(frozen=True)
class AddingProblem(LongRangeProblem):
    """The sum of two marked numbers among T (Hochreiter & Schmidhuber 1997, experiment 4; in this form Arjovsky et al.
    2016, section 5.2, and Bai et al. 2018, section 4).

    `inputs_embeds` `(T, 2)` float32 are a number in [0, 1) and a marker, which is 1 at one place of the first half and
    at one of the second, else 0; `labels` is the sum of the two numbers.

    Args:
        length: T, at least 2.

    Raises:
        ValueError: a shorter length.
    """

    name: ClassVar[str] = "adding"
    num_recalled: ClassVar[int] = 0
    vocab_size: ClassVar[int] = 1
    num_labels: ClassVar[int] = 1

    @property
    def num_steps(self) -> int:
        """T."""
        return self.length

    @property
    def baseline(self) -> float:
        """1/6, the squared error of always answering 1: the variance of the sum."""
        return 1 / 6

    @property
    def features(self) -> Features:
        """Of the examples in a `datasets.Dataset`."""
        return Features({"inputs_embeds": List(List(Value("float32"))), "labels": Value("float32")})

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """`inputs_embeds` and `labels`."""
        half = self.length // 2
        places = [rng.integers(half), rng.integers(half, self.length)]
        inputs = np.zeros((self.length, 2), dtype=np.float32)
        inputs[:, 0] = rng.random(self.length, dtype=np.float32)
        inputs[places, 1] = 1
        return {"inputs_embeds": inputs, "labels": inputs[places, 0].sum()}


@dataclass(frozen=True)
class CopyMemoryProblem(LongRangeProblem):
    """Ten symbols, to be repeated after T steps (Arjovsky et al. 2016, section 5.1).

    `input_ids` `(T + 20,)`: ten ids below 8, T - 1 blanks (8), a sign to begin (9) and ten more blanks. `labels`
    `(T + 20,)`: T + 10 blanks, then the ten ids.

    Args:
        length: T, at least 2.

    Raises:
        ValueError: a shorter length.
    """

    name: ClassVar[str] = "copy"
    num_recalled: ClassVar[int] = COPIED_SYMBOLS
    blank: ClassVar[int] = 8
    begin: ClassVar[int] = 9
    vocab_size: ClassVar[int] = 10
    num_labels: ClassVar[int] = 9

    @property
    def num_steps(self) -> int:
        """T + 20."""
        return self.length + 2 * COPIED_SYMBOLS

    @property
    def baseline(self) -> float:
        """10 ln 8 / (T + 20): blanks where they belong, and a guess at each symbol."""
        return COPIED_SYMBOLS * math.log(self.blank) / self.num_steps

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """`input_ids` and `labels`."""
        symbols = rng.integers(self.blank, size=COPIED_SYMBOLS)
        inputs, labels = (np.full(self.num_steps, self.blank, dtype=np.int64) for _ in range(2))
        inputs[:COPIED_SYMBOLS] = symbols
        inputs[-COPIED_SYMBOLS - 1] = self.begin
        labels[-COPIED_SYMBOLS:] = symbols
        return {"input_ids": inputs, "labels": labels}


@dataclass(frozen=True)
class AssociativeRecallProblem(LongRangeProblem):
    """Pairs of a key and a value; T steps later a key, whose value is the answer (Graves et al. 2014, section
    4.3; in this form, of single symbols, Ba et al. 2016, section 4.1).

    `input_ids` `(T + 2 * num_pairs,)`: as often as there are pairs, an id of a key, below 8, and one of its value,
    from 8 to 15; T - 1 blanks (16); and one of the keys, which are all different. `labels`, of the same shape: at the
    last step the value, counted from 0; -100 before it.

    Args:
        length: T, at least 2.
        num_pairs: 1 to 8; Ba et al. have four.

    Raises:
        ValueError: a shorter length, or another number of pairs.
    """

    name: ClassVar[str] = "recall"
    num_recalled: ClassVar[int] = 1
    num_keys: ClassVar[int] = 8
    num_labels: ClassVar[int] = 8
    blank: ClassVar[int] = 16
    vocab_size: ClassVar[int] = 17

    num_pairs: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_pairs <= self.num_keys:
            raise ValueError(f"num_pairs={self.num_pairs} must lie in [1, {self.num_keys}].")

    @property
    def num_steps(self) -> int:
        """T and the pairs."""
        return self.length + 2 * self.num_pairs

    @property
    def baseline(self) -> float:
        """ln 8: a guess at the value."""
        return math.log(self.num_labels)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """`input_ids` and `labels`."""
        keys = rng.permutation(self.num_keys)[: self.num_pairs]
        values = rng.integers(self.num_labels, size=self.num_pairs)
        asked = rng.integers(self.num_pairs)
        inputs = np.full(self.num_steps, self.blank, dtype=np.int64)
        inputs[: 2 * self.num_pairs : 2], inputs[1 : 2 * self.num_pairs : 2] = keys, self.num_keys + values
        inputs[-1] = keys[asked]
        labels = np.full(self.num_steps, IGNORE_INDEX, dtype=np.int64)
        labels[-1] = values[asked]
        return {"input_ids": inputs, "labels": labels}


PROBLEMS: dict[str, Callable[[int], LongRangeProblem]] = {
    problem.name: problem for problem in (AddingProblem, CopyMemoryProblem, AssociativeRecallProblem)
}


def collate(examples: list[dict[str, Any]], width: int | None = None) -> dict[str, torch.Tensor]:
    """Stacks examples of one length: each field `(batch, …)`.

    Args:
        width: numbers of a step that the model takes: `inputs_embeds` gets zeros behind its own.
    """
    batch = {name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in examples[0]}
    if width is not None and "inputs_embeds" in batch:
        inputs = batch["inputs_embeds"]
        batch["inputs_embeds"] = torch.nn.functional.pad(inputs, (0, width - inputs.shape[-1]))
    return batch


def adding_problem(num_examples: int, length: int, seed: int, split: str = "train") -> Dataset:
    """`num_examples` of `AddingProblem(length)` as a finite dataset; row i depends on (seed, split, i) alone.

    Raises:
        ValueError: `num_examples` below 1 or `length` below 2.
    """
    return _as_dataset(AddingProblem(length), num_examples, seed, split)


def copy_memory(num_examples: int, length: int, seed: int, split: str = "train") -> Dataset:
    """`num_examples` of `CopyMemoryProblem(length)` as a finite dataset; row i depends on (seed, split, i) alone.

    Raises:
        ValueError: `num_examples` below 1 or `length` below 2.
    """
    return _as_dataset(CopyMemoryProblem(length), num_examples, seed, split)


def associative_recall(num_examples: int, length: int, seed: int, split: str = "train") -> Dataset:
    """`num_examples` of `AssociativeRecallProblem(length)`, finite; row i depends on (seed, split, i) alone.

    Raises:
        ValueError: `num_examples` below 1 or `length` below 2.
    """
    return _as_dataset(AssociativeRecallProblem(length), num_examples, seed, split)


def _as_dataset(problem: LongRangeProblem, num_examples: int, seed: int, split: str) -> Dataset:
    examples = GeneratedExamples(problem, num_examples, seed, split)
    rows = [examples[Key(0, 0, index)] for index in range(len(examples))]
    return Dataset.from_list(rows, features=problem.features)
