"""Contract 10: attentions, hidden states and separate losses come on request, whatever computes the rest."""

import pytest
import torch

from tests.contracts.cases import CASES, Case, name_of

LENGTHS = (9, 4, 1)
each_case = pytest.mark.parametrize("case", CASES, ids=name_of)
kernels = pytest.mark.parametrize("kernel", ["eager", "sdpa", "flex_attention"])
unpadding = pytest.mark.parametrize("unpad", [False, True], ids=["padded", "unpad_inputs"])


@each_case
@kernels
@unpadding
def test_attentions_under_every_kernel(case: Case, kernel: str, unpad: bool) -> None:
    batch = case.batch(LENGTHS)
    mask = batch["attention_mask"].flatten(0, -2)
    with torch.no_grad():
        expected = case.model(attn_implementation="eager")(**batch)
        model = case.model(attn_implementation=kernel, unpad_inputs=unpad)
        outputs = model(**batch, output_attentions=True)
    assert len(outputs.attentions) == model.config.num_hidden_layers
    for weights in outputs.attentions:
        assert weights.shape == (len(mask), model.config.num_attention_heads, mask.shape[1], mask.shape[1])
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert (weights * (mask == 0)[:, None, None, :]).abs().max() == 0
    for name in case.head.outputs:
        torch.testing.assert_close(outputs[name], expected[name], rtol=0, atol=1e-12)


@each_case
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@unpadding
def test_hidden_states(case: Case, kernel: str, unpad: bool) -> None:
    batch = case.batch(LENGTHS)
    shape = batch["attention_mask"].flatten(0, -2).shape
    model = case.model(attn_implementation=kernel, unpad_inputs=unpad).train()
    outputs = model(**batch, output_hidden_states=True)
    assert len(outputs.hidden_states) == model.config.num_hidden_layers + 1
    assert all(states.shape == (*shape, model.config.hidden_size) for states in outputs.hidden_states)
    if "last_hidden_state" in outputs:
        assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)
    base = getattr(model, model.base_model_prefix, model)
    ids, types = (batch[name].flatten(0, -2) for name in ("input_ids", "token_type_ids"))
    first = base(ids, attention_mask=batch["attention_mask"].flatten(0, -2), token_type_ids=types)
    real = batch["attention_mask"].flatten(0, -2).bool()
    torch.testing.assert_close(outputs.hidden_states[-1][real], first.last_hidden_state[real], rtol=0, atol=1e-12)


@each_case
def test_asked_for_in_the_config(case: Case) -> None:
    model = case.model(output_hidden_states=True, attn_implementation="eager", output_attentions=True).train()
    outputs = model(**case.batch(LENGTHS))
    layers = model.config.num_hidden_layers
    assert (len(outputs.attentions), len(outputs.hidden_states)) == (layers, layers + 1)


def test_attentions_of_a_packed_row_stay_within_segments() -> None:
    case = next(case for case in CASES if case.auto_class == "AutoModel")
    ids = torch.randint(1, 60, (1, 9))
    segment = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    with torch.no_grad():
        outputs = case.model()(ids, cu_seq_lens=torch.tensor([0, 4, 7, 9]), output_attentions=True)
        plain = case.model()(ids, cu_seq_lens=torch.tensor([0, 4, 7, 9]))
    across = segment[:, None] != segment[None]
    for weights in outputs.attentions:
        assert weights[..., across].abs().max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    torch.testing.assert_close(outputs.last_hidden_state, plain.last_hidden_state, rtol=0, atol=1e-12)


@each_case
def test_tuples_hold_the_same_values(case: Case) -> None:
    model, batch = case.model(), case.batch(LENGTHS)
    with torch.no_grad():
        outputs, values = model(**batch), model(**batch, return_dict=False)
    assert isinstance(values, tuple)
    for value, expected in zip(values, outputs.to_tuple(), strict=True):
        assert torch.equal(value, expected)


def test_separate_losses() -> None:
    for case in (case for case in CASES if "next_sentence_label" in case.head.targets):
        model, batch = case.model(), case.batch(LENGTHS)
        both = model(**batch)
        torch.testing.assert_close(both.loss, both.mlm_loss + both.nsp_loss)
        mlm = model(**{k: v for k, v in batch.items() if k != "next_sentence_label"})
        nsp = model(**{k: v for k, v in batch.items() if k != "labels"})
        assert mlm.nsp_loss is None and torch.equal(mlm.loss, both.mlm_loss)
        assert nsp.mlm_loss is None and torch.equal(nsp.loss, both.nsp_loss)
