"""Contract 10: attentions, hidden states and separate losses come on request, whatever computes the rest."""

import pytest
import torch
from transformers import Cache, EncoderDecoderCache

from tests.contracts.cases import (
    CASES,
    EXACT,
    IMAGES,
    ONE_STACK,
    Case,
    case_named,
    name_of,
    over_variants,
    uncompiled_flex,
)

LENGTHS = (9, 4, 1)
each_case = pytest.mark.parametrize("case", ONE_STACK, ids=name_of)


@over_variants([case for case in ONE_STACK if case.toy.attends])
@pytest.mark.parametrize("kernel", ["eager", "sdpa", "flex_attention"])
def test_attentions_under_every_kernel(case: Case, options: dict, kernel: str) -> None:
    if kernel == "flex_attention" and options.get("use_locality_attention"):
        pytest.skip("refused: see test_image_refusals.py")
    batch = case.batch(LENGTHS)
    with uncompiled_flex():  # a decoder, whose attentions are not asked for, goes on with its kernel
        expected = case.model(**options, attn_implementation="eager")(**batch)
        model = case.model(**options, attn_implementation=kernel)
        outputs = model(**batch, output_attentions=True)
    real = case.real_tokens(batch, model)
    assert len(outputs.attentions) == model.config.num_hidden_layers
    for weights in outputs.attentions:
        assert weights.shape == (len(real), model.config.num_attention_heads, real.shape[1], real.shape[1])
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert (weights * ~real[:, None, None, :]).abs().max() == 0
    torch.testing.assert_close(case.real_parts(outputs, batch), case.real_parts(expected, batch), **EXACT)


@pytest.mark.parametrize("case", [case for case in ONE_STACK if not case.toy.attends], ids=name_of)
def test_attentions_of_a_model_without(case: Case) -> None:
    for model, asked in ((case.model(), {"output_attentions": True}), (case.model(output_attentions=True), {})):
        with pytest.raises(ValueError, match=r"output_attentions=True: .* has no attentions"):
            model(**case.batch(LENGTHS), **asked)


@over_variants(ONE_STACK, kernels=("eager", "sdpa"))
def test_hidden_states(case: Case, options: dict) -> None:
    """Every layer's, though less may be computed when nobody asks; ViT's are those before the final LayerNorm."""
    batch = case.batch(LENGTHS)
    model = case.model(**options)
    encoder = model.base_model
    last: list[torch.Tensor] = []
    handle = encoder.register_forward_hook(lambda module, inputs, outputs: last.append(outputs.last_hidden_state))
    outputs = model(**batch, output_hidden_states=True)
    handle.remove()
    real = case.real_tokens(batch, model)
    first, width = (getattr(model.config, name, model.config.hidden_size) for name in ("input_size", "output_size"))
    widths = [first, *[width] * model.config.num_hidden_layers]
    assert [states.shape for states in outputs.hidden_states] == [(*real.shape, width) for width in widths]
    final = getattr(encoder, case.toy.final_norm) if case.toy.final_norm else lambda states: states
    torch.testing.assert_close(final(outputs.hidden_states[-1])[real], last[0][real], **EXACT)
    torch.testing.assert_close(case.real_parts(outputs, batch), case.real_parts(model(**batch), batch), **EXACT)


@each_case
def test_hidden_states_while_training(case: Case) -> None:
    model, batch = case.model().train(), case.batch(LENGTHS)
    with torch.no_grad():
        outputs = model(**batch, output_hidden_states=True)
        expected = model.eval()(**batch, output_hidden_states=True)
    real = case.real_tokens(batch, model)
    for states, others in zip(outputs.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(states[real], others[real], **EXACT)


@each_case
def test_asked_for_in_the_config(case: Case) -> None:
    attentions = {"attn_implementation": "eager", "output_attentions": True} if case.toy.attends else {}
    model = case.model(output_hidden_states=True, **attentions).train()
    outputs = model(**case.batch(LENGTHS))
    layers = model.config.num_hidden_layers
    assert len(outputs.hidden_states) == layers + 1
    assert len(outputs.get("attentions", ())) == (layers if case.toy.attends else 0)


@pytest.mark.parametrize("case", IMAGES, ids=name_of)
def test_nothing_is_given_that_was_not_asked_for(case: Case) -> None:
    outputs = case.model()(**case.batch(LENGTHS))
    assert "attentions" not in outputs and "hidden_states" not in outputs


def test_attentions_of_a_packed_row_stay_within_segments() -> None:
    case = case_named("SeqBertModel")
    ids = torch.randint(1, 60, (1, 9))
    segment = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    with torch.no_grad():
        outputs = case.model()(ids, cu_seq_lens=torch.tensor([0, 4, 7, 9]), output_attentions=True)
        plain = case.model()(ids, cu_seq_lens=torch.tensor([0, 4, 7, 9]))
    across = segment[:, None] != segment[None]
    for weights in outputs.attentions:
        assert weights[..., across].abs().max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    torch.testing.assert_close(outputs.last_hidden_state, plain.last_hidden_state, **EXACT)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_tuples_hold_the_same_values(case: Case) -> None:
    model, batch = case.model(), case.batch(LENGTHS)
    with torch.no_grad():
        outputs, values = model(**batch), model(**batch, return_dict=False)
    assert isinstance(values, tuple)
    got, expected = (
        [states_of(value) if isinstance(value, Cache) else value for value in given]
        for given in (values, outputs.to_tuple())
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def states_of(cache: Cache) -> list:
    """All tensors in it."""
    if isinstance(cache, EncoderDecoderCache):
        return [states_of(part) for part in (cache.self_attention_cache, cache.cross_attention_cache)]
    return [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values", "hidden", "cell")]


def test_separate_losses() -> None:
    for case in (case for case in CASES if "next_sentence_label" in case.head.targets):
        model, batch = case.model(), case.batch(LENGTHS)
        both = model(**batch)
        torch.testing.assert_close(both.loss, both.mlm_loss + both.nsp_loss)
        mlm = model(**{k: v for k, v in batch.items() if k != "next_sentence_label"})
        nsp = model(**{k: v for k, v in batch.items() if k != "labels"})
        assert mlm.nsp_loss is None and torch.equal(mlm.loss, both.mlm_loss)
        assert nsp.mlm_loss is None and torch.equal(nsp.loss, both.nsp_loss)
