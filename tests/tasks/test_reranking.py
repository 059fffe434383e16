"""GNMT's score by its formula, and the beam that it takes."""

import math

import pytest
import torch

from hf_seqmodels import (
    AttentionSeq2SeqConfig,
    AttentionSeq2SeqForConditionalGeneration,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
)
from hf_seqmodels.tasks.reranking import generate_reranked, gnmt_scores

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
SIZES = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "initializer_range": 1.0, **TOKENS}


def test_written_out() -> None:
    log_probabilities = torch.tensor([[-1.0, -2.0, -9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0]])
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.8, 0.2, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    source = torch.tensor([[1, 1, 0]])
    plain = -3.0 / (7 / 6) ** 0.6
    assert gnmt_scores(log_probabilities, mask, 0.6).item() == pytest.approx(plain, abs=1e-12)
    # the first source token got 1.3, of which 1 counts; the second 0.7; the third is padding
    expected = plain + 0.2 * (math.log(1.0) + math.log(0.7))
    assert gnmt_scores(log_probabilities, mask, 0.6, 0.2, weights, source).item() == pytest.approx(expected, abs=1e-12)


def model_and_source(seed: int = 0) -> tuple[AttentionSeq2SeqForConditionalGeneration, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    model = AttentionSeq2SeqForConditionalGeneration(AttentionSeq2SeqConfig(**SIZES)).double().eval()
    with torch.no_grad():
        model.lm_head.bias[2] = 2.0  # beams of several lengths
    source = torch.randint(3, 12, (3, 5))
    return model, source, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])


def test_the_best_beam_is_taken() -> None:
    model, source, mask = model_and_source()
    options = {"max_new_tokens": 6, "num_beams": 4}
    beams = model.generate(source, attention_mask=mask, num_return_sequences=4, **options).view(3, 4, -1)
    taken = generate_reranked(model, source, mask, alpha=0.6, beta=0.2, **options)
    for row in range(3):
        scores = []
        for beam in beams[row]:
            length = int((beam[1:] == 2).float().argmax()) + 1 if (beam[1:] == 2).any() else len(beam) - 1
            target, real = beam[1 : length + 1], mask[row].bool()
            outputs = model(source[row, real][None], decoder_input_ids=beam[None, :length], output_attentions=True)
            log_probabilities = outputs.logits[0].log_softmax(-1)[torch.arange(length), target]
            covered = outputs.cross_attentions[-1][0, 0].sum(0).clamp(max=1)
            scores.append(log_probabilities.sum() / ((5 + length) / 6) ** 0.6 + 0.2 * covered.log().sum())
        best = beams[row, int(torch.stack(scores).argmax())]
        assert torch.equal(taken[row], best)


def test_a_length_penalty_favours_length() -> None:
    """The control: what is best depends on alpha."""
    log_probabilities = torch.tensor([[-2.0, 0, 0, 0, 0, 0], [-0.5] * 6], dtype=torch.float64)
    mask = torch.tensor([[1, 0, 0, 0, 0, 0], [1] * 6])
    assert gnmt_scores(log_probabilities, mask, 0.0).argmax() == 0
    assert gnmt_scores(log_probabilities, mask, 1.0).argmax() == 1


def test_coverage_needs_attention() -> None:
    model = Seq2SeqForConditionalGeneration(Seq2SeqConfig(**SIZES)).eval()
    source = torch.randint(3, 12, (2, 4))
    with pytest.raises(ValueError, match="attention"):
        generate_reranked(model, source, torch.ones_like(source), num_beams=2, alpha=0.6, beta=0.2, max_new_tokens=3)
