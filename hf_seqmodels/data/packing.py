"""Collators: examples of unequal length to a padded batch, or to one packed row without any padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Example = Mapping[str, Any]

IGNORED_LABEL = -100


def _check_features(features: Sequence[Example]) -> None:
    if not features:
        raise ValueError("features is empty: a batch needs at least one example.")
    for number, example in enumerate(features):
        if len(example["input_ids"]) == 0:
            raise ValueError(f"features[{number}] has no tokens: drop rows of length zero before collating.")


def _pair_labels(features: Sequence[Example]) -> dict[str, torch.Tensor]:
    if "next_sentence_label" not in features[0]:
        return {}
    return {"next_sentence_label": torch.tensor([int(example["next_sentence_label"]) for example in features])}


def collate_padded(
    features: Sequence[Example], pad_token_id: int, pad_to_multiple_of: int | None = None
) -> dict[str, torch.Tensor]:
    """Stacks examples, padded on the right to the longest of them.

    Args:
        features: examples with `input_ids`, `token_type_ids`, `labels` (1-D) and maybe `next_sentence_label`.
        pad_token_id: what fills up `input_ids`; labels are filled with -100, the others with 0.
        pad_to_multiple_of: round the length up to a multiple of it.

    Returns:
        `input_ids`, `token_type_ids`, `attention_mask` (1 on real tokens), `labels`, all `(batch, length)` int64, and
        `next_sentence_label` `(batch,)` where the examples have one.

    Raises:
        ValueError: no examples, or one without tokens.
    """
    _check_features(features)
    lengths = [len(example["input_ids"]) for example in features]
    multiple = pad_to_multiple_of or 1
    shape = (len(features), -(-max(lengths) // multiple) * multiple)
    rows = {
        "input_ids": np.full(shape, pad_token_id, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
        "labels": np.full(shape, IGNORED_LABEL, dtype=np.int64),
    }
    attention_mask = np.zeros(shape, dtype=np.int64)
    for number, (example, length) in enumerate(zip(features, lengths)):
        attention_mask[number, :length] = 1
        for name, row in rows.items():
            row[number, :length] = example[name]
    tensors = {name: torch.from_numpy(row) for name, row in rows.items()}
    return {**tensors, "attention_mask": torch.from_numpy(attention_mask), **_pair_labels(features)}


def collate_packed(features: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Lays examples one behind the other in a single row; nothing is padded.

    Args:
        features: as for `collate_padded`.

    Returns:
        `input_ids`, `token_type_ids`, `position_ids` (from 0 in each example), `labels`, all `(1, tokens)` int64;
        `cu_seq_lens` `(examples + 1,)` int32, where each example begins and the last ends; `next_sentence_label`
        `(examples,)` where the examples have one. There is no `attention_mask`: the model builds the block-diagonal
        one from `cu_seq_lens`.

    Raises:
        ValueError: no examples, or one without tokens.
    """
    _check_features(features)
    lengths = [len(example["input_ids"]) for example in features]
    rows = {
        name: np.concatenate([example[name] for example in features]).astype(np.int64, copy=False)
        for name in ("input_ids", "token_type_ids", "labels")
    }
    rows["position_ids"] = np.concatenate([np.arange(length) for length in lengths])
    tensors = {name: torch.from_numpy(row).unsqueeze(0) for name, row in rows.items()}
    cu_seq_lens = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))
    return {**tensors, "cu_seq_lens": cu_seq_lens, **_pair_labels(features)}


@dataclass(frozen=True)
class PaddedCollator:
    """`collate_padded` with its settings bound: a DataLoader's `collate_fn` that pickles into workers.

    Args:
        pad_token_id: the tokenizer's.
        pad_to_multiple_of: round the length up to a multiple of it (8 suits tensor cores).
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of={self.pad_to_multiple_of} must be at least 1, or None.")

    def __call__(self, features: Sequence[Example]) -> dict[str, torch.Tensor]:
        return collate_padded(features, self.pad_token_id, self.pad_to_multiple_of)


@dataclass(frozen=True)
class PackedCollator:
    """`collate_packed` as an object, beside `PaddedCollator`."""

    def __call__(self, features: Sequence[Example]) -> dict[str, torch.Tensor]:
        return collate_packed(features)
