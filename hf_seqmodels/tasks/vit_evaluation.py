"""Evaluation of ViT's objectives on held-out images, with fixed masks."""

from collections.abc import Callable
from typing import Any

import torch

from hf_seqmodels.data.sampling import ShardedDataset, evaluation_batches
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.patches import patchify
from hf_seqmodels.training import Engine

Batch = dict[str, torch.Tensor]


def count_items(batch: dict[str, Any]) -> dict[str, int]:
    """The loss's denominator: labels (all elements of soft ones, as Trainer counts), or else masked patches."""
    if "labels" in batch:
        return {"num_items_in_batch": int((batch["labels"] != IGNORE_INDEX).sum())}
    return {"num_items_in_batch": int(batch["bool_masked_pos"].sum())}


def evaluate_vit(
    engine: Engine,
    dataset: ShardedDataset,
    collate: Callable[[list[dict[str, Any]]], Batch],
    batch_size: int,
    max_batches: int | None = None,
) -> dict[str, float]:
    """Sums over all processes, then divides, so the result does not depend on how the data was cut.

    Returns:
        `loss` and, with labels, `accuracy` (of images, or of patches' colours); for predicted pixels `mean_loss`, that
        of predicting each hidden patch by the batch's mean patch, against which the loss is to be read.
    """
    accelerator, model = engine.accelerator, engine.model
    sums = torch.zeros(4, dtype=torch.float64)
    batches = evaluation_batches(
        dataset, batch_size, accelerator.num_processes, accelerator.process_index, limit=max_batches
    )
    for keys, counts in batches:
        batch = collate([dataset[key] for key in keys])
        batch = {name: values.to(accelerator.device) for name, values in batch.items()}
        outputs = model(**batch)
        if counts:
            sums += torch.tensor(_sums(model, batch, outputs), dtype=torch.float64)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
    loss, items, right, mean_loss = sums.tolist()
    metrics = {"loss": loss / max(items, 1)}
    if "labels" in batch:
        metrics["accuracy"] = right / max(items, 1)
    else:
        metrics["mean_loss"] = mean_loss / max(items, 1)
    return metrics


def _sums(model: torch.nn.Module, batch: Batch, outputs: Any) -> list[float]:
    """Loss, items, right answers, and the loss of the mean prediction, each summed."""
    items = count_items(batch)["num_items_in_batch"]
    loss = outputs.loss.item() * items
    if "labels" not in batch:
        return [loss, items, 0.0, _mean_prediction(model, batch) * items]
    labels = batch["labels"]
    right = (outputs.logits.argmax(-1) == labels)[labels != IGNORE_INDEX].sum().item()
    return [loss, items, right, 0.0]


def _mean_prediction(model: torch.nn.Module, batch: Batch) -> float:
    """Loss of predicting the mean of the batch's hidden patches, pixel by pixel."""
    pixels, masked = batch["pixel_values"], batch["bool_masked_pos"].bool()
    if isinstance(model, SeqViTForPreTraining):
        hidden = model.targets(pixels)[masked]
        return (hidden - hidden.mean(0)).square().mean().item()
    hidden = patchify(pixels, model.config.patch_size)[masked]  # type: ignore[union-attr, arg-type]
    return (hidden - hidden.mean(0)).abs().mean().item()
