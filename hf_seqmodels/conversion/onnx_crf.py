"""A linear-chain CRF with ONNX's Scan in place of loops over tokens, which an export would unroll."""

import torch
from torch import nn
from torch._higher_order_ops.scan import scan

from hf_seqmodels.models.compaction import Compaction
from hf_seqmodels.models.crf import LinearChainCRF
from hf_seqmodels.models.losses import IGNORE_INDEX

Pair = tuple[torch.Tensor, torch.Tensor]


class ScannedCRF(nn.Module):
    """What a CRF says of texts, with the numbers of `LinearChainCRF`.

    Args:
        source: its weights are shared.
    """

    def __init__(self, source: LinearChainCRF):
        super().__init__()
        self.start, self.end, self.transitions = source.start, source.end, source.transitions

    def marginals(self, emissions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """As `LinearChainCRF.marginals`."""
        chain = Compaction.from_mask(kept)
        scores = chain.compact(emissions)
        forward = _forward(scores, chain.real, self.start, self.transitions)
        backward = chain.flip(_forward(chain.flip(scores), chain.real, self.end, self.transitions.T))
        log_marginals = (forward + backward - scores).log_softmax(-1)
        return torch.where(kept.unsqueeze(-1), chain.restore(log_marginals), emissions.log_softmax(-1))

    def viterbi(self, emissions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """As `LinearChainCRF.viterbi`."""
        chain = Compaction.from_mask(kept)
        scores = chain.compact(emissions)
        start, transitions = self.start, self.transitions
        stay = torch.arange(scores.shape[-1], device=scores.device)

        def forward(best: torch.Tensor, token: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Pair:
            score, real, is_first = token
            values, sources = (best.unsqueeze(-1) + transitions).max(1)
            goes_on = real.unsqueeze(-1) & ~is_first
            after = torch.where(goes_on, values + score, torch.where(is_first, start + score, best))
            return after, torch.where(goes_on, sources, stay)

        best, pointers = scan(forward, torch.zeros_like(scores[:, 0]), _tokens(scores, chain.real))

        def backward(tag: torch.Tensor, sources: torch.Tensor) -> Pair:
            return sources.gather(-1, tag), tag.clone()

        _, tags = scan(backward, (best + self.end).argmax(-1, keepdim=True), pointers.flip(0))
        path = chain.restore(tags.flip(0).squeeze(-1).transpose(0, 1))
        return path.masked_fill(~kept, IGNORE_INDEX)


def _forward(scores: torch.Tensor, real: torch.Tensor, start: torch.Tensor, transitions: torch.Tensor) -> torch.Tensor:
    """Log-sums of the scores of all tag sequences up to each token, `(batch, width, num_labels)`."""

    def step(reached: torch.Tensor, token: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Pair:
        score, goes_on, is_first = token
        values = torch.where(is_first, start, (reached.unsqueeze(-1) + transitions).logsumexp(1)) + score
        after = torch.where(goes_on.unsqueeze(-1) | is_first, values, reached)
        return after, after.clone()

    _, sums = scan(step, torch.zeros_like(scores[:, 0]), _tokens(scores, real))
    return sums.transpose(0, 1)


def _tokens(scores: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, which are real, and which is the first, token by token."""
    return scores.transpose(0, 1), real.transpose(0, 1), torch.arange(scores.shape[1], device=scores.device) == 0


__all__ = ["ScannedCRF"]
