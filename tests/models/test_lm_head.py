"""Losses over large vocabularies against the plain ones, which hold all logits."""

import pytest
import torch
from torch import nn

from hf_seqmodels.models import lm_head
from hf_seqmodels.models.lm_head import AdaptiveSoftmax, chunked_cross_entropy

ROWS, WIDTH, VOCAB = 23, 8, 50
CUTOFFS = [10, 20, 40]
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 rounding of sums of some thousand terms near 1


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows a chunk in float64, three a piece, so that chunks and pieces end unevenly."""
    monkeypatch.setattr(lm_head, "_MIN_ROWS", 4)
    monkeypatch.setattr(lm_head, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(lm_head, "_PIECE", 3 * VOCAB)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weight, bias and labels, some of them -100."""
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64).requires_grad_()
        for shape in ((ROWS, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    )
    labels = torch.randint(0, VOCAB, (ROWS,))
    labels[::5] = -100
    return hidden, weight, bias, labels


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    logits = nn.functional.linear(hidden, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("all_labelled", [True, False])
def test_chunks_equal_the_whole(
    inputs: tuple[torch.Tensor, ...], smoothing: float, with_bias: bool, all_labelled: bool
) -> None:
    hidden, weight, bias, labels = inputs
    if all_labelled:
        labels = labels.clamp(min=0)
    given = (hidden, weight, bias) if with_bias else (hidden, weight)
    arguments = (hidden, weight, bias if with_bias else None, labels, smoothing)
    ours, theirs = chunked_cross_entropy(*arguments), plain(*arguments)
    assert ours.dtype == torch.float64 and torch.allclose(ours, theirs, **EXACT)
    expected = torch.autograd.grad(0.37 * theirs, given)
    for gradient, reference in zip(torch.autograd.grad(0.37 * ours, given), expected, strict=True):
        assert reference.abs().max() > 0.1 and torch.allclose(gradient, reference, **EXACT)


@pytest.mark.parametrize("trained", range(3))
def test_only_what_needs_a_gradient_gets_one(inputs: tuple[torch.Tensor, ...], trained: int) -> None:
    *values, labels = inputs
    values = [value.detach().requires_grad_(index == trained) for index, value in enumerate(values)]
    chunked_cross_entropy(*values, labels).backward()
    (reference,) = torch.autograd.grad(plain(*values, labels), values[trained])
    for index, value in enumerate(values):
        assert (value.grad is None) == (index != trained)
    assert torch.allclose(values[trained].grad, reference, **EXACT)


def test_without_gradients(inputs: tuple[torch.Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(*inputs)

    def no_gradient(*shape: object, **kwargs: object) -> None:
        raise AssertionError("a gradient was made")

    monkeypatch.setattr(torch, "empty_like", no_gradient)
    monkeypatch.setattr(torch, "zeros_like", no_gradient)
    with torch.no_grad():
        result = chunked_cross_entropy(*inputs)
    assert not result.requires_grad and torch.allclose(result, expected, **EXACT)
    with pytest.raises(AssertionError, match="a gradient was made"):
        chunked_cross_entropy(*inputs)


@pytest.mark.parametrize("rows", [0, 3])
def test_no_labels_give_zero_with_a_graph(inputs: tuple[torch.Tensor, ...], rows: int) -> None:
    hidden, weight, bias, _ = inputs
    loss = chunked_cross_entropy(hidden[:rows], weight, bias, torch.full((rows,), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert all(value.grad is not None and not value.grad.any() for value in (hidden, weight, bias))


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_is_no_coarser_than_the_plain_way(inputs: tuple[torch.Tensor, ...], autocast: bool) -> None:
    """Float32 weights under autocast, or bfloat16 weights; the truth is float64 on the same, rounded values."""
    *values, labels = inputs
    labels = labels.clamp(min=0)  # plain autocast must not gain from unlabelled rows
    low = [value.detach().bfloat16() for value in values]
    leaves = [(value.float() if autocast else value).requires_grad_() for value in low]
    exact_leaves = [value.double().requires_grad_() for value in low]
    exact = plain(*exact_leaves, labels)
    exact_gradients = torch.autograd.grad(exact, exact_leaves)
    errors = {}
    for name, loss_of in (("ours", chunked_cross_entropy), ("plain", plain)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = loss_of(*leaves, labels)
        assert loss.dtype == torch.float32
        gradients = torch.autograd.grad(loss, leaves)
        assert [gradient.dtype for gradient in gradients] == [leaf.dtype for leaf in leaves]
        pairs = [(loss, exact), *zip(gradients, exact_gradients, strict=True)]
        errors[name] = [((value.double() - truth).norm() / truth.norm()).item() for value, truth in pairs]
    for ours, reference in zip(errors["ours"], errors["plain"]):
        # Twice the plain way's error (the project's bound), or half a unit in bfloat16's last place.
        assert ours <= max(2 * reference, 2**-9), errors


def test_the_logits_of_all_rows_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "_MIN_ROWS", 16)
    rows, vocab = 512, 2000
    hidden, weight = torch.randn(rows, 4, requires_grad=True), torch.randn(vocab, 4, requires_grad=True)
    labels = torch.randint(0, vocab, (rows,))
    largest = {}
    for name, loss_of in (("ours", chunked_cross_entropy), ("plain", plain)):
        with torch.profiler.profile(profile_memory=True) as profile:
            loss_of(hidden, weight, None, labels).backward()
        largest[name] = max(event.cpu_memory_usage for event in profile.events())
    assert largest["plain"] >= 4 * rows * vocab  # float32 logits
    assert largest["ours"] <= 4 * 16 * vocab + 1024


@pytest.fixture
def adaptive() -> AdaptiveSoftmax:
    torch.manual_seed(0)
    return AdaptiveSoftmax(WIDTH, VOCAB, CUTOFFS, 2.0).double()


def test_adaptive_loss_is_pytorchs(adaptive: AdaptiveSoftmax, inputs: tuple[torch.Tensor, ...]) -> None:
    hidden, _, _, labels = inputs
    kept = labels != -100
    ours = adaptive.summed_loss(hidden, labels)
    theirs = -adaptive(hidden[kept], labels[kept]).output.sum()
    assert torch.allclose(ours, theirs, **EXACT)
    picked = adaptive.log_probabilities(hidden[kept]).gather(-1, labels[kept].unsqueeze(-1))
    assert torch.allclose(ours, -picked.sum(), **EXACT)
    leaves = [hidden, *adaptive.parameters()]
    for gradient, reference in zip(
        torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True
    ):
        assert reference.abs().max() > 1e-3 and torch.allclose(gradient, reference, **EXACT)


def test_adaptive_log_probabilities(adaptive: AdaptiveSoftmax, inputs: tuple[torch.Tensor, ...]) -> None:
    hidden = inputs[0][:20].view(4, 5, WIDTH)
    result = adaptive.log_probabilities(hidden)
    assert result.shape == (4, 5, VOCAB)
    assert torch.allclose(result.exp().sum(-1), torch.ones(4, 5, dtype=torch.float64), **EXACT)
    assert torch.allclose(result.flatten(0, 1), adaptive.log_prob(hidden.flatten(0, 1)), **EXACT)


@pytest.mark.parametrize("labels", [[3, 9], [45, 45], [-100, -100], []])
def test_adaptive_clusters_without_words(adaptive: AdaptiveSoftmax, labels: list[int]) -> None:
    """Frequent words alone, one rare cluster alone, nothing to predict, nothing at all."""
    hidden = torch.randn(len(labels), WIDTH, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(labels, dtype=torch.int64)
    loss = adaptive.summed_loss(hidden, targets)
    loss.backward()
    kept = targets != -100
    picked = adaptive.log_probabilities(hidden[kept]).gather(-1, targets[kept].unsqueeze(-1))
    assert torch.allclose(loss, -picked.sum(), **EXACT)
    assert all(parameter.grad is not None for parameter in adaptive.parameters())


def test_adaptive_loss_is_float32_under_autocast(inputs: tuple[torch.Tensor, ...]) -> None:
    hidden, _, _, labels = inputs
    adaptive = AdaptiveSoftmax(WIDTH, VOCAB, CUTOFFS, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for states in (hidden.float(), hidden.bfloat16()):
            loss = adaptive.summed_loss(states, labels)
            assert loss.dtype == adaptive.log_probabilities(states).dtype == torch.float32
            exact = adaptive.double().summed_loss(hidden, labels)
            adaptive.float()
            # Each of 18 rows, of a loss near 4, is off by some units of bfloat16's last place (2^-8) of logits near 1.
            assert abs(loss - exact) < 0.5
