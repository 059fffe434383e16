"""Copying and reversing: what examples are, and that they depend on nothing but their names."""

import numpy as np
import pytest

from hf_seqmodels.data.copying import BOS, EOS, PAD, UNK, CopyingTask
from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor
from hf_seqmodels.data.translation_tokenizers import TRANSLATION_SPECIAL_TOKENS


@pytest.mark.parametrize("name", ["copy", "reverse"])
def test_examples_are_copies_or_reversals(name: str) -> None:
    task = CopyingTask(name, shortest=3, longest=7, num_symbols=5)
    examples = GeneratedExamples(task, 400, seed=1)
    sources, symbols = set(), set()
    for index in range(len(examples)):
        source, target = examples[Key(0, 0, index)].values()
        assert source[-1] == target[-1] == EOS
        body = source[:-1]
        assert target[:-1] == (body if name == "copy" else body[::-1])
        assert 3 <= len(body) <= 7
        sources.add(tuple(source))
        symbols.update(body)
    assert symbols == set(range(4, task.vocab_size)) and task.vocab_size == 9
    assert {len(source) - 1 for source in sources} == {3, 4, 5, 6, 7}
    assert len(sources) > 350  # some of the shortest meet again


def test_special_tokens_are_those_of_the_translation_tokenizers() -> None:
    assert [TRANSLATION_SPECIAL_TOKENS[index] for index in (PAD, BOS, EOS, UNK)] == ["<pad>", "<s>", "</s>", "<unk>"]


def test_lengths_are_those_of_the_examples_and_evenly_spread() -> None:
    examples = GeneratedExamples(CopyingTask("copy"), 2000, seed=3)
    for epoch in (0, 2):
        lengths = examples.example_lengths(epoch, 0)
        assert [len(examples[Key(epoch, 0, index)]["input_ids"]) for index in range(50)] == lengths[:50].tolist()
    counts = np.bincount(lengths)[6:]
    assert len(counts) == 56 and counts.min() > 0
    # 36 of each length are expected, with a deviation of 6; ten deviations never happen.
    assert counts.max() < 96


def test_examples_depend_on_seed_split_epoch_and_index_alone() -> None:
    task = CopyingTask("reverse")
    key = Key(1, 0, 7)
    example = GeneratedExamples(task, 10, seed=5)[key]
    assert GeneratedExamples(task, 99, seed=5)[key] == example
    others = [
        GeneratedExamples(task, 10, seed=6)[key],
        GeneratedExamples(task, 10, seed=5, split="validation")[key],
        GeneratedExamples(CopyingTask("copy"), 10, seed=5)[key],
        GeneratedExamples(task, 10, seed=5)[Key(0, 0, 7)],
        GeneratedExamples(task, 10, seed=5)[Key(1, 0, 8)],
    ]
    assert all(other["input_ids"] != example["input_ids"] for other in others)


def test_buckets_of_similar_length() -> None:
    examples = GeneratedExamples(CopyingTask("copy"), 64, seed=0)
    batches = BatchStream(examples, 0, batch_size=8, bucket_window=64).micro_batches(Cursor())
    spreads = []
    for _ in range(8):
        keys, _ = next(batches)
        lengths = [len(examples[key]["input_ids"]) for key in keys]
        spreads.append(max(lengths) - min(lengths))
    assert max(spreads) < 20


def test_refusals() -> None:
    for changes, message in (
        ({"name": "sort"}, "name='sort' is not known; choose one of copy, reverse"),
        ({"shortest": 0}, r"shortest=0 must lie in \[1, longest=60\]"),
        ({"shortest": 61}, r"shortest=61 must lie in \[1, longest=60\]"),
        ({"num_symbols": 1}, "num_symbols=1 must be at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            CopyingTask(**{"name": "copy", **changes})
    with pytest.raises(ValueError, match="num_examples=0 must be at least 1"):
        GeneratedExamples(CopyingTask("copy"), 0, seed=0)
    with pytest.raises(IndexError, match="shard=1"):
        GeneratedExamples(CopyingTask("copy"), 5, seed=0).example_lengths(0, 1)
