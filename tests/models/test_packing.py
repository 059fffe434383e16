"""Segments of packed rows, and the way from padded batches to them and back."""

import pytest
import torch

from hf_seqmodels.models.packing import RowSelection, Segments, Unpadding

BOUNDS = torch.tensor([0, 4, 5, 9])


def test_segments() -> None:
    segments = Segments.from_cu_seq_lens(BOUNDS, 9)
    assert segments.lengths == (4, 1, 4)
    assert segments.cu_seq_lens.dtype == torch.int32
    assert segments.starts.tolist() == [0, 4, 5]
    assert segments.positions.tolist() == [[0, 1, 2, 3, 0, 0, 1, 2, 3]]


def test_selected_tokens_keep_their_segments() -> None:
    segments = Segments.from_cu_seq_lens(BOUNDS, 9)
    selected = segments.select(torch.tensor([1, 3, 5, 6, 8]))
    assert selected.lengths == (2, 0, 3)
    assert selected.cu_seq_lens.tolist() == [0, 2, 2, 5]
    visible = segments.same_segment(selected)
    seen = [[bool(visible(0, 0, torch.tensor(q), torch.tensor(k))) for k in range(9)] for q in range(5)]
    first, last = [True] * 4 + [False] * 5, [False] * 5 + [True] * 4
    assert seen == [first, first, last, last, last]


@pytest.mark.parametrize("bounds", [[1, 9], [0, 8], [0, 10], [0, 4, 4, 9], [0, 5, 4, 9], [0], [9]])
def test_wrong_bounds(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="must rise from 0 to the row's length 9"):
        Segments.from_cu_seq_lens(torch.tensor(bounds), 9)


# padded left, right, on both sides, not at all, and with holes
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1]])


def test_there_and_back() -> None:
    unpadding = Unpadding.from_mask(MASK)
    assert unpadding.segments.lengths == (3, 2, 2, 5, 3)
    values = torch.randn(5, 5, 2, requires_grad=True)
    packed = unpadding.pack(values)
    assert packed.shape == (1, 15, 2)
    assert torch.equal(packed[0], values[MASK.bool()])
    again = unpadding.pad(packed)
    assert torch.equal(again, values * MASK[..., None])
    again.sum().backward()
    assert torch.equal(values.grad, MASK[..., None].expand_as(values).float())


def test_places_in_the_packed_row() -> None:
    unpadding = Unpadding.from_mask(MASK)
    flat = torch.arange(25).view(5, 5)
    index = torch.tensor([3, 5, 12, 24])
    assert torch.equal(unpadding.pack(flat)[0][unpadding.to_packed_index(index)], index)


def test_a_mask_need_not_be_of_integers() -> None:
    for mask in (MASK.bool(), MASK.float(), 7 * MASK):
        assert torch.equal(Unpadding.from_mask(mask).indices, Unpadding.from_mask(MASK).indices)


def test_rows_of_selected_positions() -> None:
    states = torch.randn(3, 4, 2)
    positions = torch.tensor([1, 3, 4, 8, 9, 11])
    selection = RowSelection.from_positions(positions, (3, 4))
    assert selection.width == 3
    rows = selection.take(states)
    assert rows.shape == (3, 3, 2)
    assert torch.equal(rows[0, :2], states[0, [1, 3]]) and torch.equal(rows[2], states[2, [0, 1, 3]])
    assert torch.equal(selection.flatten(rows), states.flatten(0, 1)[positions])
