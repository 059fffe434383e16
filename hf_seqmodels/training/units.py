"""What a run's speed is counted in: a batch's tokens or images."""

from typing import Any


def count_tokens(batch: dict[str, Any]) -> int:
    """Real tokens of a batch: those that `attention_mask` shows, or all of `input_ids`."""
    mask = batch.get("attention_mask")
    return int(mask.sum()) if mask is not None else batch["input_ids"].numel()


def count_images(batch: dict[str, Any]) -> int:
    """Images of a batch: the rows of `pixel_values`, (batch, channels, height, width)."""
    return len(batch["pixel_values"])
