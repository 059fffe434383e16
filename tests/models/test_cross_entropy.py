"""The cross-entropy in pieces against PyTorch's."""

import pytest
import torch

from hf_seqmodels.models import cross_entropy
from hf_seqmodels.models.cross_entropy import IGNORE_INDEX, summed_cross_entropy


def _loss_and_gradient(
    logits: torch.Tensor, labels: torch.Tensor, in_float64: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.double() if in_float64 else logits.clone()
    logits.requires_grad_()
    loss = summed_cross_entropy(logits, labels)
    (loss * 0.37).backward()
    assert logits.grad is not None
    return loss.detach().double(), logits.grad.double()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_pieces_equal_the_whole(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int) -> None:
    monkeypatch.setattr(cross_entropy, "_PIECE", 3 * 50)  # three rows a piece
    logits = (3 * torch.randn(rows, 50)).to(dtype)
    labels = torch.randint(0, 50, (rows,))
    labels[rows // 2] = IGNORE_INDEX
    loss, gradient = _loss_and_gradient(logits, labels, in_float64=False)
    exact_loss, exact_gradient = _loss_and_gradient(logits, labels, in_float64=True)
    assert torch.isclose(loss, exact_loss, rtol=1e-6)  # summed in float64 from float32 terms
    # The gradient is rounded to the logits' type, then scaled and rounded again.
    assert (gradient - exact_gradient).abs().max() <= 2 * torch.finfo(dtype).eps
    assert not gradient[rows // 2].any()


def test_no_rows_and_no_labels_give_zero_with_a_graph() -> None:
    for rows in (0, 3):
        logits = torch.randn(rows, 5, dtype=torch.bfloat16, requires_grad=True)
        loss = summed_cross_entropy(logits, torch.full((rows,), IGNORE_INDEX))
        loss.backward()
        assert loss.item() == 0.0 and logits.grad is not None and not logits.grad.any()
