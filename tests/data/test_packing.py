"""Padded and packed batches of the same examples."""

import pickle

import numpy as np
import pytest
import torch

from hf_seqmodels.data.packing import PackedCollator, PaddedCollator


def example(length: int, pair: bool = True) -> dict[str, object]:
    ids = np.arange(10, 10 + length)
    labels = np.where(ids % 3 == 0, ids, -100)
    fields: dict[str, object] = {"input_ids": ids, "token_type_ids": (ids > 12).astype(np.int64), "labels": labels}
    return {**fields, "next_sentence_label": length % 2} if pair else fields


def test_padded() -> None:
    batch = PaddedCollator(pad_token_id=7)([example(3), example(5)])
    assert batch["input_ids"].tolist() == [[10, 11, 12, 7, 7], [10, 11, 12, 13, 14]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["token_type_ids"].tolist() == [[0] * 5, [0, 0, 0, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 12, -100, -100], [-100, -100, 12, -100, -100]]
    assert batch["next_sentence_label"].tolist() == [1, 1]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_padded_to_a_multiple() -> None:
    assert PaddedCollator(0, pad_to_multiple_of=8)([example(3), example(9)])["labels"].shape == (2, 16)
    assert PaddedCollator(0, pad_to_multiple_of=8)([example(8)])["labels"].shape == (1, 8)


def test_packed() -> None:
    batch = PackedCollator()([example(3), example(5), example(4)])
    assert batch["cu_seq_lens"].tolist() == [0, 3, 8, 12] and batch["cu_seq_lens"].dtype == torch.int32
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert batch["next_sentence_label"].tolist() == [1, 1, 0]
    assert set(batch) == {
        "input_ids", "token_type_ids", "labels", "position_ids", "cu_seq_lens", "next_sentence_label",
    }  # fmt: skip


def test_packed_holds_the_real_tokens_of_padded() -> None:
    examples = [example(length) for length in (3, 9, 1, 4)]
    padded, packed = PaddedCollator(0)(examples), PackedCollator()(examples)
    real = padded["attention_mask"].bool()
    for name in ("input_ids", "token_type_ids", "labels"):
        assert torch.equal(padded[name][real], packed[name][0])


@pytest.mark.parametrize("collator", [PaddedCollator(0), PackedCollator()])
def test_without_pairs_and_pickled(collator: PaddedCollator | PackedCollator) -> None:
    batch = pickle.loads(pickle.dumps(collator))([example(3, pair=False)])
    assert "next_sentence_label" not in batch


@pytest.mark.parametrize("collator", [PaddedCollator(0), PackedCollator()])
def test_empty_batches_and_rows_are_refused(collator: PaddedCollator | PackedCollator) -> None:
    with pytest.raises(ValueError, match="features is empty"):
        collator([])
    with pytest.raises(ValueError, match=r"features\[1\] has no tokens"):
        collator([example(3), example(0)])


def test_bad_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        PaddedCollator(0, pad_to_multiple_of=0)
