"""The CRF against enumeration of every sequence of tags, in float64."""

from itertools import product

import pytest
import torch

from hf_seqmodels.models.crf import LinearChainCRF

NUM_LABELS = 3
# Tokens that are skipped lie at the start, at the end and between; one row has none, one a single token.
KEPT = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 1, 1], [0, 0, 1, 0, 0], [1, 1, 0, 1, 0]]).bool()
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 rounding of sums of some hundred terms near 1


@pytest.fixture
def crf() -> LinearChainCRF:
    torch.manual_seed(0)
    crf = LinearChainCRF(NUM_LABELS).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


@pytest.fixture
def emissions() -> torch.Tensor:
    torch.manual_seed(1)
    values = 2 * torch.randn(*KEPT.shape, NUM_LABELS, dtype=torch.float64)
    return values.requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(0, NUM_LABELS, KEPT.shape)


def score(crf: LinearChainCRF, emissions: torch.Tensor, tags: tuple[int, ...]) -> torch.Tensor:
    """Of one sequence, by the definition. `emissions` `(length, num_labels)`."""
    total = crf.start[tags[0]] + crf.end[tags[-1]]
    for step, tag in enumerate(tags):
        total = total + emissions[step, tag]
        if step:
            total = total + crf.transitions[tags[step - 1], tag]
    return total


def every_score(crf: LinearChainCRF, emissions: torch.Tensor) -> dict[tuple[int, ...], torch.Tensor]:
    return {tags: score(crf, emissions, tags) for tags in product(range(NUM_LABELS), repeat=len(emissions))}


def brute_force_likelihood(crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    scores = every_score(crf, emissions)
    return scores[tuple(labels.tolist())] - torch.stack(list(scores.values())).logsumexp(0)


def test_likelihood_and_gradients(crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor) -> None:
    inputs = [emissions, *crf.parameters()]
    labels[~KEPT] = 99  # never looked at
    result = crf.log_likelihood(emissions, labels, KEPT)
    rows = [brute_force_likelihood(crf, row[kept], tags[kept]) for row, tags, kept in zip(emissions, labels, KEPT)]
    expected = torch.stack(rows)
    assert torch.allclose(result, expected, **EXACT)
    weights = torch.arange(1.0, len(KEPT) + 1, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(result @ weights, inputs), torch.autograd.grad(expected @ weights, inputs), strict=True
    ):
        assert ours.abs().max() > 0.01 and torch.allclose(ours, theirs, **EXACT)


def test_marginals(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    result = crf.marginals(emissions, KEPT)
    for row, kept, marginals in zip(emissions, KEPT, result):
        scores = every_score(crf, row[kept])
        partition = torch.stack(list(scores.values())).logsumexp(0)
        for step, position in enumerate(kept.nonzero().flatten()):
            for tag in range(NUM_LABELS):
                through = torch.stack([value for tags, value in scores.items() if tags[step] == tag])
                assert torch.allclose(marginals[position, tag], through.logsumexp(0) - partition, **EXACT)
    assert torch.equal(result[~KEPT], emissions.log_softmax(-1)[~KEPT])
    # Without transitions nothing joins the tokens: the transitions above did matter.
    assert not torch.allclose(result[KEPT], emissions.log_softmax(-1)[KEPT], atol=0.01)


def test_viterbi(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    result = crf.viterbi(emissions, KEPT)
    assert (result[~KEPT] == -100).all()
    for row, kept, tags in zip(emissions, KEPT, result):
        scores = every_score(crf, row[kept])
        assert tuple(tags[kept].tolist()) == max(scores, key=lambda tags: scores[tags].item())
    assert not torch.equal(result[KEPT], emissions.argmax(-1)[KEPT])


def test_skipping_is_removing(crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor) -> None:
    likelihoods = crf.log_likelihood(emissions, labels, KEPT)
    marginals, paths = crf.marginals(emissions, KEPT), crf.viterbi(emissions, KEPT)
    for row, kept in enumerate(KEPT):
        alone, every = emissions[row, kept][None], torch.ones(1, int(kept.sum()), dtype=torch.bool)
        tags = labels[row, kept][None]
        assert torch.allclose(crf.log_likelihood(alone, tags, every), likelihoods[row], **EXACT)
        assert torch.allclose(crf.marginals(alone, every)[0], marginals[row, kept], **EXACT)
        assert torch.equal(crf.viterbi(alone, every)[0], paths[row, kept])


def test_what_skipped_tokens_hold_is_invisible(
    crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor
) -> None:
    noisy = emissions.detach().clone()
    noisy[~KEPT] = float("nan")
    noisy.requires_grad_()
    result = crf.log_likelihood(noisy, labels.masked_fill(~KEPT, -100), torch.ones_like(KEPT))  # by label, too
    assert torch.equal(result, crf.log_likelihood(emissions, labels, KEPT))
    result.sum().backward()
    assert noisy.grad is not None and noisy.grad.isfinite().all() and not noisy.grad[~KEPT].any()
    assert torch.equal(crf.viterbi(noisy, KEPT), crf.viterbi(emissions, KEPT))
    assert torch.equal(crf.marginals(noisy, KEPT)[KEPT], crf.marginals(emissions, KEPT)[KEPT])


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
def test_rows_without_kept_tokens(
    crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor, rows: slice
) -> None:
    """One among others, and nothing else in the batch."""
    kept = KEPT[rows].clone()
    kept[0] = False
    result = crf.log_likelihood(emissions[rows], labels[rows], kept)
    result.sum().backward()
    assert result[0] == 0 and all(parameter.grad.isfinite().all() for parameter in crf.parameters())
    assert not emissions.grad[0].any()
    assert (crf.viterbi(emissions[rows], kept)[0] == -100).all()
    assert torch.equal(crf.marginals(emissions[rows], kept)[0], emissions[0].log_softmax(-1))


def test_bfloat16_is_computed_in_float32(emissions: torch.Tensor, labels: torch.Tensor) -> None:
    torch.manual_seed(0)
    crf = LinearChainCRF(NUM_LABELS).bfloat16()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    low = emissions.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        likelihood, marginals = crf.log_likelihood(low, labels, KEPT), crf.marginals(low, KEPT)
    assert likelihood.dtype == marginals.dtype == torch.float32
    exact = crf.double()
    # The values are bfloat16's, the arithmetic on some ten of them float32's.
    assert torch.allclose(likelihood.double(), exact.log_likelihood(low.double(), labels, KEPT), rtol=0, atol=1e-5)
    assert torch.allclose(marginals.double(), exact.marginals(low.double(), KEPT), rtol=0, atol=1e-5)


def test_long_chains_stay_finite(crf: LinearChainCRF) -> None:
    """Probabilities of whole chains of 500 tokens are far below float32's range; a forbidden move is, too."""
    crf = crf.float()
    with torch.no_grad():
        crf.transitions[0, 1] = -10_000.0
    emissions = (30 * torch.randn(2, 500, NUM_LABELS)).requires_grad_()
    kept = torch.ones(2, 500, dtype=torch.bool)
    likelihood = crf.log_likelihood(emissions, crf.viterbi(emissions, kept), kept)
    likelihood.sum().backward()
    assert likelihood.isfinite().all() and emissions.grad is not None and emissions.grad.isfinite().all()
    path = crf.viterbi(emissions, kept)
    assert not ((path[:, :-1] == 0) & (path[:, 1:] == 1)).any()


def test_labels_outside_the_tags_are_refused(
    crf: LinearChainCRF, emissions: torch.Tensor, labels: torch.Tensor
) -> None:
    labels[1, 1] = NUM_LABELS
    with pytest.raises(ValueError, match=r"labels holds 3, outside \[0, 3\)"):
        crf.log_likelihood(emissions, labels, KEPT)
