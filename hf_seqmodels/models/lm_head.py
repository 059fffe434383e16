"""Output layers of language models with large vocabularies whose training never holds the logits of all tokens."""

from typing import Any

import torch
from torch import nn

from .losses import IGNORE_INDEX, at_least_float32

# Bytes of a chunk's logits: enough rows to read and write the weight's gradient seldom, few enough to hold.
_CHUNK_BYTES = 24 * 2**20
_MIN_ROWS = 256
# Elements whose softmax is made at once: 1 MiB of float32, which stays in a core's cache.
_PIECE = 2**18


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients of a linear layer with cross-entropy in one sweep over chunks of rows.

    A chunk's logits are turned into their gradient in place and multiplied into the gradients of input and weight at
    once, so that neither logits nor log-probabilities of all rows are ever held.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
        with_gradients: bool,
    ) -> torch.Tensor:
        wanted = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        inputs, table = hidden.to(dtype), weight.to(dtype)
        added = None if bias is None else bias.to(dtype)
        hidden_gradient = torch.empty_like(inputs) if wanted[0] else None
        table_gradient = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
        bias_gradient = torch.zeros_like(bias, dtype=exact) if bias is not None and wanted[2] else None
        rows = max(_MIN_ROWS, _CHUNK_BYTES // (table.shape[0] * table.element_size()))
        buffer = table.new_empty(min(rows, len(inputs)), table.shape[0])
        total = hidden.new_zeros((), dtype=torch.float64)
        for first in range(0, len(inputs), rows):
            chunk = inputs[first : first + rows]
            logits = buffer[: len(chunk)]
            if added is None:
                torch.mm(chunk, table.T, out=logits)
            else:
                torch.addmm(added, chunk, table.T, out=logits)
            total += _loss_and_gradient_in_place(logits, labels[first : first + rows], label_smoothing, any(wanted))
            if hidden_gradient is not None:
                torch.mm(logits, table, out=hidden_gradient[first : first + rows])
            if table_gradient is not None and dtype == exact:
                table_gradient.addmm_(logits.T, chunk)
            elif table_gradient is not None:
                table_gradient += logits.T @ chunk
            if bias_gradient is not None:
                bias_gradient += logits.sum(0, dtype=exact)
        ctx.save_for_backward(hidden_gradient, table_gradient, bias_gradient)
        ctx.dtypes = [None if value is None else value.dtype for value in (hidden, weight, bias)]
        return total.to(exact)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = [
            None if gradient is None else (gradient * grad_output.to(gradient.dtype)).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes)
        ]
        return (*gradients, None, None, None, None)


def _loss_and_gradient_in_place(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float, with_gradient: bool
) -> torch.Tensor:
    """Summed cross-entropy in float64; with a gradient, `logits` `(rows, vocab)` become it."""
    num_classes = logits.shape[-1]
    total = logits.new_zeros((), dtype=torch.float64)
    rows = max(1, _PIECE // num_classes)
    for piece, target in zip(logits.split(rows), labels.split(rows)):
        index = target.unsqueeze(-1)
        log_probabilities = at_least_float32(piece).log_softmax(-1)
        total -= (1 - label_smoothing) * log_probabilities.gather(-1, index).sum(dtype=torch.float64)
        if label_smoothing:
            total -= label_smoothing / num_classes * log_probabilities.sum(dtype=torch.float64)
        if with_gradient:
            probabilities = log_probabilities.exp_()
            if label_smoothing:
                probabilities -= label_smoothing / num_classes
            probabilities.scatter_add_(-1, index, probabilities.new_full(index.shape, label_smoothing - 1))
            piece.copy_(probabilities)
    return total


def chunked_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Summed cross-entropy of `hidden @ weight.T + bias`, some hundred rows at a time.

    The same numbers as from the logits of all rows, which are never held: beside the gradients of its inputs it needs
    some 24 MiB. Products are made in the inputs' or autocast's type, loss and sums over chunks in float32 (float64
    stays). It can be differentiated once.

    Args:
        hidden: `(rows, width)`.
        weight: `(vocab, width)`.
        bias: `(vocab,)` or `None`.
        labels: `(rows,)`, -100 where there is none; these rows cost nothing.
        label_smoothing: mass moved from the label to the uniform distribution (Szegedy et al. 2016).

    Returns:
        A scalar; zero, with a graph, when no row has a label.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    labelled = labels != IGNORE_INDEX
    if not bool(labelled.all()):
        hidden, labels = hidden[labelled], labels[labelled]
    with torch.autocast(device, enabled=False):
        return _ChunkedCrossEntropy.apply(
            hidden, weight, bias, labels, label_smoothing, dtype, torch.is_grad_enabled()
        )


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """Softmax over clusters of ever rarer words, each narrower than the one before (Grave et al. 2017).

    PyTorch's layer and parameters, with a loss that adds up over micro-batches. Logits may come from bfloat16
    products (autocast); log-probabilities and the loss are float32 (float64 stays). Every parameter gets a gradient,
    if only zeros, whichever clusters a batch needs.

    Args:
        in_features: width of the hidden states.
        n_classes: words; ids must be sorted from frequent to rare.
        cutoffs: where the clusters begin.
        div_value: each cluster is so many times narrower than the one before.
    """

    def summed_loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy of the rows with a label.

        Args:
            hidden: `(rows, width)`.
            labels: `(rows,)`, -100 where there is none.

        Returns:
            A scalar; zero, with a graph, when no row has a label.
        """
        labelled = labels != IGNORE_INDEX
        hidden, labels = hidden[labelled], labels[labelled]
        # In the head, a rare word is the entry of its cluster behind the frequent words.
        entries = labels
        total = hidden.new_zeros((), dtype=at_least_float32(hidden).dtype)
        for cluster, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:])):
            members = (labels >= low) & (labels < high)
            entries = entries.masked_fill(members, self.shortlist_size + cluster)
            total = total - _picked(self.tail[cluster](hidden[members]), labels[members] - low)
        return total - _picked(self.head(hidden), entries)

    def log_probabilities(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(…, width)` -> log-probabilities of all words, `(…, vocab)`."""
        head = at_least_float32(self.head(hidden)).log_softmax(-1)
        parts = [head[..., : self.shortlist_size]]
        for cluster, layer in enumerate(self.tail):
            entry = head[..., self.shortlist_size + cluster, None]
            parts.append(at_least_float32(layer(hidden)).log_softmax(-1) + entry)
        return torch.cat(parts, dim=-1)


def _picked(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Sum of the log-probabilities of the classes `index` `(rows,)`."""
    return at_least_float32(logits).log_softmax(-1).gather(-1, index.unsqueeze(-1)).sum()


__all__ = ["AdaptiveSoftmax", "chunked_cross_entropy"]
