"""Evaluation of BERT's pretraining objectives on held-out documents, with fixed masks and pairs."""

import math
from collections.abc import Callable
from typing import Any

import torch

from hf_seqmodels.data.sampling import ShardedDataset, evaluation_batches
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.training import Engine


def evaluate_pretraining(
    engine: Engine,
    dataset: ShardedDataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    batch_size: int,
    max_batches: int | None = None,
) -> dict[str, float]:
    """Counts over all processes, then divides, so the result does not depend on how the data was cut.

    Returns:
        `mlm_loss` (nats per masked token), `mlm_accuracy`, `perplexity` (its exponential), and with sentence pairs
        `nsp_loss`, `nsp_accuracy` and `nsp_majority`, the accuracy of always giving the more frequent answer.
    """
    accelerator, model = engine.accelerator, engine.model
    sums = torch.zeros(7, dtype=torch.float64)
    batches = evaluation_batches(
        dataset, batch_size, accelerator.num_processes, accelerator.process_index, limit=max_batches
    )
    for keys, counts in batches:
        batch = collate([dataset[key] for key in keys])
        batch = {name: values.to(accelerator.device) for name, values in batch.items()}
        outputs = model(**batch, sparse_prediction=True)
        if counts:
            sums += torch.tensor(_counts(batch, outputs), dtype=torch.float64)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
    mlm_loss, mlm_right, masked, nsp_loss, nsp_right, pairs, random_pairs = sums.tolist()
    metrics = {
        "mlm_loss": mlm_loss / max(masked, 1),
        "mlm_accuracy": mlm_right / max(masked, 1),
        "perplexity": math.exp(mlm_loss / max(masked, 1)),
    }
    if pairs:
        metrics.update(
            nsp_loss=nsp_loss / pairs,
            nsp_accuracy=nsp_right / pairs,
            nsp_majority=max(random_pairs, pairs - random_pairs) / pairs,
        )
    return metrics


def _counts(batch: dict[str, torch.Tensor], outputs: Any) -> list[float]:
    """Loss sum, right answers and number of questions, for masked tokens and for pairs; and random pairs."""
    logits = outputs.logits if "logits" in outputs else outputs.prediction_logits
    labels = batch["labels"][batch["labels"] != IGNORE_INDEX]
    counts = _loss_and_right(logits, labels)
    if "next_sentence_label" not in batch:
        return [*counts, 0.0, 0.0, 0.0, 0.0]
    is_random = batch["next_sentence_label"]
    return [*counts, *_loss_and_right(outputs.seq_relationship_logits, is_random), float(is_random.sum())]


def _loss_and_right(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
    return [loss.item(), (logits.argmax(-1) == labels).sum().item(), float(labels.numel())]
