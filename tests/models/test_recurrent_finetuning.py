"""Recurrent classifiers and taggers: pooled states, regression, and what a CRF makes of a tagger."""

import itertools
from typing import Any

import pytest
import torch

import hf_seqmodels
from hf_seqmodels.models.recurrent_cache import RecurrentCache

KINDS = ["RNN", "LSTM", "GRU"]
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order
LENGTHS = (6, 3, 1)

each_kind = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, head: str, **fields: Any) -> Any:
    """A tiny model in float64, in eval mode."""
    config = getattr(hf_seqmodels, f"{kind}Config")(
        vocab_size=30, hidden_size=8, initializer_range=1.0, **{"num_labels": 3, **fields}
    )
    torch.manual_seed(1)
    return getattr(hf_seqmodels, f"{kind}{head}")(config).double().eval()


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of three rows; what lies on padding must not matter."""
    ids = torch.randint(1, 30, (3, max(LENGTHS)))
    steps = torch.arange(max(LENGTHS))
    mask = (steps < torch.tensor(LENGTHS)[:, None]).long()
    return ids, mask if side == "right" else mask.flip(1)


def tagger(kind: str = "LSTM", **fields: Any) -> Any:
    """With a CRF whose weights are far from their small beginnings, so that Viterbi and argmax differ."""
    model = build(kind, "ForTokenClassification", use_crf=True, bidirectional=True, **fields)
    with torch.no_grad():
        for parameter in model.crf.parameters():
            parameter.normal_(std=2.0)
    return model


@each_kind
@pytest.mark.parametrize("side", ["left", "right"])
def test_tags_of_a_padded_row_are_those_of_the_row_alone(kind: str, side: str) -> None:
    model, (ids, mask) = tagger(kind), padded(side)
    with torch.no_grad():
        outputs = model(ids, mask)
        for row, tags, logits, real in zip(ids, outputs.predictions, outputs.logits, mask.bool()):
            alone = model(row[real][None])
            assert torch.equal(alone.predictions[0], tags[real])
            torch.testing.assert_close(alone.logits[0], logits[real], **EXACT)
            assert (tags[~real] == -100).all()


def test_loss_logits_and_tags_follow_from_all_sequences_of_tags() -> None:
    """Of four tokens with three tags: every one of the 81 sequences, scored by hand."""
    model = tagger()
    ids, labels = torch.randint(1, 30, (1, 4)), torch.tensor([[2, 0, 0, 1]])
    with torch.no_grad():
        emissions = model.train()(ids).logits[0]  # in training they are the emissions themselves
        outputs = model.eval()(ids, labels=labels)
    start, end, moves = model.crf.start, model.crf.end, model.crf.transitions
    sequences = list(itertools.product(range(3), repeat=4))
    scores = torch.stack(
        [
            start[tags[0]]
            + sum(emissions[step, tag] for step, tag in enumerate(tags))
            + sum(moves[pair] for pair in itertools.pairwise(tags))
            + end[tags[-1]]
            for tags in sequences
        ]
    )
    probabilities = scores.softmax(0)
    expected = -probabilities[sequences.index((2, 0, 0, 1))].log() / 4  # nats a label
    torch.testing.assert_close(outputs.loss, expected, **EXACT)
    assert tuple(outputs.predictions[0].tolist()) == sequences[int(scores.argmax())]
    for step, tag in itertools.product(range(4), range(3)):
        share = sum(p for tags, p in zip(sequences, probabilities) if tags[step] == tag)
        torch.testing.assert_close(outputs.logits[0, step, tag].exp(), share, **EXACT)


def test_the_best_sequence_is_not_that_of_the_best_tags() -> None:
    """The control: decoding each token by itself gives other tags somewhere."""
    model = tagger()
    ids = torch.randint(1, 30, (16, 7))
    with torch.no_grad():
        outputs = model(ids)
        plain = model.train()(ids).logits.argmax(-1)
    assert (outputs.predictions != plain).any()
    assert (outputs.predictions == outputs.logits.argmax(-1)).double().mean() > 0.5  # marginals mostly agree


def test_a_chain_runs_over_the_tokens_that_carry_tags() -> None:
    """Over those with labels; over those of `tag_positions`, labels or not; else over all."""
    model = tagger()
    ids = torch.randint(1, 30, (2, 5))
    positions = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 1, 0]])
    labels = torch.randint(0, 3, (2, 5)).masked_fill(positions == 0, -100)
    with torch.no_grad():
        labelled, placed, whole = model(ids, labels=labels), model(ids, tag_positions=positions), model(ids)
        both = model(ids, labels=labels, tag_positions=torch.ones(2, 5))
    assert torch.equal(labelled.predictions, placed.predictions)
    assert torch.equal(labelled.predictions == -100, positions == 0)
    torch.testing.assert_close(labelled.logits, placed.logits, **EXACT)
    assert torch.equal(both.predictions, whole.predictions) and (whole.predictions >= 0).all()
    torch.testing.assert_close(both.loss, labelled.loss, **EXACT)  # labels alone decide on the loss


def test_the_tags_are_there_in_eval_only() -> None:
    model = tagger().train()
    ids = torch.randint(1, 30, (2, 5))
    assert model(ids, labels=torch.zeros(2, 5, dtype=torch.long)).predictions is None
    assert build("LSTM", "ForTokenClassification")(ids).predictions is None


def test_a_step_without_labels_costs_nothing_and_keeps_its_graph() -> None:
    for model in (tagger().train(), build("GRU", "ForTokenClassification").train()):
        ids = torch.randint(1, 30, (2, 5))
        loss = model(ids, labels=torch.full((2, 5), -100)).loss
        loss.backward()
        assert loss == 0 and all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@each_kind
def test_the_last_state_is_that_of_the_last_token(kind: str) -> None:
    """Of both directions: forward at the last real token, backward at the first."""
    model = build(kind, "ForSequenceClassification", bidirectional=True)
    ids, _ = padded("right")
    mask = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0]])
    with torch.no_grad():
        got = model(ids, mask).logits
        for row, kept, logits in zip(ids, mask.bool(), got):
            states = model.model(row[kept][None]).last_hidden_state[0]
            pooled = torch.cat([states[-1, :8], states[0, 8:]])
            torch.testing.assert_close(model.classifier(pooled), logits, **EXACT)


@each_kind
def test_a_classifier_reads_on(kind: str) -> None:
    """The last state of a text read in two parts is that of the whole."""
    model = build(kind, "ForSequenceClassification")
    ids, mask = padded("left")
    with torch.no_grad():
        expected = model(ids, mask).logits
        cache = model.model(ids[:, :2], mask[:, :2], past_key_values=RecurrentCache(2)).past_key_values
        got = model(ids[:, 2:], mask, past_key_values=cache).logits
    torch.testing.assert_close(got, expected, **EXACT)


def test_regression_and_several_labels() -> None:
    ids, mask = padded("right")
    model = build("GRU", "ForSequenceClassification", num_labels=1)
    targets = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    outputs = model(ids, mask, labels=targets)
    torch.testing.assert_close(outputs.loss, (outputs.logits[:, 0] - targets).square().mean(), **EXACT)
    model = build("GRU", "ForSequenceClassification")
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    outputs = model(ids, mask, labels=targets)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, targets)
    torch.testing.assert_close(outputs.loss, expected, **EXACT)
    assert model.config.problem_type is None


def test_dropout_before_a_classifier() -> None:
    """`classifier_dropout`, or `hidden_dropout_prob` where it is not set; 0 is a rate."""
    for head in ("ForSequenceClassification", "ForTokenClassification"):
        rates = [
            build("LSTM", head, hidden_dropout_prob=0.3, classifier_dropout=own).dropout.p for own in (None, 0, 0.1)
        ]
        assert rates == [0.3, 0, 0.1]
