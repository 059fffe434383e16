"""A linear-chain conditional random field over tags (Lafferty et al. 2001; Lample et al. 2016, section 2.2)."""

import torch
from torch import nn

from .compaction import Compaction
from .losses import IGNORE_INDEX, at_least_float32, check_labels


class LinearChainCRF(nn.Module):
    """Scores of tag sequences: `start[y_1] + Σ emission_t[y_t] + Σ transitions[y_(t-1), y_t] + end[y_n]`.

    The chain runs over the kept tokens of a row alone, as if the others were not there. All is computed in float32
    (float64 stays), under autocast and with bfloat16 weights, too.

    Args:
        num_labels: tags. The parameters are zero until the model initialises them.
    """

    def __init__(self, num_labels: int):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(num_labels))
        self.end = nn.Parameter(torch.zeros(num_labels))
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))

    def log_likelihood(self, emissions: torch.Tensor, labels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Log-probability of each row's tags.

        Args:
            emissions: `(batch, seq_len, num_labels)` scores of a tag at a token.
            labels: `(batch, seq_len)`; a token whose label is -100 is skipped like one not kept.
            kept: `(batch, seq_len)` bool, the tokens of the chain.

        Returns:
            `(batch,)`; zero, with a graph, in a row without kept tokens.

        Raises:
            ValueError: a label outside `[0, num_labels)`.
        """
        kept = kept & (labels != IGNORE_INDEX)
        check_labels(labels.masked_fill(~kept, IGNORE_INDEX), self.start.shape[0], emissions.shape[:-1])
        chain = Compaction.from_mask(kept)
        scores = chain.compact(at_least_float32(emissions))
        tags = chain.compact(labels)
        start, end, transitions = self._cast_weights(scores)
        steps = scores.gather(-1, tags.unsqueeze(-1)).squeeze(-1)
        moves = transitions[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(-1, (chain.lengths - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        # Both sums run over real tokens only; the first token's move is from the start.
        path = start[tags[:, 0]] + (steps * chain.real).sum(-1) + (moves * chain.real[:, 1:]).sum(-1) + end[last]
        partition = (_forward(scores, chain.real, start, transitions)[:, -1] + end).logsumexp(-1)
        return (path - partition).masked_fill(chain.lengths == 0, 0)

    def marginals(self, emissions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Log-probability of each tag at each token, over all sequences of tags (forward-backward algorithm).

        Args:
            emissions: `(batch, seq_len, num_labels)`.
            kept: `(batch, seq_len)` bool.

        Returns:
            `(batch, seq_len, num_labels)`; log-softmax of the emissions at tokens not kept, which are in no chain.
        """
        emissions = at_least_float32(emissions)
        chain = Compaction.from_mask(kept)
        scores = chain.compact(emissions)
        start, end, transitions = self._cast_weights(scores)
        forward = _forward(scores, chain.real, start, transitions)
        # The same recursion from the other end; both hold the token's own emission.
        backward = chain.flip(_forward(chain.flip(scores), chain.real, end, transitions.T))
        joint = forward + backward - scores
        log_marginals = joint.log_softmax(-1)
        return torch.where(kept.unsqueeze(-1), chain.restore(log_marginals), emissions.log_softmax(-1))

    def viterbi(self, emissions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The most probable sequence of tags of each row.

        Args:
            emissions: `(batch, seq_len, num_labels)`.
            kept: `(batch, seq_len)` bool.

        Returns:
            `(batch, seq_len)` int64, -100 at tokens not kept.
        """
        chain = Compaction.from_mask(kept)
        scores = chain.compact(at_least_float32(emissions))
        start, end, transitions = self._cast_weights(scores)
        real = chain.real.unsqueeze(-1)
        stay = torch.arange(scores.shape[-1], device=scores.device)
        best = start + scores[:, 0]
        pointers = []
        for step in range(1, scores.shape[1]):
            values, sources = (best.unsqueeze(-1) + transitions).max(1)
            best = torch.where(real[:, step], values + scores[:, step], best)
            pointers.append(torch.where(real[:, step], sources, stay))
        tags = [(best + end).argmax(-1, keepdim=True)]
        for sources in reversed(pointers):
            tags.append(sources.gather(-1, tags[-1]))
        path = chain.restore(torch.cat(tags[::-1], dim=-1))
        return path.masked_fill(~kept, IGNORE_INDEX)

    def _cast_weights(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.start.to(scores.dtype), self.end.to(scores.dtype), self.transitions.to(scores.dtype)


def _forward(scores: torch.Tensor, real: torch.Tensor, start: torch.Tensor, transitions: torch.Tensor) -> torch.Tensor:
    """Log-sum of the scores of all tag sequences that end at a token with a tag, its emission included.

    Args:
        scores: `(batch, width, num_labels)` emissions with the real tokens in front.
        real: `(batch, width)`.

    Returns:
        `(batch, width, num_labels)`; behind a row's end, the value of its last token.
    """
    reached = [start + scores[:, 0]]
    for step in range(1, scores.shape[1]):
        values = (reached[-1].unsqueeze(-1) + transitions).logsumexp(1) + scores[:, step]
        reached.append(torch.where(real[:, step, None], values, reached[-1]))
    return torch.stack(reached, dim=1)


__all__ = ["LinearChainCRF"]
