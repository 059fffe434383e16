"""Recurrent encoder–decoders against their equations, written out."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig, Seq2SeqConfig
from hf_seqmodels.models.modeling_seq2seq import (
    AttentionSeq2SeqForConditionalGeneration,
    Seq2SeqForConditionalGeneration,
)
from hf_seqmodels.models.target_shift import shift_right, up_to_last_label

SIZES: dict[str, Any] = {
    "vocab_size": 19,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "initializer_range": 1.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order
SCORES: dict[str, dict[str, Any]] = {
    "dot": {"score": "dot"},
    "scaled_dot": {"score": "scaled_dot"},
    "general": {"score": "general"},
    "additive": {"score": "additive"},
}
SOURCE = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 11, 0, 0], [12, 0, 0, 0, 0]])
MASK = (SOURCE != 0).long()
LABELS = torch.tensor([[5, 6, 7, 2], [13, 14, 2, -100], [15, 16, 17, 2]])


def attention(**fields: Any) -> AttentionSeq2SeqForConditionalGeneration:
    torch.manual_seed(0)
    return AttentionSeq2SeqForConditionalGeneration(AttentionSeq2SeqConfig(**{**SIZES, **fields})).double().eval()


def fixed(**fields: Any) -> Seq2SeqForConditionalGeneration:
    torch.manual_seed(0)
    return Seq2SeqForConditionalGeneration(Seq2SeqConfig(**{**SIZES, **fields})).double().eval()


def parts(model: Any) -> tuple[torch.Tensor, Any, Any]:
    """The decoder's inputs, its first state and the source that it sees."""
    encoded = model.model.encoder(SOURCE, MASK)
    memory = model.model.remember(encoded, MASK)
    inputs = model.model.decoder.embed_tokens(shift_right(LABELS, 1, 0))
    return inputs, model.model.begin(encoded, memory, None), memory


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_one_call_is_step_by_step(score: str, cell_type: str) -> None:
    results = []
    for stepwise in (False, True):
        model = attention(**SCORES[score], cell_type=cell_type).train()
        outputs = model(
            SOURCE, MASK, labels=LABELS, output_attentions=True, output_hidden_states=True, stepwise=stepwise
        )
        outputs.loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        given = (outputs.logits, outputs.cross_attentions, outputs.decoder_hidden_states)
        results.append((outputs.loss.detach(), given, gradients))
    torch.testing.assert_close(results[0], results[1], **EXACT)


@pytest.mark.parametrize("score", SCORES)
def test_scores_are_the_published_formulas(score: str) -> None:
    model = attention(**SCORES[score])
    scorer = model.model.decoder.attention
    inputs, state, memory = parts(model)
    queries = model.model.decoder.stack(inputs, None, state.states).last_hidden_state
    contexts, weights = scorer(queries, memory)
    states = model.model.encoder(SOURCE, MASK).last_hidden_state
    for row in range(3):
        for step in range(4):
            q, energies = queries[row, step], []
            for h in states[row, : int(MASK[row].sum())]:
                if score == "dot":
                    energies.append(q @ h)
                elif score == "scaled_dot":
                    energies.append(q @ h / math.sqrt(8))
                elif score == "general":
                    energies.append((scorer.query.weight @ q) @ h)
                else:
                    mixed = scorer.query.weight @ q + scorer.query.bias + scorer.key.weight @ h
                    energies.append(scorer.energy.weight[0] @ mixed.tanh())
            wanted = torch.stack(energies).softmax(-1)
            torch.testing.assert_close(weights[row, step, : len(wanted)], wanted, **EXACT)
            assert weights[row, step, len(wanted) :].eq(0).all()
            torch.testing.assert_close(contexts[row, step], wanted @ states[row, : len(wanted)], **EXACT)


def test_coverage_enters_the_score_and_its_loss() -> None:
    """See et al. 2017, equations 10 to 13, by hand; one row, unpadded."""
    model = attention(score="additive", coverage=True, coverage_weight=0.7).train()
    scorer, decoder = model.model.decoder.attention, model.model.decoder
    labels = LABELS[:1]
    outputs = model(SOURCE[:1], labels=labels, output_attentions=True)
    states = model.model.encoder(SOURCE[:1]).last_hidden_state[0]
    inputs, state, _ = parts(model)
    queries = decoder.stack(inputs[:1], None, [(h[:1], c[:1]) for h, c in state.states]).last_hidden_state[0]
    covered, repeated, rows = torch.zeros(5).double(), torch.zeros(()).double(), []
    for query in queries:
        mixed = scorer.query(query) + states @ scorer.key.weight.T + covered[:, None] * scorer.coverage.weight[:, 0]
        weights = (mixed.tanh() @ scorer.energy.weight[0]).softmax(-1)
        repeated = repeated + torch.minimum(weights, covered).sum()
        covered = covered + weights
        rows.append(weights)
    torch.testing.assert_close(outputs.cross_attentions[0][0, 0], torch.stack(rows), **EXACT)
    torch.testing.assert_close(outputs.coverage_loss, 0.7 * repeated / 4, **EXACT)


@pytest.mark.parametrize("score", SCORES)
def test_input_feeding_is_a_loop(score: str) -> None:
    model = attention(**SCORES[score], input_feeding=True)
    decoder = model.model.decoder
    inputs, state, memory = parts(model)
    states, fed, logits = state.states, torch.zeros(3, 8).double(), []
    for step in range(4):
        both = torch.cat([inputs[:, step], fed], -1)[:, None]
        ran = decoder.stack(both, None, states)
        states = ran.states
        context, _ = decoder.attention(ran.last_hidden_state, memory)
        fed = (torch.cat([context, ran.last_hidden_state], -1) @ decoder.combine.weight.T).tanh()[:, 0]
        logits.append(model.lm_head(fed))
    outputs = model(SOURCE, MASK, labels=LABELS)
    torch.testing.assert_close(outputs.logits, torch.stack(logits, 1), **EXACT)


def test_a_fed_context_is_seen_at_every_step() -> None:
    """Cho et al. 2014: what the encoder ends with goes into each step and each output."""
    model = fixed(feed_context=True, cell_type="gru")
    decoder, encoded = model.model.decoder, model.model.encoder(SOURCE, MASK)
    context = encoded.final_hidden[:, -1]
    inputs, state, _ = parts(model)
    states, logits = state.states, []
    for step in range(4):
        ran = decoder.stack(torch.cat([inputs[:, step], context], -1)[:, None], None, states)
        states = ran.states
        seen = torch.cat([ran.last_hidden_state[:, 0], context, inputs[:, step]], -1)
        logits.append(model.lm_head(decoder.output(seen)))
    torch.testing.assert_close(model(SOURCE, MASK, labels=LABELS).logits, torch.stack(logits, 1), **EXACT)


@pytest.mark.parametrize("bridge", ["copy", "linear", "tanh"])
@pytest.mark.parametrize("cell_type", ["rnn", "lstm", "gru"])
def test_bridges(bridge: str, cell_type: str) -> None:
    model = fixed(bridge=bridge, cell_type=cell_type).model
    encoded = model.encoder(SOURCE, MASK)
    states = model.bridge(encoded.final_hidden, encoded.final_cell)
    assert len(states) == 2 and (encoded.final_cell is None) == (cell_type != "lstm")
    for layer, (hidden, cell) in enumerate(states):
        for got, final, linear in (
            (hidden, encoded.final_hidden, model.bridge.hidden),
            (cell, encoded.final_cell, model.bridge.cell),
        ):
            if final is None:
                assert got is None
                continue
            wanted = final[:, layer]
            if bridge != "copy":
                wanted = wanted @ linear.weight.T + linear.bias
            wanted = wanted.tanh() if bridge == "tanh" else wanted
            torch.testing.assert_close(got[:, 0], wanted, **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("build", [fixed, attention])
def test_a_reversed_source_is_one_reversed_by_hand(bidirectional: bool, build: Any) -> None:
    reading, plain = build(reverse_source=True, bidirectional=bidirectional), build(bidirectional=bidirectional)
    plain.load_state_dict(reading.state_dict())
    by_hand = SOURCE.clone()
    for row, length in enumerate(MASK.sum(1)):
        by_hand[row, :length] = SOURCE[row, :length].flip(0)
    got, wanted = reading(SOURCE, MASK, labels=LABELS), plain(by_hand, MASK, labels=LABELS)
    torch.testing.assert_close(got.logits, wanted.logits, **EXACT)
    assert (got.logits - plain(SOURCE, MASK, labels=LABELS).logits).abs().max() > 1e-3
    for row, length in enumerate(MASK.sum(1)):  # its outputs stand where their tokens do
        turned = wanted.encoder_last_hidden_state[row, :length].flip(0)
        torch.testing.assert_close(got.encoder_last_hidden_state[row, :length], turned, **EXACT)


def decoder_inputs(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """What a training step gives the decoder."""
    seen: list[torch.Tensor] = []
    handle = model.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    model.train()(SOURCE, MASK, labels=labels)
    handle.remove()
    return seen[0]


WHOLE = torch.randint(3, 19, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", [fixed, attention])
@pytest.mark.parametrize("unit", ["token", "step"])
def test_scheduled_sampling(build: Any, unit: str) -> None:
    """Bengio et al. 2015: ratio 1 is teacher forcing, 0 the model's own predictions, between them a mixture."""
    model = build(sampling_unit=unit)
    truth = shift_right(WHOLE, 1, 0)
    assert torch.equal(decoder_inputs(model, WHOLE), truth)
    model.teacher_forcing_ratio = 0.0
    own = truth[:, :1]
    with torch.no_grad():
        for _ in range(11):
            logits = model(SOURCE, MASK, decoder_input_ids=own).logits
            own = torch.cat([own, logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(decoder_inputs(model, WHOLE), own)
    model.teacher_forcing_ratio = 0.5
    torch.manual_seed(0)
    mixed = decoder_inputs(model, WHOLE)
    guesses = model(SOURCE, MASK, decoder_input_ids=mixed).logits.argmax(-1)[:, :-1]
    is_true, is_own = mixed[:, 1:] == truth[:, 1:], mixed[:, 1:] == guesses
    assert (is_true | is_own).all() and not is_true.all() and not is_own.all()
    together = is_true.all(0) | is_own.all(0)
    assert together.all() == (unit == "step")


def test_scheduled_sampling_is_of_training_alone_and_has_gradients() -> None:
    model = attention(input_feeding=True)
    expected = model(SOURCE, MASK, labels=LABELS).loss
    model.teacher_forcing_ratio = 0.0
    torch.testing.assert_close(model(SOURCE, MASK, labels=LABELS).loss, expected, rtol=0, atol=0)
    loss = model.train()(SOURCE, MASK, labels=LABELS).loss
    assert loss != expected
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("build", [fixed, attention])
def test_label_smoothing_is_that_of_torch(build: Any) -> None:
    model = build(label_smoothing=0.2)
    loss = model.train()(SOURCE, MASK, labels=LABELS).loss
    logits = model.eval()(SOURCE, MASK, labels=LABELS).logits
    smooth, plain = (
        nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.flatten(), label_smoothing=rate) for rate in (0.2, 0)
    )
    torch.testing.assert_close(loss, smooth, **EXACT)
    torch.testing.assert_close(model(SOURCE, MASK, labels=LABELS).loss, plain, **EXACT)


def test_targets_are_shifted_once() -> None:
    assert shift_right(LABELS, 1, 0).tolist() == [[1, 5, 6, 7], [1, 13, 14, 2], [1, 15, 16, 17]]
    gaps = torch.tensor([[-100, 4, -100, 5, -100], [-100] * 5])
    assert shift_right(gaps, 1, 0).tolist() == [[1, 0, 4, 0, 5], [1, 0, 0, 0, 0]]
    assert up_to_last_label(gaps).tolist() == [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]
