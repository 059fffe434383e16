"""Attention kernels: the eager one, the choice between kernels, and attention within packed segments."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import PreTrainedConfig

from .layers import dropout as apply_dropout
from .packing import Segments

AttentionFunction = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]

# Measured on a core with AVX512-BF16, in milliseconds, two batched products and a softmax against sdpa: at 65 tokens
# (64 images, 3 heads) inference 3.6 and 6.8, training 9 and 47; at 197 (8 images, 6 heads) 6.3 and 8.7, 15 and 35; at
# 577 (2 images, 6 heads) 11 and 16, 29 and 60. Beyond, the scores take more memory than they save time.
_SHORT_SCORES = 640 * 640


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), with the weights.

    Args:
        query: `(batch, heads, num_queries, head_dim)`.
        key, value: `(batch, heads, num_keys, head_dim)`.
        attention_mask: broadcastable to `(batch, heads, num_queries, num_keys)`; boolean (False hides) or additive.
        scaling: factor of the scores, 1/√head_dim if `None`.

    Returns:
        Output `(batch, num_queries, heads, head_dim)` and weights `(batch, heads, num_queries, num_keys)`.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    weights = apply_dropout(nn.functional.softmax(scores, dim=-1), dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def choose_kernel(
    implementation: str, interface: AttentionFunction, query: torch.Tensor, key: torch.Tensor, dropout: float
) -> AttentionFunction:
    """The kernel for these operands: `interface`, unless that is sdpa and the eager one is faster.

    sdpa has no fused CPU kernel with dropout, and in low precision its CPU kernels are slow for short sequences.
    """
    if implementation != "sdpa" or query.device.type != "cpu":
        return interface
    low_precision = query.dtype in (torch.bfloat16, torch.float16)
    if low_precision and query.shape[2] * key.shape[2] <= _SHORT_SCORES:
        return eager_attention_forward
    return eager_attention_forward if dropout > 0.0 and torch.is_grad_enabled() else interface


def attend_in_segments(
    kernel: AttentionFunction,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_segments: Segments,
    key_segments: Segments,
    **kwargs: Any,
) -> torch.Tensor:
    """Block-diagonal attention over one packed row, a kernel call per segment: no score across segments is computed.

    Args:
        query: `(1, heads, num_queries, head_dim)`; a segment may have fewer queries than keys, even none.
        key, value: `(1, heads, num_tokens, head_dim)`.

    Returns:
        `(1, num_queries, heads, head_dim)`.
    """
    # split, not slicing: its backward is one concatenation instead of a zero-filled row per segment.
    pieces = [
        kernel(module, q, k, v, None, **kwargs)[0]
        for q, k, v in zip(
            query.split(query_segments.lengths, dim=2),
            key.split(key_segments.lengths, dim=2),
            value.split(key_segments.lengths, dim=2),
        )
        if q.shape[2]
    ]
    return torch.cat(pieces, dim=1)


def bidirectional_mask(
    config: PreTrainedConfig,
    queries: torch.Tensor,
    keys: torch.Tensor,
    attention_mask: torch.Tensor | None,
    query_segments: Segments | None = None,
    key_segments: Segments | None = None,
    dense: bool = False,
) -> Any:
    """What every query may see, in the form that the attention implementation takes.

    Args:
        queries, keys: `(batch, num_queries | num_keys, hidden)`, looked at for shape, dtype and device.
        attention_mask: `(batch, num_keys)` padding mask, or a ready 4-D mask, which is returned as it is.
        query_segments, key_segments: of a packed row; then `attention_mask` is `None`.
        dense: always a boolean tensor, for the eager kernel.
    """
    if key_segments is None or query_segments is None:
        if dense:
            is_padding_mask = attention_mask is not None and attention_mask.dim() == 2
            return attention_mask[:, None, None, :].bool() if is_padding_mask else attention_mask  # type: ignore[index]
        return create_bidirectional_mask(
            config=config, inputs_embeds=queries, attention_mask=attention_mask, encoder_hidden_states=keys
        )
    visible = key_segments.same_segment(query_segments)
    if dense:
        rows, columns = (torch.arange(side.shape[1], device=side.device) for side in (queries, keys))
        return visible(0, 0, rows[:, None], columns[None, :])[None, None]
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=queries,
        attention_mask=None,
        encoder_hidden_states=keys,
        and_mask_function=visible,
    )


__all__ = ["AttentionFunction", "attend_in_segments", "bidirectional_mask", "choose_kernel", "eager_attention_forward"]
