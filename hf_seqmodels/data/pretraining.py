"""The dataset of BERT's pretraining: sentence pairs with masked tokens, each a pure function of its key."""

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from .masking import MaskingRule, mask_tokens
from .nsp import RULES, PairPlan, check_documents, plan_pairs
from .random import Key, generator
from .recent import Recent
from .shards import DocumentShards
from .tokenizers import masking_vocabulary

MIN_TOKENS = 2


class BertPretrainingDataset:
    """Examples for masked language modelling, with or without next-sentence prediction (Devlin et al. 2018).

    Two datasets of different `max_length` over the same shards make the two phases of BERT's training.

    Args:
        shards: the tokenised documents.
        tokenizer: has [CLS], [SEP] and [MASK]; only its ids are kept.
        max_length: longest example in tokens, special ones counted.
        seed: names all random streams.
        nsp: `google` (the exact rule of google-research/bert), `balanced` (exactly half of each kind, random ones
            always from another document), or `none` (plain masked language modelling).
        short_seq_prob: share of documents that make shorter examples in a pass.
        masking: which tokens to predict.
        duplication_factor: None draws new pairs and masks in every epoch (dynamic, Liu et al. 2019); n repeats those
            of epoch `epoch % n` (static; the original BERT made 10 copies).

    Raises:
        ValueError: a setting outside what is allowed, `max_length` that cannot hold the special tokens and two more, a
            tokenizer that lacks a special token, or a single document to pair.
    """

    def __init__(
        self,
        shards: DocumentShards,
        tokenizer: PreTrainedTokenizerFast,
        *,
        max_length: int,
        seed: int,
        nsp: str = "google",
        short_seq_prob: float = 0.1,
        masking: MaskingRule | None = None,
        duplication_factor: int | None = None,
    ) -> None:
        if nsp not in RULES:
            raise ValueError(f"nsp={nsp!r} must be one of {', '.join(RULES)}.")
        if not 0 <= short_seq_prob <= 1:
            raise ValueError(f"short_seq_prob={short_seq_prob} must be between 0 and 1.")
        if duplication_factor is not None and duplication_factor < 1:
            raise ValueError(
                f"duplication_factor={duplication_factor} must be at least 1, or None for dynamic masking."
            )
        self._num_special = 2 if nsp == "none" else 3
        if max_length < self._num_special + MIN_TOKENS:
            raise ValueError(
                f"max_length={max_length} cannot hold the {self._num_special} special tokens and {MIN_TOKENS} more: "
                f"it must be at least {self._num_special + MIN_TOKENS}."
            )
        if shards.num_documents is not None:
            check_documents(shards.num_documents, nsp)
        self._shards = shards
        self._vocabulary = masking_vocabulary(tokenizer)
        self._cls = np.array([tokenizer.cls_token_id], dtype=np.int64)
        self._sep = np.array([tokenizer.sep_token_id], dtype=np.int64)
        self._max_length = max_length
        self._seed = seed
        self._nsp = nsp
        self._short_seq_prob = short_seq_prob
        self._masking = masking or MaskingRule()
        self._duplication_factor = duplication_factor
        self._plans: Recent[tuple[int, int], PairPlan] = Recent()

    @property
    def num_shards(self) -> int | None:
        """Number of shards; None for a stream."""
        return self._shards.num_shards

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        """`(examples,)` tokens of each example of a shard in an epoch, special ones counted.

        Raises:
            IndexError: there is no such shard.
        """
        plan = self._plan(self._pass(epoch), shard)
        return plan.a_length + plan.b_length + self._num_special

    def __getitem__(self, key: Key | tuple[int, int, int]) -> dict[str, Any]:
        """One example, unpadded.

        Returns:
            `input_ids`, `token_type_ids`, `labels` (-100 where nothing is predicted), each `(length,)` int64, and with
            sentence pairs `next_sentence_label`, 0 if B follows A and 1 if it is random.

        Raises:
            IndexError: no such shard, or no such example in it.
        """
        epoch, shard, index = key
        epoch = self._pass(epoch)
        plan = self._plan(epoch, shard)
        if not 0 <= index < len(plan):
            raise IndexError(f"example {index} does not exist: shard {shard} has {len(plan)} in this epoch.")
        tokens = self._shards.load(shard).tokens
        parts = [self._cls, _slice(tokens, plan.a_start[index], plan.a_length[index]), self._sep]
        if self._nsp != "none":
            parts += [_slice(tokens, plan.b_start[index], plan.b_length[index]), self._sep]
        input_ids = np.concatenate(parts, dtype=np.int64)
        token_type_ids = np.zeros_like(input_ids)
        token_type_ids[plan.a_length[index] + 2 :] = 1
        rng = generator(self._seed, "mask", epoch, shard, index)
        masked, labels = mask_tokens(input_ids, self._masking, self._vocabulary, rng)
        example: dict[str, Any] = {"input_ids": masked, "token_type_ids": token_type_ids, "labels": labels}
        if self._nsp != "none":
            example["next_sentence_label"] = int(plan.label[index])
        return example

    def _pass(self, epoch: int) -> int:
        return epoch if self._duplication_factor is None else epoch % self._duplication_factor

    def _plan(self, epoch: int, shard: int) -> PairPlan:
        return self._plans.get((epoch, shard), self._make_plan)

    def _make_plan(self, key: tuple[int, int]) -> PairPlan:
        epoch, shard = key
        content = self._shards.load(shard)
        return plan_pairs(
            content.sentence_starts,
            content.document_starts,
            rule=self._nsp,
            max_tokens=self._max_length - self._num_special,
            short_seq_prob=self._short_seq_prob,
            seed=self._seed,
            epoch=epoch,
            shard=shard,
        )


def _slice(tokens: np.ndarray, start: np.int64, length: np.int32) -> np.ndarray:
    return tokens[start : start + length]
