"""Shards of a table on disk and of a stream."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.shards import ArrowShards, DocumentShards, Shard, StreamShards
from hf_seqmodels.data.tokenization import TOKEN_FEATURES


def table(num_documents: int) -> Dataset:
    rows = [{"tokens": [n] * 3, "sentence_lengths": [1, 2]} for n in range(num_documents)]
    return Dataset.from_list(rows, features=TOKEN_FEATURES)


def sizes(shards: ArrowShards) -> list[int]:
    return [shards.load(k).num_documents for k in range(shards.num_shards)]


def all_shards(shards: DocumentShards) -> Iterator[Shard]:
    number = 0
    while True:
        try:
            yield shards.load(number)
        except IndexError:
            return
        number += 1


def equal(first: Shard, second: Shard) -> bool:
    names = ("tokens", "sentence_starts", "document_starts")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_flat_arrays(tokenized: Dataset) -> None:
    shard = ArrowShards(tokenized, 50).load(1)
    assert shard.tokens.dtype == np.int32 and shard.num_documents == 50
    rows = tokenized[50:100]
    assert shard.tokens.tolist() == [token for tokens in rows["tokens"] for token in tokens]
    assert np.diff(shard.sentence_starts).tolist() == [n for lengths in rows["sentence_lengths"] for n in lengths]
    assert np.diff(shard.document_starts).tolist() == [len(lengths) for lengths in rows["sentence_lengths"]]
    assert shard.sentence_starts[-1] == len(shard.tokens)
    assert shard.document_starts[-1] == len(shard.sentence_starts) - 1


@pytest.mark.parametrize(
    ("num_documents", "expected"), [(1, [1]), (3, [3]), (4, [2, 2]), (5, [2, 3]), (10, [2] * 5), (11, [2, 2, 2, 2, 3])]
)
def test_no_shard_of_a_single_document(num_documents: int, expected: list[int]) -> None:
    assert sizes(ArrowShards(table(num_documents), 2)) == expected


def test_documents_in_any_order_and_chunks() -> None:
    shuffled = table(7).select([6, 0, 3, 2, 1, 5, 4])
    assert ArrowShards(shuffled, 3).load(1).tokens.tolist() == [2, 2, 2, 1, 1, 1, 5, 5, 5, 4, 4, 4]


@pytest.mark.parametrize("number", [-1, 3])
def test_no_such_shard(number: int) -> None:
    with pytest.raises(IndexError, match=f"shard {number} does not exist"):
        ArrowShards(table(6), 2).load(number)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_stream_equals_table(
    extra: int, embedded: Dataset, tokenized: Dataset, tokenizer: PreTrainedTokenizerFast
) -> None:
    number = 30 + extra
    stream = embedded.select(range(number)).to_iterable_dataset()
    streamed = list(all_shards(StreamShards(stream, tokenizer, 10)))
    kept = list(all_shards(ArrowShards(tokenized.select(range(number)), 10)))
    assert len(streamed) == len(kept) == (4 if extra == 2 else 3)
    assert all(equal(first, second) for first, second in zip(streamed, kept))


def test_stream_in_any_order(embedded: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = StreamShards(embedded.to_iterable_dataset(num_shards=3), tokenizer, 20)
    forward = [shards.load(number) for number in range(4)]
    for number in (2, 0, 3, 1, 2):
        assert equal(shards.load(number), forward[number])
    with pytest.raises(IndexError, match="the stream ends before document 2000"):
        shards.load(100)
    assert shards.num_shards is None and shards.num_documents is None


def test_resumed_stream_does_not_tokenise_what_it_skips(embedded: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    seen = []

    class Recording(PreTrainedTokenizerFast):
        def __call__(self, *args: object, **kwargs: object) -> object:
            seen.extend(args[0])  # type: ignore[arg-type]
            return super().__call__(*args, **kwargs)

    recording = Recording(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    StreamShards(embedded.to_iterable_dataset(), recording, 20).load(3)
    assert seen == [sentence for document in embedded["sentences"][60:80] for sentence in document]


class ShardTokens:
    """Map-style dataset of the tokens of each shard, to be loaded in worker processes."""

    def __init__(self, shards: DocumentShards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> np.ndarray:
        return self.shards.load(number).tokens


def test_each_worker_reads_the_whole_stream(embedded: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = StreamShards(embedded.to_iterable_dataset(num_shards=4), tokenizer, 20)
    loader = DataLoader(ShardTokens(shards), batch_size=None, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    found = [np.asarray(tokens) for tokens in loader]
    assert all(np.array_equal(tokens, shards.load(number).tokens) for number, tokens in enumerate(found))


def test_pickled_shards_are_small(tokenized: Dataset, embedded: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    arrow = ArrowShards(tokenized, 50)
    before = arrow.load(0)
    assert len(pickle.dumps(arrow)) < 10_000
    assert equal(pickle.loads(pickle.dumps(arrow)).load(0), before)
    stream = StreamShards(embedded.to_iterable_dataset(), tokenizer, 50)
    stream.load(0)
    assert equal(pickle.loads(pickle.dumps(stream)).load(0), before)


def test_bad_shards(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="shard_documents=1 must be at least 2"):
        ArrowShards(table(3), 1)
    with pytest.raises(CorpusError, match="corpus is empty"):
        ArrowShards(table(1).select([]))
    empty = IterableDataset.from_generator(lambda: iter(()))
    with pytest.raises(CorpusError, match="the stream has no documents"):
        StreamShards(empty, tokenizer).load(0)
    blank = Dataset.from_dict({"sentences": [["\u200b"], ["\u200b"]]}).to_iterable_dataset()
    with pytest.raises(CorpusError, match="No document of shard 0 has any token"):
        StreamShards(blank, tokenizer).load(0)
