"""Translating many sentences, and how good the translations are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from hf_seqmodels import metrics
from hf_seqmodels.data.sampling import evaluation_batches
from hf_seqmodels.data.translation import TranslationCollator, TranslationDataset
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.pipelines.translation import LENGTH_MARGIN, LENGTH_RATIO
from hf_seqmodels.tasks.reranking import generate_reranked


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for.

    Args:
        num_beams: 1 is greedy.
        batch_size: sentences at a time.
        max_length: tokens of a translation at most; by default 1.5 times its source's and 10 more.
        length_penalty: exponent of the length by which a beam's score is divided.
        gnmt_length_penalty: takes the best beam by GNMT's score with this alpha; `None` leaves the search's own.
        coverage_penalty: beta of that score.
    """

    num_beams: int = 1
    batch_size: int = 32
    max_length: int | None = None
    length_penalty: float = 1.0
    gnmt_length_penalty: float | None = None
    coverage_penalty: float = 0.0

    def options(self, source_length: int) -> dict[str, Any]:
        """For `generate()`, of sources of at most so many tokens."""
        longest = round(LENGTH_RATIO * source_length) + LENGTH_MARGIN
        if self.max_length is not None:
            longest = min(longest, self.max_length)
        options: dict[str, Any] = {"num_beams": self.num_beams, "max_new_tokens": longest, "do_sample": False}
        if self.num_beams > 1:
            options.update(length_penalty=self.length_penalty, early_stopping=False)
        return options


@torch.no_grad()
def translate_ids(
    model: Any, tokenizer: PreTrainedTokenizerBase, sources: Sequence[Sequence[int]], decoding: Decoding
) -> list[str]:
    """Translations in the order of the sources; sentences of similar length are translated together.

    Args:
        model: an encoder–decoder in eval mode.
        tokenizer: turns its tokens into text.
        sources: token ids with `eos_token`, unpadded.
        decoding: the search.
    """
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    pad = TranslationCollator(tokenizer.pad_token_id)
    texts = [""] * len(sources)
    for first in range(0, len(order), decoding.batch_size):
        rows = order[first : first + decoding.batch_size]
        batch = pad([{"input_ids": list(sources[row]), "labels": [IGNORE_INDEX]} for row in rows])
        input_ids, mask = (batch[name].to(model.device) for name in ("input_ids", "attention_mask"))
        options = decoding.options(input_ids.shape[1])
        if decoding.gnmt_length_penalty is None:
            generated = model.generate(input_ids=input_ids, attention_mask=mask, **options)
        else:
            alpha, beta = decoding.gnmt_length_penalty, decoding.coverage_penalty
            generated = generate_reranked(model, input_ids, mask, alpha=alpha, beta=beta, **options)
        for row, text in zip(rows, tokenizer.batch_decode(generated, skip_special_tokens=True)):
            texts[row] = text.strip()
    return texts


@dataclass(frozen=True)
class EvaluationSet:
    """Pairs to evaluate on.

    Args:
        dataset: the pairs as tokens.
        sources: their texts.
        references: their translations' texts.
    """

    dataset: TranslationDataset
    sources: list[str]
    references: list[str]

    def translations(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        accelerator: Accelerator,
        limit: int | None = None,
    ) -> list[str]:
        """Of the first `limit` sources, on every process all of them; each process translates its share."""
        count = min(len(self.references), limit or len(self.references))
        own = range(accelerator.process_index, count, accelerator.num_processes)
        sources = [self.dataset[0, 0, index]["input_ids"] for index in own]
        texts = gather_object(list(zip(own, translate_ids(model, tokenizer, sources, decoding))))
        return [text for _, text in sorted(texts)]

    @torch.no_grad()
    def loss(self, model: Any, pad_token_id: int, batch_size: int, accelerator: Accelerator) -> float:
        """Nats a target token, of all pairs."""
        collate = TranslationCollator(pad_token_id)
        sums = torch.zeros(2, dtype=torch.float64)
        share = (accelerator.num_processes, accelerator.process_index)
        for keys, counts in evaluation_batches(self.dataset, batch_size, *share):
            batch = collate([self.dataset[key] for key in keys])
            items = int((batch["labels"] != IGNORE_INDEX).sum())
            batch = {name: values.to(accelerator.device) for name, values in batch.items()}
            loss = model(**batch, num_items_in_batch=1).loss.item()
            if counts:
                sums += torch.tensor([loss, items], dtype=torch.float64)
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
        return float(sums[0] / sums[1])


def translation_scores(predictions: list[str], references: list[str]) -> dict[str, Any]:
    """`bleu` and `chrf` of the whole, 0 to 100, their `signatures`, and `exact_match`, the share of equal texts."""
    bleu = metrics.load("sacrebleu").compute(predictions=predictions, references=references)
    chrf = metrics.load("chrf").compute(predictions=predictions, references=references)
    same = sum(prediction == reference for prediction, reference in zip(predictions, references))
    return {
        "bleu": bleu["score"],
        "chrf": chrf["score"],
        "exact_match": same / len(references),
        "signatures": {"bleu": bleu["signature"], "chrf": chrf["signature"]},
    }


def bleu_by_source_length(
    sources: Sequence[str], predictions: Sequence[str], references: Sequence[str], num_buckets: int = 5
) -> list[dict[str, Any]]:
    """BLEU of short and long sources apart, as Bahdanau et al. 2015, figure 2, draw it.

    Args:
        num_buckets: about equally many sentences each; those of one length stay together.

    Returns:
        For each bucket, by length: `shortest` and `longest` in words, `sentences` and `bleu`.
    """
    lengths = [len(source.split()) for source in sources]
    order = sorted(range(len(sources)), key=lambda index: lengths[index])
    buckets: list[list[int]] = []
    for place, index in enumerate(order):
        due = place * num_buckets >= len(order) * len(buckets)
        if due and (not buckets or lengths[buckets[-1][-1]] != lengths[index]):
            buckets.append([])
        buckets[-1].append(index)
    bleu = metrics.load("sacrebleu")
    return [
        {
            "shortest": lengths[bucket[0]],
            "longest": lengths[bucket[-1]],
            "sentences": len(bucket),
            "bleu": bleu.compute(
                predictions=[predictions[index] for index in bucket],
                references=[references[index] for index in bucket],
            )["score"],
        }
        for bucket in buckets
    ]
