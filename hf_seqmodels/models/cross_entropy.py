"""Summed cross-entropy over a large vocabulary, a few rows at a time."""

from typing import Any

import torch
from torch import nn

IGNORE_INDEX = -100

# Elements of a piece: 4 MiB of float32, which stays in a core's cache.
_PIECE = 2**20


class _CrossEntropyInPieces(torch.autograd.Function):
    """Loss and gradient in one sweep over cache-sized pieces of rows.

    The usual way keeps float32 log-probabilities of all rows for the backward pass and goes over them from memory six
    times. Here the gradient (probabilities less the label's one) is made while a piece is in the cache, and kept in
    the logits' own dtype.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        gradient = torch.empty_like(logits)
        total = logits.new_zeros((), dtype=torch.float64)
        rows = max(1, _PIECE // logits.shape[-1])
        for piece, target, out in zip(logits.split(rows), labels.split(rows), gradient.split(rows)):
            log_probabilities = torch.log_softmax(piece.float(), dim=-1)
            counted = target != IGNORE_INDEX
            index = target.masked_fill(~counted, 0).unsqueeze(-1)
            total -= (log_probabilities.gather(-1, index).squeeze(-1) * counted).sum(dtype=torch.float64)
            probabilities = log_probabilities.exp_()
            probabilities.scatter_add_(-1, index, probabilities.new_full(index.shape, -1.0))
            out.copy_(probabilities if bool(counted.all()) else probabilities * counted.unsqueeze(-1))
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.to(gradient.dtype), None


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sum of the cross-entropies of the rows with a label, in float32 (float64 stays).

    Args:
        logits: `(num_rows, num_classes)`.
        labels: `(num_rows,)`, -100 where there is none.
        label_smoothing: mass moved from the label to the uniform distribution (Szegedy et al. 2016).
    """
    in_pieces = (
        logits.device.type == "cpu"
        and logits.dtype in (torch.bfloat16, torch.float16)
        and logits.requires_grad
        and label_smoothing == 0.0
        and not torch.compiler.is_compiling()
    )
    if in_pieces:
        return _CrossEntropyInPieces.apply(logits, labels)
    return nn.functional.cross_entropy(
        logits if logits.dtype == torch.float64 else logits.float(),
        labels,
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


__all__ = ["IGNORE_INDEX", "summed_cross_entropy"]
