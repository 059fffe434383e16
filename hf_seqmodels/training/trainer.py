"""transformers' Trainer for masked language model and next sentence prediction together, exact under accumulation."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Trainer

_PAIRS = "next_sentence_label"
_NO_LABEL = -100


class PretrainingTrainer(Trainer):
    """A `Trainer` that also counts the sentence pairs of a step.

    Trainer counts the masked tokens of all micro-batches of an optimiser step, over all processes, and passes the
    number to the model as `num_items_in_batch`. The NSP loss has a denominator of its own; this class counts it in the
    same way and passes it as `num_pairs_in_batch`. So the gradient does not depend on how a batch is cut into
    micro-batches. Batches without `next_sentence_label` are left as they are.

    Raises:
        ValueError: `label_smoothing_factor` is set: Trainer's smoothing knows one loss, of one `logits`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if factor := self.args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={factor}: masked tokens and next sentences together are not smoothed; use 0."
            )

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The micro-batches of one optimiser step, each with the step's `num_pairs_in_batch`, and its item count.

        Without masked tokens to count (NSP alone) the pairs are the items.
        """
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        labels = [batch[_PAIRS] for batch in batches if _PAIRS in batch]
        if not labels:
            return batches, num_items
        num_pairs = torch.stack([pairs.ne(_NO_LABEL).sum() for pairs in labels]).sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            num_pairs = self.accelerator.gather(num_pairs).sum()
        # New dictionaries: the loader's own stay as they came.
        batches = [{**batch, "num_pairs_in_batch": num_pairs} for batch in batches]
        return batches, num_pairs if num_items is None else num_items


__all__ = ["PretrainingTrainer"]
