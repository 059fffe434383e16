"""Pairs of sentences as examples of encoder-decoders, and their batches."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from .random import Key

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
SHORTEST_LIMIT = 2


class TranslationDataset:
    """Pairs, tokenised once and kept in memory: a `ShardedDataset` of one shard, the same in every epoch.

    Args:
        dataset: columns `source` and `target`, what `load_parallel` and `date_pairs` return.
        tokenizer: puts its `eos_token` behind each text; only ids are kept.
        max_source_length: longest source in tokens, `eos_token` counted.
        max_target_length: longest target in tokens, `eos_token` counted.
        truncate: longer sides lose their end, but for `eos_token`; otherwise they are an error. How many were cut is
            logged and kept in `num_truncated`.

    Attributes:
        num_truncated: sources and targets that were cut.

    Raises:
        ValueError: a limit below 2, a column is missing, no pairs, longer sides without `truncate` (says how many), or
            a tokenizer that does not put `eos_token` behind a text.
    """

    num_shards = 1

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerFast,
        max_source_length: int,
        max_target_length: int,
        truncate: bool = False,
    ) -> None:
        limits = {"source": max_source_length, "target": max_target_length}
        for name, limit in limits.items():
            if limit < SHORTEST_LIMIT:
                raise ValueError(f"max_{name}_length={limit} must be at least {SHORTEST_LIMIT}: a token and its end.")
            if name not in dataset.column_names:
                raise ValueError(f"The dataset has no column {name!r}; it has {', '.join(dataset.column_names)}.")
        if len(dataset) == 0:
            raise ValueError("The dataset has no pairs.")
        sides = {name: _tokenise(list(dataset[name]), name, tokenizer) for name in limits}
        self.num_truncated = sum(_cut(sides[name], name, limit, truncate) for name, limit in limits.items())
        self._tokens, self._starts = zip(*(_flat(side) for side in sides.values()))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._starts[0]) - 1

    def part_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(pairs, 2)` tokens of each source and target, `eos_token` counted.

        Raises:
            IndexError: `shard` is not 0.
        """
        if shard != 0:
            raise IndexError(f"shard {shard} does not exist: there is 1.")
        return np.stack([np.diff(starts) for starts in self._starts], axis=1)

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(pairs,)` tokens of each source and target together.

        Raises:
            IndexError: `shard` is not 0.
        """
        return self.part_lengths(epoch, shard).sum(axis=1)

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, list[int]]:
        """One pair, unpadded: `input_ids` of the source and `labels` of the target, each with `eos_token`.

        Raises:
            IndexError: no such pair.
        """
        _, shard, index = key
        if shard != 0 or not 0 <= index < len(self):
            raise IndexError(f"example {index} of shard {shard} does not exist: one shard has {len(self)}.")
        source, target = (
            tokens[starts[index] : starts[index + 1]].tolist() for tokens, starts in zip(self._tokens, self._starts)
        )
        return {"input_ids": source, "labels": target}


def _tokenise(texts: list[str], side: str, tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    # Some tokenizers treat targets in their own way.
    argument = {"source": "text", "target": "text_target"}[side]
    ids: list[list[int]] = tokenizer(
        **{argument: texts}, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    eos = tokenizer.eos_token_id
    if eos is None or any(not tokens or tokens[-1] != eos for tokens in ids):
        raise ValueError(
            f"eos_token={tokenizer.eos_token!r}: the tokenizer does not put it behind a {side}; models of translation "
            "learn from it where to end. `train_joint_bpe` makes tokenizers that do."
        )
    return ids


def _cut(texts: list[list[int]], side: str, limit: int, truncate: bool) -> int:
    """Cuts longer texts in place, `eos_token` kept; returns how many there were."""
    longer = [index for index, tokens in enumerate(texts) if len(tokens) > limit]
    if longer and not truncate:
        longest = max(longer, key=lambda index: len(texts[index]))
        raise ValueError(
            f"max_{side}_length={limit}: {len(longer)} of {len(texts)} {side}s are longer, that of pair {longest + 1} "
            f"has {len(texts[longest])} tokens. Raise the limit, or cut them with truncate=True."
        )
    for index in longer:
        texts[index] = [*texts[index][: limit - 1], texts[index][-1]]
    if longer:
        logger.info("Cut %d of %d %ss to %d tokens (max_%s_length).", len(longer), len(texts), side, limit, side)
    return len(longer)


def _flat(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All ids one behind the other, int32, and where each text begins, with the end as last entry."""
    starts = np.cumsum([0, *map(len, texts)])
    return np.concatenate([np.array(tokens, dtype=np.int32) for tokens in texts]), starts


@dataclass(frozen=True)
class TranslationCollator:
    """Examples -> `input_ids` and `attention_mask` `(batch, source_len)`, `labels` `(batch, target_len)`, all int64.

    Padded on the right to the longest of the batch: `input_ids` with `pad_token_id`, `labels` with -100.

    Args:
        pad_token_id: the model's.
    """

    pad_token_id: int

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """See the class."""
        input_ids, attention_mask = _padded([example["input_ids"] for example in examples], self.pad_token_id)
        labels, _ = _padded([example["labels"] for example in examples], IGNORE_INDEX)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def _padded(rows: list[list[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded with `filler`, and a mask of what is not padding, int64."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = torch.full(mask.shape, filler)
    padded[mask] = torch.tensor([token for row in rows for token in row])
    return padded, mask.long()
