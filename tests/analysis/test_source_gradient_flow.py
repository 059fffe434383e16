"""Gradients at every step of a source: against finite differences and probes, and what attention changes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hf_seqmodels as hs
from hf_seqmodels.analysis import source_gradient_flow
from hf_seqmodels.models.recurrent import RecurrentLayer

BATCH, STEPS, VOCAB = 3, 6, 11
CELLS = pytest.mark.parametrize("cell_type", ["rnn", "lstm", "gru"])
FIELDS: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 1, "decoder_start_token_id": 1}


def recurrent(attends: bool, **fields: Any) -> Any:
    given = {**FIELDS, "hidden_size": 5, "bidirectional": False, **fields}
    if attends:
        return hs.AttentionSeq2SeqForConditionalGeneration(hs.AttentionSeq2SeqConfig(**given)).double()
    return hs.Seq2SeqForConditionalGeneration(hs.Seq2SeqConfig(**given)).double()


def transformer(**fields: Any) -> Any:
    sizes = {"d_model": 8}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
    config = hs.VanillaTransformerConfig(**FIELDS, **sizes, **fields)
    return hs.VanillaTransformerForConditionalGeneration(config).double()


def example(steps: int = STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(2, VOCAB, (BATCH, steps)), torch.randint(2, VOCAB, (BATCH, 2))


def last_loss(model: Any, labels: torch.Tensor, **source: Any) -> torch.Tensor:
    logits = model(labels=labels, **source).logits[:, -1]
    return nn.functional.cross_entropy(logits, labels[:, -1], reduction="sum")


@CELLS
@pytest.mark.parametrize("attends", [False, True], ids=["fixed", "attention"])
def test_norms_are_those_of_the_fused_call_cut_at_each_step(cell_type: str, attends: bool) -> None:
    """The last layer's state at step t: the source up to t, a shift of its state, and the rest from there."""
    model = recurrent(attends, cell_type=cell_type, num_hidden_layers=1).eval()
    ids, labels = example()
    flow = source_gradient_flow(model, ids, labels)
    assert flow.hidden.shape == (1, STEPS) and (flow.cell is not None) == (cell_type == "lstm")
    encoder = model.get_encoder()
    embeds = encoder.embed_tokens(ids)
    for t in range(STEPS):
        start = encoder.stack(embeds[:, : t + 1])
        shift = torch.zeros(BATCH, 5, dtype=torch.float64, requires_grad=True)
        ((hidden, cell),) = start.states
        hidden = hidden + shift[:, None]
        read = [start.last_hidden_state[:, :t], start.last_hidden_state[:, t:] + shift[:, None]]
        if t + 1 < STEPS:
            end = encoder.stack(embeds[:, t + 1 :], None, [(hidden, cell)])
            read.append(end.last_hidden_state)
            ((hidden, cell),) = end.states
        encoded = type(encoder(ids))(torch.cat(read, 1), hidden, cell)
        (gradient,) = torch.autograd.grad(last_loss(model, labels, encoder_outputs=encoded), shift)
        # float64, and sums of few terms in another order.
        np.testing.assert_allclose(flow.hidden[0, t], gradient.norm(dim=-1).mean().item(), rtol=1e-9)


@pytest.mark.parametrize("normalize_before", [False, True])
def test_a_transformers_norms_are_those_at_its_encoder_layers(normalize_before: bool) -> None:
    model = transformer(normalize_before=normalize_before).eval()
    ids, labels = example()
    flow = source_gradient_flow(model, ids, labels)
    encoder = model.get_encoder()
    probes = []

    def add_zeros(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        probes.append(torch.zeros_like(output).requires_grad_())
        return output + probes[-1]

    for module in (encoder.layers[0], encoder.layer_norm or encoder.layers[1]):
        module.register_forward_hook(add_zeros)
    gradients = torch.autograd.grad(last_loss(model, labels, input_ids=ids), probes)
    expected = torch.stack([gradient.norm(dim=-1).mean(0) for gradient in gradients])
    np.testing.assert_allclose(flow.hidden, expected.numpy(), rtol=1e-10)
    assert flow.cell is None and flow.hidden.shape == (2, STEPS)


@pytest.mark.parametrize("build", [lambda: recurrent(True, num_hidden_layers=2, hidden_dropout_prob=0.5), transformer])
def test_it_leaves_no_trace_and_batches_do_not_matter(build: Any) -> None:
    model = build().train()
    ids, labels = example()
    flow = source_gradient_flow(model, ids, labels)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    # What transformers records outputs with stays on its models' layers; nothing of ours does.
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, RecurrentLayer))
    model.requires_grad_(False)
    again = source_gradient_flow(model, ids.repeat(2, 1), labels.repeat(2, 1))
    np.testing.assert_allclose(again.hidden, flow.hidden, rtol=1e-10)


def test_attention_sends_gradients_to_the_beginning_and_a_fixed_context_does_not() -> None:
    steps = 60
    ids, labels = example(steps)
    fixed, attention = (
        source_gradient_flow(
            recurrent(attends, hidden_size=16, cell_type="rnn", num_hidden_layers=1, recurrent_init="uniform"),
            ids,
            labels,
        ).hidden[0]
        for attends in (False, True)
    )
    # Measured with seeds 0, 1, 2: ratios of 8e-14 to 3e-11, and of 0.05 to 0.07.
    assert fixed[0] < 1e-8 * fixed[-1] and attention[0] > 1e-3 * attention[-1]


def test_refusals() -> None:
    model = recurrent(True)
    ids, labels = example()
    for wrong in (ids[0], ids[:, :0], ids.double()):
        with pytest.raises(ValueError, match=r"must be \(batch, source_len\) ids"):
            source_gradient_flow(model, wrong, labels)
    for wrong in (labels[:, 0], labels[:2], labels[:, :0]):
        with pytest.raises(ValueError, match=r"do not fit; \(3, target_len\) is expected"):
            source_gradient_flow(model, ids, wrong)
    with pytest.raises(ValueError, match="bidirectional=True"):
        source_gradient_flow(recurrent(True, hidden_size=6, bidirectional=True), ids, labels)
    with pytest.raises(ValueError, match="reverse_source=True"):
        source_gradient_flow(recurrent(False, reverse_source=True), ids, labels)
    sizes = {"vocab_size": VOCAB, "hidden_size": 4, "num_hidden_layers": 1}
    with pytest.raises(ValueError, match="RNNForCausalLM is no encoder–decoder"):
        source_gradient_flow(hs.RNNForCausalLM(hs.RNNConfig(**sizes)), ids, labels)
    assert not any(module._forward_hooks for module in model.modules())
