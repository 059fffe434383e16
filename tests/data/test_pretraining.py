"""The pretraining dataset: pure functions of keys, whatever the workers, batches and order."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.masking import MaskingRule
from hf_seqmodels.data.pretraining import BertPretrainingDataset
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.shards import ArrowShards, StreamShards

Make = Callable[..., BertPretrainingDataset]
RULES = ("google", "balanced", "none")


@pytest.fixture
def make(tokenized: Dataset, tokenizer: PreTrainedTokenizerFast) -> Make:
    def made(**settings: object) -> BertPretrainingDataset:
        defaults: dict[str, object] = {"max_length": 64, "seed": 0}
        return BertPretrainingDataset(ArrowShards(tokenized, 80), tokenizer, **{**defaults, **settings})  # type: ignore[arg-type]

    return made


def same(first: dict[str, object], second: dict[str, object]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)  # type: ignore[arg-type]


def original(example: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(example["labels"] != -100, example["labels"], example["input_ids"])


@pytest.mark.parametrize("nsp", RULES)
@pytest.mark.parametrize("strategy", ["token", "whole_word", "span"])
def test_examples_are_well_formed(nsp: str, strategy: str, make: Make) -> None:
    dataset = make(nsp=nsp, masking=MaskingRule(strategy))
    lengths = dataset.example_lengths(0, 1)
    assert dataset.num_shards == 3 and lengths.min() >= 3 and lengths.max() == 64
    for index, length in enumerate(lengths.tolist()):
        example = dataset[Key(0, 1, index)]
        assert all(example[name].shape == (length,) for name in ("input_ids", "token_type_ids", "labels"))
        assert all(example[name].dtype == np.int64 for name in ("input_ids", "token_type_ids", "labels"))
        ids = original(example)
        assert ids[0] == 2 and ids[-1] == 3
        separators = np.flatnonzero(ids == 3)
        assert len(separators) == (1 if nsp == "none" else 2)
        assert example["token_type_ids"].tolist() == [int(i > separators[0]) for i in range(length)]
        assert ("next_sentence_label" in example) == (nsp != "none")
        assert (example["labels"] != -100).any()
        assert not (example["labels"][[0, -1]] != -100).any()


@pytest.mark.parametrize("nsp", RULES)
def test_text_is_that_of_the_documents(nsp: str, make: Make, embedded: Dataset, tokenizer: object) -> None:
    text = "\n".join(
        " ".join(tokenizer.decode(tokenizer(sentence, add_special_tokens=False)["input_ids"]) for sentence in document)  # type: ignore[operator,attr-defined]
        for document in embedded["sentences"]
    )
    dataset = make(nsp=nsp)
    found = 0
    for index in range(40):
        example = dataset[Key(0, 0, index)]
        ids = original(example)
        words = tokenizer.decode(ids[example["token_type_ids"] == 0][1:-1]).split(" ")  # type: ignore[attr-defined]
        found += " ".join(words[1:-1]) in text  # the outer words may be cut
    assert found > 34


def test_examples_do_not_depend_on_order_or_history(make: Make) -> None:
    keys = [Key(epoch, shard, index) for epoch in (0, 1) for shard in (0, 1, 2) for index in (0, 5, 17)]
    dataset = make()
    forward = {key: dataset[key] for key in keys}
    order = np.random.default_rng(0).permutation(len(keys)).tolist()
    assert all(same(dataset[keys[i]], forward[keys[i]]) for i in order)
    assert all(same(make()[key], forward[key]) for key in keys[:4])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_examples_do_not_depend_on_workers_or_batches(workers: int, batch_size: int, make: Make) -> None:
    keys = [Key(epoch, shard, index) for epoch in (0, 1) for shard in (2, 0) for index in range(12)]
    dataset = make()
    loader: DataLoader = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=[keys[i : i + batch_size] for i in range(0, len(keys), batch_size)],
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork",
    )
    found = [example for batch in loader for example in batch]
    assert len(found) == len(keys)
    assert all(same(example, dataset[key]) for example, key in zip(found, keys))


def test_pairs_and_masks_are_new_in_every_epoch(make: Make) -> None:
    dataset = make(nsp="none", short_seq_prob=0.0)
    first, second = dataset[Key(0, 0, 3)], dataset[Key(1, 0, 3)]
    assert np.array_equal(original(first), original(second)), "blocks of full length are the same in every epoch"
    assert not np.array_equal(first["labels"], second["labels"])
    paired = make()
    assert any(not same(paired[Key(0, 0, i)], paired[Key(1, 0, i)]) for i in range(5))
    assert not np.array_equal(make(seed=1)[Key(0, 0, 3)]["labels"], paired[Key(0, 0, 3)]["labels"])


def test_neighbours_have_other_masks(make: Make) -> None:
    dataset = make(nsp="none", short_seq_prob=0.0, max_length=32)
    places = {tuple(np.flatnonzero(dataset[Key(0, 0, i)]["labels"] != -100).tolist()) for i in range(50)}
    assert len(places) > 40


def test_static_repeats_after_the_duplication_factor(make: Make) -> None:
    static = make(duplication_factor=3)
    keys = [(shard, index) for shard in (0, 2) for index in (0, 9)]
    assert all(same(static[Key(1, *key)], static[Key(4, *key)]) for key in keys)
    assert np.array_equal(static.example_lengths(1, 0), static.example_lengths(4, 0))
    assert not all(same(static[Key(0, *key)], static[Key(1, *key)]) for key in keys)
    assert all(same(static[Key(1, *key)], make()[Key(1, *key)]) for key in keys)
    assert not all(same(make()[Key(1, *key)], make()[Key(4, *key)]) for key in keys)


@pytest.mark.parametrize("nsp", RULES)
def test_stream_gives_the_same_examples(
    nsp: str, make: Make, embedded: Dataset, tokenizer: PreTrainedTokenizerFast
) -> None:
    shards = StreamShards(embedded.to_iterable_dataset(), tokenizer, 80)
    streamed = BertPretrainingDataset(shards, tokenizer, max_length=64, seed=0, nsp=nsp)
    kept = make(nsp=nsp)
    assert streamed.num_shards is None
    for shard in range(3):
        lengths = kept.example_lengths(2, shard)
        assert np.array_equal(streamed.example_lengths(2, shard), lengths)
        assert all(same(streamed[Key(2, shard, i)], kept[Key(2, shard, i)]) for i in range(0, len(lengths), 9))
    with pytest.raises(IndexError, match="shard 3 does not exist"):
        streamed.example_lengths(2, 3)


def test_balanced_labels(make: Make) -> None:
    dataset = make(nsp="balanced")
    for shard in range(3):
        labels = [
            dataset[Key(0, shard, index)]["next_sentence_label"]
            for index in range(len(dataset.example_lengths(0, shard)))
        ]
        assert abs(2 * sum(labels) - len(labels)) <= 1


def test_two_lengths_over_the_same_shards(tokenized: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = ArrowShards(tokenized, 80)
    short, long = (BertPretrainingDataset(shards, tokenizer, max_length=n, seed=0) for n in (32, 256))
    assert short.example_lengths(0, 0).max() == 32 and long.example_lengths(0, 0).max() == 256


def test_pickled_dataset_is_small_and_the_same(make: Make) -> None:
    dataset = make()
    before = dataset[Key(0, 0, 1)]
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 40_000
    assert same(pickle.loads(pickled)[Key(0, 0, 1)], before)


@pytest.mark.parametrize("key", [Key(0, 0, -1), Key(0, 0, 100_000)])
def test_no_such_example(key: Key, make: Make) -> None:
    with pytest.raises(IndexError, match=f"example {key.index} does not exist"):
        make()[key]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nsp": "sop"}, "nsp='sop' must be one of google, balanced, none"),
        ({"short_seq_prob": 1.5}, "short_seq_prob=1.5 must be between 0 and 1"),
        ({"duplication_factor": 0}, "duplication_factor=0 must be at least 1"),
        ({"max_length": 4}, "max_length=4 cannot hold the 3 special tokens and 2 more: it must be at least 5"),
        ({"max_length": 3, "nsp": "none"}, "max_length=3 cannot hold the 2 special tokens"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str, make: Make) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_shortest_lengths(make: Make) -> None:
    assert make(max_length=5)[Key(0, 0, 0)]["input_ids"].shape == (5,)
    assert make(max_length=4, nsp="none")[Key(0, 0, 0)]["input_ids"].shape == (4,)


@pytest.mark.parametrize("nsp", ["google", "balanced"])
def test_one_document_cannot_be_paired(nsp: str, tokenized: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = ArrowShards(tokenized.select([0]))
    with pytest.raises(ValueError, match=f"nsp='{nsp}' needs at least two documents"):
        BertPretrainingDataset(shards, tokenizer, max_length=64, seed=0, nsp=nsp)
    assert len(BertPretrainingDataset(shards, tokenizer, max_length=64, seed=0, nsp="none").example_lengths(0, 0)) > 0


def test_one_streamed_document_cannot_be_paired(embedded: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = StreamShards(embedded.select([0]).to_iterable_dataset(), tokenizer)
    dataset = BertPretrainingDataset(shards, tokenizer, max_length=64, seed=0)
    with pytest.raises(ValueError, match="needs at least two documents"):
        dataset.example_lengths(0, 0)
