"""GNMT's length and coverage penalties (Wu et al. 2016, section 7).

transformers' beam search divides a score by a power of the length, and has no place for another rule or for attention.
So the search gives all its beams, and the best of them by GNMT's score is taken.
"""

from typing import Any

import torch
from torch import nn


def gnmt_scores(
    log_probabilities: torch.Tensor,
    target_mask: torch.Tensor,
    alpha: float,
    beta: float = 0.0,
    weights: torch.Tensor | None = None,
    source_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Wu et al. 2016, equation 14: `log P / lp + cp`.

    Args:
        log_probabilities: `(n, target_len)` of each target token.
        target_mask: `(n, target_len)`, 0 behind a target's end.
        alpha: of the length penalty `((5 + length) / 6)^alpha`.
        beta: of the coverage penalty, the sum over source tokens of `log(min(attention received, 1))`.
        weights: `(n, target_len, source_len)` attention, needed for `beta` above 0.
        source_mask: `(n, source_len)`, 0 on padding.

    Returns:
        `(n,)`, the higher the better.
    """
    real = target_mask.to(log_probabilities.dtype)
    scores = (log_probabilities * real).sum(1) / ((5 + real.sum(1)) / 6) ** alpha
    if beta == 0.0:
        return scores
    if weights is None or source_mask is None:
        raise ValueError(f"coverage_penalty={beta} needs a model with attention to its source; use 0.")
    received = (weights * real.unsqueeze(-1)).sum(1).clamp(max=1.0)
    missed = received.clamp(min=torch.finfo(received.dtype).tiny).log()
    return scores + beta * missed.masked_fill(source_mask == 0, 0).sum(1)


@torch.no_grad()
def generate_reranked(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    num_beams: int,
    alpha: float,
    beta: float = 0.0,
    **options: Any,
) -> torch.Tensor:
    """The best beam of each source by GNMT's score.

    Args:
        model: an encoder–decoder in eval mode.
        input_ids: `(batch, source_len)`.
        attention_mask: `(batch, source_len)`.
        options: for `generate()`.

    Returns:
        `(batch, 1 + target_len)`, behind the start token and padded.
    """
    search = {**options, "num_beams": num_beams, "num_return_sequences": num_beams}
    sequences = model.generate(input_ids=input_ids, attention_mask=attention_mask, **search)
    sources, masks = (values.repeat_interleave(num_beams, dim=0) for values in (input_ids, attention_mask))
    targets = sequences[:, 1:]
    real = _up_to_the_end(targets, model.generation_config.eos_token_id)
    outputs = model(sources, masks, decoder_input_ids=sequences[:, :-1], use_cache=False, output_attentions=beta > 0.0)
    log_probabilities = nn.functional.log_softmax(outputs.logits.float(), dim=-1)
    chosen = log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    attentions = getattr(outputs, "cross_attentions", None) if beta > 0.0 else None
    weights = attentions[-1].float().mean(1) if attentions else None
    scores = gnmt_scores(chosen, real, alpha, beta, weights, masks)
    best = scores.view(-1, num_beams).argmax(-1)
    return sequences.unflatten(0, (-1, num_beams))[torch.arange(len(best), device=best.device), best]


def _up_to_the_end(targets: torch.Tensor, eos_token_id: int | list[int]) -> torch.Tensor:
    """`(n, target_len)`: each target with its first end token, nothing behind it."""
    ends = torch.isin(targets, torch.as_tensor(eos_token_id, device=targets.device))
    return (ends.cumsum(1) - ends.long()) == 0
