"""Pairs as examples and batches of encoder-decoders."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_seqmodels.data.lm_tokenizers import train_lm_tokenizer
from hf_seqmodels.data.parallel import ParallelSource, load_parallel
from hf_seqmodels.data.sampling import BatchStream, Cursor
from hf_seqmodels.data.translation import TranslationCollator, TranslationDataset
from hf_seqmodels.data.translation_tokenizers import train_characters, train_joint_bpe

MULTI30K = Path("/work/shared/data/multi30k")
PAIRS = Dataset.from_dict({"source": ["abc", "a", "cab", "bb"], "target": ["xy", "xyxyx", "x", "yy"]})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_characters([*PAIRS["source"], *PAIRS["target"]])


def test_examples(tokenizer: PreTrainedTokenizerFast) -> None:
    data = TranslationDataset(PAIRS, tokenizer, 8, 8)
    assert data.num_shards == 1 and len(data) == 4 and data.num_truncated == 0
    for index, pair in enumerate(PAIRS):
        expected = {"input_ids": tokenizer(pair["source"]).input_ids, "labels": tokenizer(pair["target"]).input_ids}
        assert data[(5, 0, index)] == expected
        assert expected["labels"][-1] == tokenizer.eos_token_id and tokenizer.bos_token_id not in expected["labels"]
    assert data.part_lengths(0, 0).tolist() == [[4, 3], [2, 6], [4, 2], [3, 3]]
    assert data.example_lengths(0, 0).tolist() == [7, 8, 6, 6]
    assert pickle.loads(pickle.dumps(data))[(0, 0, 2)] == data[(0, 0, 2)]
    for key in ((0, 1, 0), (0, 0, 4), (0, 0, -1)):
        with pytest.raises(IndexError):
            data[key]
    with pytest.raises(IndexError):
        data.example_lengths(0, 1)


def test_batches(tokenizer: PreTrainedTokenizerFast) -> None:
    data = TranslationDataset(PAIRS, tokenizer, 8, 8)
    examples = [data[(0, 0, index)] for index in range(4)]
    batch = TranslationCollator(tokenizer.pad_token_id)(examples)
    assert {name: tuple(v.shape) for name, v in batch.items()} == {
        "input_ids": (4, 4),
        "attention_mask": (4, 4),
        "labels": (4, 6),
    }
    assert {v.dtype for v in batch.values()} == {torch.int64}
    for row, example in enumerate(examples):
        ids, labels = example["input_ids"], example["labels"]
        assert batch["input_ids"][row].tolist() == ids + [tokenizer.pad_token_id] * (4 - len(ids))
        assert batch["attention_mask"][row].tolist() == [1] * len(ids) + [0] * (4 - len(ids))
        assert batch["labels"][row].tolist() == labels + [-100] * (6 - len(labels))


def test_longer_sentences(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    message = r"max_source_length=3: 2 of 4 sources are longer, that of pair 1 has 4 tokens.*truncate=True"
    with pytest.raises(ValueError, match=message):
        TranslationDataset(PAIRS, tokenizer, 3, 8)
    with pytest.raises(ValueError, match="max_target_length=5: 1 of 4 targets are longer, that of pair 2 has 6"):
        TranslationDataset(PAIRS, tokenizer, 4, 5)
    with caplog.at_level(logging.INFO, logger="hf_seqmodels"):
        data = TranslationDataset(PAIRS, tokenizer, 3, 5, truncate=True)
    assert data.num_truncated == 3
    assert "Cut 2 of 4 sources to 3 tokens" in caplog.text and "Cut 1 of 4 targets to 5 tokens" in caplog.text
    # What is cut still says where it ends.
    assert data[(0, 0, 0)]["input_ids"] == tokenizer("ab").input_ids
    assert data[(0, 0, 1)]["labels"] == tokenizer("xyxy").input_ids


def test_refuses_nonsense(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="max_target_length=1 must be at least 2"):
        TranslationDataset(PAIRS, tokenizer, 8, 1)
    with pytest.raises(ValueError, match="no column 'target'; it has source"):
        TranslationDataset(PAIRS.remove_columns("target"), tokenizer, 8, 8)
    with pytest.raises(ValueError, match="no pairs"):
        TranslationDataset(PAIRS.select([]), tokenizer, 8, 8)
    with pytest.raises(ValueError, match="eos_token='<eos>': the tokenizer does not put it behind a source"):
        TranslationDataset(PAIRS, train_lm_tokenizer([], "byte", 0), 8, 8)


@pytest.mark.skipif(not MULTI30K.exists(), reason="shared data is not on this machine")
def test_buckets_save_padding_on_multi30k() -> None:
    files = str(MULTI30K / "val.de.gz"), str(MULTI30K / "val.en.gz")
    pairs = load_parallel(ParallelSource(files=files))
    data = TranslationDataset(pairs, train_joint_bpe([*pairs["source"], *pairs["target"]], 2000), 128, 128)

    def padding(window: int | None) -> float:
        real = padded = 0
        for batch, _ in BatchStream(data, 0, 1, token_budget=1024, bucket_window=window).micro_batches(Cursor()):
            if batch[0].epoch == 1:
                return 1 - real / padded
            lengths = data.part_lengths(0, 0)[[key.index for key in batch]]
            real, padded = real + lengths.sum(), padded + len(batch) * lengths.max(axis=0).sum()
        raise AssertionError("the stream ended")

    without, with_buckets = padding(None), padding(1014)
    assert without > 0.4 and with_buckets < 0.15
    assert np.isfinite([without, with_buckets]).all()
