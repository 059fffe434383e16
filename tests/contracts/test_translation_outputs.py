"""Contract 10 for encoder–decoders: hidden states and attentions of both sides, in transformers' fields and shapes."""

from typing import Any

import pytest
import torch

from tests.contracts.cases import (
    EXACT,
    TRAINABLE,
    TRANSLATING,
    Case,
    case_named,
    name_of,
    over_variants,
    uncompiled_flex,
)

LENGTHS = (9, 4, 1)
each_case = pytest.mark.parametrize("case", TRANSLATING, ids=name_of)
ATTENTION = [case for case in TRANSLATING if case.model_class.__name__.startswith("AttentionSeq2Seq")]
TRANSFORMER = [case for case in TRANSLATING if case.toy.attends]
EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


def sizes(case: Case, batch: dict[str, Any]) -> tuple[int, int, int]:
    """Rows, tokens of a source, tokens of a target."""
    batch = case.without_targets(batch)
    return (*batch["input_ids"].shape, batch["decoder_input_ids"].shape[1])


@over_variants(TRANSLATING, kernels=("eager", "sdpa"))
def test_hidden_states_of_both_sides(case: Case, options: dict) -> None:
    batch, model = case.batch(LENGTHS), case.model(**options)
    rows, source_len, target_len = sizes(case, batch)
    outputs, expected = model(**batch, output_hidden_states=True), model(**batch)
    config = model.config
    embedded = getattr(config, "input_size", config.hidden_size)
    fed = getattr(config, "decoder_input_size", config.hidden_size)
    for states, length, width, layers in (
        (outputs.encoder_hidden_states, source_len, embedded, config.encoder_layers),
        (outputs.decoder_hidden_states, target_len, fed, config.decoder_layers),
    ):
        widths = [width, *[config.hidden_size] * layers]
        assert [tuple(state.shape) for state in states] == [(rows, length, size) for size in widths]
    real = batch["attention_mask"].bool()
    last = outputs.encoder_hidden_states[-1]  # behind the last norm, as transformers has it
    torch.testing.assert_close(last[real], outputs.encoder_last_hidden_state[real], **EXACT)
    torch.testing.assert_close(case.real_parts(outputs, batch), case.real_parts(expected, batch), **EXACT)
    assert expected.encoder_hidden_states is None and expected.decoder_hidden_states is None


def check_weights(weights: torch.Tensor, shape: tuple[int, ...], real: torch.Tensor) -> None:
    """Each row of weights sums to one, and none lies on padding; `real` is `(batch, keys)`."""
    assert tuple(weights.shape) == shape
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (weights * ~real[:, None, None, :]).abs().max() == 0


@over_variants(TRANSFORMER)
@pytest.mark.parametrize("kernel", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_attentions_of_a_transformer(case: Case, options: dict, kernel: str, side: str) -> None:
    batch = case.batch(LENGTHS, side=side)
    rows, source_len, target_len = sizes(case, batch)
    with uncompiled_flex():
        expected = case.model(**options, attn_implementation="eager")(**batch)
        model = case.model(**options, attn_implementation=kernel)
        outputs = model(**batch, output_attentions=True)
    config, real = model.config, batch["attention_mask"].bool()
    assert len(outputs.encoder_attentions) == config.encoder_layers
    assert len(outputs.decoder_attentions) == len(outputs.cross_attentions) == config.decoder_layers
    for weights in outputs.encoder_attentions:
        check_weights(weights, (rows, config.encoder_attention_heads, source_len, source_len), real)
    for weights in outputs.cross_attentions:
        check_weights(weights, (rows, config.decoder_attention_heads, target_len, source_len), real)
    for weights in outputs.decoder_attentions:
        check_weights(
            weights,
            (rows, config.decoder_attention_heads, target_len, target_len),
            torch.ones(rows, target_len, dtype=torch.bool),
        )
        assert weights.triu(1).abs().max() == 0  # nobody looks ahead
    torch.testing.assert_close(case.real_parts(outputs, batch), case.real_parts(expected, batch), **EXACT)
    assert expected.cross_attentions is None


@over_variants(ATTENTION)
@pytest.mark.parametrize("side", ["left", "right"])
def test_attentions_of_a_recurrent_decoder(case: Case, options: dict, side: str) -> None:
    batch, model = case.batch(LENGTHS, side=side), case.model(**options)
    rows, source_len, target_len = sizes(case, batch)
    outputs = model(**batch, output_attentions=True)
    (weights,) = outputs.cross_attentions
    check_weights(weights, (rows, 1, target_len, source_len), batch["attention_mask"].bool())
    assert model(**batch).cross_attentions is None


@pytest.mark.parametrize("case", [case for case in TRAINABLE if case in ATTENTION + TRANSFORMER], ids=name_of)
@pytest.mark.parametrize("beams", [1, 3])
def test_attentions_while_generating(case: Case, beams: int) -> None:
    """Those of each step, of all beams, equal those of the whole target at once."""
    model, inputs = case.model(), case.batch((6, 6), targets=False)
    source = {"input_ids": inputs["input_ids"]}
    outputs = model.generate(
        **source, max_new_tokens=4, num_beams=beams, return_dict_in_generate=True, output_attentions=True
    )
    for step in outputs.cross_attentions:
        assert all(weights.shape[0] == 2 * beams and weights.shape[2:] == (1, 6) for weights in step)
    if beams == 1:
        with torch.no_grad():
            whole = model(**source, decoder_input_ids=outputs.sequences[:, :-1], output_attentions=True)
        for layer, weights in enumerate(whole.cross_attentions):
            steps = torch.cat([step[layer] for step in outputs.cross_attentions], 2)
            torch.testing.assert_close(steps, weights, **EXACT)


@each_case
def test_asked_for_in_the_config(case: Case) -> None:
    attends = not case.model_class.__name__.startswith("Seq2Seq")
    kernel = {"attn_implementation": "eager"} if case.toy.attends else {}
    model = case.model(output_hidden_states=True, output_attentions=attends, **kernel).train()
    outputs = model(**case.batch(LENGTHS))
    assert len(outputs.encoder_hidden_states) == model.config.encoder_layers + 1
    assert len(outputs.decoder_hidden_states) == model.config.decoder_layers + 1
    assert (outputs.get("cross_attentions") is not None) == attends


def test_coverage_loss_is_a_part_of_the_loss_while_training() -> None:
    case = case_named("AttentionSeq2SeqForConditionalGeneration")
    options = case.variants["coverage"]
    model, batch = case.model(**options), case.batch(LENGTHS)
    assert model(**batch).coverage_loss is None
    outputs, without = model.train()(**batch), case.model(**{**options, "coverage_weight": 0.0}).train()(**batch)
    assert outputs.coverage_loss > 0 and without.coverage_loss is None
    torch.testing.assert_close(outputs.loss, without.loss + outputs.coverage_loss, **EXACT)
