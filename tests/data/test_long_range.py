"""The long-range problems: what their papers say of them, and that each example depends on its key alone."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.data.long_range import (
    PROBLEMS,
    AddingProblem,
    AssociativeRecallProblem,
    CopyMemoryProblem,
    adding_problem,
    associative_recall,
    collate,
    copy_memory,
)
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor

MAKERS = {"adding": adding_problem, "copy": copy_memory, "recall": associative_recall}
ALL = pytest.mark.parametrize("problem", [make(21) for make in PROBLEMS.values()], ids=list(PROBLEMS))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("length", [2, 3, 21, 50])
def test_adding_marks_a_number_in_each_half(length: int) -> None:
    seen = set()
    for row in adding_problem(200, length, seed=1).with_format("numpy"):
        values, markers = row["inputs_embeds"].T
        first, second = np.flatnonzero(markers)
        assert markers[first] == markers[second] == 1
        assert first < length // 2 <= second
        assert values.min() >= 0 and values.max() < 1
        np.testing.assert_allclose(row["labels"], values[first] + values[second], rtol=1e-6)  # float32
        seen.update((int(first), int(second)))
    if length == 21:
        assert seen == set(range(length))


def test_the_adding_baseline_is_the_error_of_answering_one() -> None:
    labels = adding_problem(5000, 4, seed=0).with_format("numpy")["labels"][:]
    # The mean of 5000 squared errors of deviation 0.197 is off by 0.0028 once; four times that is allowed.
    assert abs(np.square(labels - 1).mean() - AddingProblem(4).baseline) < 0.011
    assert AddingProblem(4).baseline == pytest.approx(0.1667, abs=1e-4)


def test_copy_memory_is_laid_out_as_in_the_paper() -> None:
    length = 30
    for row in copy_memory(50, length, seed=1).with_format("numpy"):
        inputs, labels = row["input_ids"], row["labels"]
        assert len(inputs) == len(labels) == length + 20 == CopyMemoryProblem(length).num_steps
        assert inputs[:10].max() < 8
        np.testing.assert_array_equal(inputs[10:], [8] * (length - 1) + [9] + [8] * 10)
        np.testing.assert_array_equal(labels, [8] * (length + 10) + inputs[:10].tolist())
    assert set(np.concatenate([row["input_ids"][:10] for row in copy_memory(50, length, seed=1)])) == set(range(8))


def test_the_copy_baseline_is_the_loss_of_a_guess() -> None:
    problem = CopyMemoryProblem(30)
    probabilities = torch.zeros(problem.num_steps, problem.num_labels)
    probabilities[:-10, problem.blank] = 1
    probabilities[-10:, : problem.blank] = 1 / 8
    labels = torch.from_numpy(np.array(copy_memory(1, 30, seed=0)[0]["labels"]))
    loss = torch.nn.functional.nll_loss(probabilities.log(), labels)
    assert loss.item() == pytest.approx(problem.baseline, rel=1e-5)  # float32


def test_recall_asks_for_the_value_of_one_of_its_keys() -> None:
    length, asked, answers = 12, set(), set()
    for row in associative_recall(300, length, seed=1).with_format("numpy"):
        inputs, labels = row["input_ids"], row["labels"]
        assert len(inputs) == len(labels) == length + 8 == AssociativeRecallProblem(length).num_steps
        keys, values = inputs[:8:2], inputs[1:8:2]
        assert len(set(keys)) == 4 and keys.max() < 8 <= values.min() and values.max() < 16
        np.testing.assert_array_equal(inputs[8:-1], [16] * (length - 1))
        (place,) = np.flatnonzero(keys == inputs[-1])
        np.testing.assert_array_equal(labels, [-100] * (length + 7) + [values[place] - 8])
        asked.add(int(place))
        answers.add(int(labels[-1]))
    assert asked == set(range(4)) and answers == set(range(8))
    assert AssociativeRecallProblem(length, num_pairs=2).num_steps == length + 4
    assert AssociativeRecallProblem(length).baseline == pytest.approx(2.079, abs=1e-3)  # ln 8


@ALL
def test_an_example_depends_on_its_key_alone(problem: Any) -> None:
    examples = GeneratedExamples(problem, 100, seed=3)
    assert same(examples[Key(1, 0, 7)], GeneratedExamples(problem, 8, seed=3)[Key(1, 0, 7)])
    others = [
        examples[Key(0, 0, 7)],
        examples[Key(1, 0, 8)],
        GeneratedExamples(problem, 100, seed=4)[Key(1, 0, 7)],
        GeneratedExamples(problem, 100, seed=3, split="validation")[Key(1, 0, 7)],
    ]
    assert not any(same(examples[Key(1, 0, 7)], other) for other in others)


@ALL
def test_the_dataset_holds_the_same_examples_as_the_stream(problem: Any) -> None:
    make = MAKERS[problem.name]
    rows = make(12, problem.length, seed=5)
    examples = GeneratedExamples(problem, 12, seed=5)
    for index, row in enumerate(rows.with_format("numpy")):
        assert same(row, examples[Key(0, 0, index)])
    assert rows[:5] == make(5, problem.length, seed=5)[:]


def test_the_stream_goes_on_with_new_examples() -> None:
    examples = GeneratedExamples(AddingProblem(6), 10, seed=0)
    assert len(examples) == 10
    batches = list(islice(BatchStream(examples, 0, batch_size=5).micro_batches(Cursor()), 4))
    labels = [float(examples[key]["labels"]) for keys, _ in batches for key in keys]
    assert len(set(labels)) == 20  # two epochs


def test_batches() -> None:
    examples = GeneratedExamples(AddingProblem(6), 10, seed=0)
    rows = [examples[Key(0, 0, index)] for index in range(3)]
    batch = collate(rows)
    assert batch["inputs_embeds"].shape == (3, 6, 2) and batch["labels"].shape == (3,)
    assert {values.dtype for values in batch.values()} == {torch.float32}
    wide = collate(rows, width=5)["inputs_embeds"]
    assert torch.equal(wide[..., :2], batch["inputs_embeds"]) and not wide[..., 2:].any() and wide.shape == (3, 6, 5)
    copied = collate([GeneratedExamples(CopyMemoryProblem(6), 3, seed=0)[Key(0, 0, 0)]], width=5)
    assert copied["input_ids"].shape == copied["labels"].shape == (1, 26)


def test_refusals() -> None:
    for make in MAKERS.values():
        with pytest.raises(ValueError, match="length=1 must be at least 2"):
            make(1, 1, seed=0)
        with pytest.raises(ValueError, match="num_examples=0 must be at least 1"):
            make(0, 10, seed=0)
    for pairs in (0, 9):
        with pytest.raises(ValueError, match=rf"num_pairs={pairs} must lie in \[1, 8\]"):
            AssociativeRecallProblem(4, pairs)
    with pytest.raises(IndexError, match="shard=1"):
        GeneratedExamples(AddingProblem(4), 1, seed=0).example_lengths(0, 1)
