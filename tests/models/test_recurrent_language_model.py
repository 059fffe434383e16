"""Recurrent language models: targets, penalties, label smoothing, softmaxes, output tables."""

import pathlib
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_seqmodels import GRUConfig, GRUForCausalLM, LSTMConfig, LSTMForCausalLM, RNNConfig, RNNForCausalLM

VOCAB = 30
SIZES: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 8, "num_hidden_layers": 2, "initializer_range": 1.0}
MODELS = {
    "rnn": (RNNForCausalLM, RNNConfig),
    "lstm": (LSTMForCausalLM, LSTMConfig),
    "gru": (GRUForCausalLM, GRUConfig),
}
ADAPTIVE: dict[str, Any] = {
    "softmax": "adaptive",
    "adaptive_cutoffs": [8, 20],
    "adaptive_div_value": 2.0,
    "tie_word_embeddings": False,
}
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order
MASK = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1, 0]])


def build(kind: str = "lstm", **fields: Any) -> Any:
    """A model in float64 that trains."""
    model_class, config_class = MODELS[kind]
    return model_class(config_class(**{**SIZES, **fields})).double().train()


def batch() -> dict[str, torch.Tensor]:
    """Rows with padding on the left and in between; some real tokens are no targets either."""
    ids = torch.randint(0, VOCAB, MASK.shape)
    labels = ids.masked_fill(MASK == 0, -100)
    labels[0, 3] = -100
    return {"input_ids": ids, "attention_mask": MASK, "labels": labels}


def num_targets(labels: torch.Tensor) -> int:
    """Labels that a real token predicts: not the first of a row, nor those behind padding."""
    return int(((labels[:, 1:] != -100) & (MASK[:, :-1] == 1)).sum())


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_is_the_mean_cross_entropy_of_the_next_tokens(kind: str) -> None:
    model, given = build(kind), batch()
    outputs = model(**given)
    total = 0.0
    for row, labels, mask in zip(outputs.logits, given["labels"], MASK):
        for place, label in enumerate(labels[1:]):
            if label != -100 and mask[place]:
                total = total - (row[place] - row[place].exp().sum().log())[label]
    torch.testing.assert_close(outputs.loss, total / num_targets(given["labels"]), **EXACT)
    assert outputs.ar_loss is None and outputs.tar_loss is None
    torch.testing.assert_close(model(**given, num_items_in_batch=7).loss, total / 7, **EXACT)
    shifted = nn.functional.pad(given["labels"][:, 1:], (0, 1), value=-100).masked_fill(MASK == 0, -100)
    same = model(given["input_ids"], MASK, shift_labels=shifted)
    assert torch.equal(same.loss, outputs.loss)
    with pytest.raises(ValueError, match="labels and shift_labels are both given; give one of the two"):
        model(**given, shift_labels=shifted)


def test_targets_that_are_shifted_already_reach_the_last_token() -> None:
    """In a stream, a chunk's last token predicts the next chunk's first."""
    model = build("gru")
    stream = torch.randint(0, VOCAB, (2, 9))
    whole = model(stream[:, :8], shift_labels=stream[:, 1:]).loss
    first = model(stream[:, :4], shift_labels=stream[:, 1:5])
    second = model(stream[:, 4:8], shift_labels=stream[:, 5:], past_key_values=first.past_key_values)
    torch.testing.assert_close((first.loss + second.loss) / 2, whole, **EXACT)


def penalties_by_hand(dropped: torch.Tensor, undropped: torch.Tensor) -> tuple[float, float]:
    """Merity et al. 2017, section 4.4, before the weights: sums over tokens of means over features."""
    ar = tar = 0.0
    for row, plain, mask in zip(dropped.detach(), undropped.detach(), MASK.tolist()):
        for place, real in enumerate(mask):
            ar += float((row[place] ** 2).mean()) if real else 0.0
            if place and real and mask[place - 1]:
                tar += float(((plain[place] - plain[place - 1]) ** 2).mean())
    return ar, tar


@pytest.mark.parametrize("softmax", ["full", "chunked", "adaptive"])
@pytest.mark.parametrize("kind", MODELS)
def test_penalties_follow_their_definition(kind: str, softmax: str) -> None:
    """AR on the output after dropout, TAR on the output before it; neither sees padding. Both are in the loss."""
    fields = ADAPTIVE if softmax == "adaptive" else {"softmax": softmax}
    penalised = {"activation_regularization": 2.0, "temporal_activation_regularization": 3.0}
    model = build(kind, **fields, output_dropout_prob=0.5, **penalised)
    plain = build(kind, **fields, output_dropout_prob=0.5)
    plain.load_state_dict(model.state_dict())
    given = batch()
    torch.manual_seed(3)
    outputs = model(**given, output_hidden_states=True)
    torch.manual_seed(3)
    without = plain(**given)
    model.model.stack.output_dropout.rate = 0.0
    undropped = model(given["input_ids"], MASK, output_hidden_states=True).hidden_states[-1]
    assert not torch.equal(outputs.hidden_states[-1], undropped)

    ar, tar = penalties_by_hand(outputs.hidden_states[-1], undropped)
    count = num_targets(given["labels"])
    assert outputs.ar_loss.item() == pytest.approx(2.0 * ar / count, abs=1e-12)
    assert outputs.tar_loss.item() == pytest.approx(3.0 * tar / count, abs=1e-12)
    torch.testing.assert_close(outputs.loss, without.loss + outputs.ar_loss + outputs.tar_loss, **EXACT)
    # Evaluation measures the cross-entropy alone.
    evaluated = model.eval()(**given)
    torch.testing.assert_close(evaluated.loss, plain.eval()(**given).loss, **EXACT)
    assert evaluated.ar_loss is None and evaluated.tar_loss is None


@pytest.mark.parametrize("softmax", ["full", "chunked", "adaptive"])
def test_micro_batches_add_up_to_the_batch(softmax: str) -> None:
    """Loss, penalties and gradients, over rows with unequal counts."""
    fields = ADAPTIVE if softmax == "adaptive" else {"softmax": softmax}
    model = build("lstm", **fields, activation_regularization=2.0, temporal_activation_regularization=1.0)
    given = batch()
    whole = model(**given)
    whole.loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        micro = {name: value[rows] for name, value in given.items()}
        parts.append(model(**micro, num_items_in_batch=torch.tensor(num_targets(given["labels"]))))
        parts[-1].loss.backward()
    for name in ("loss", "ar_loss", "tar_loss"):
        torch.testing.assert_close(sum(part[name] for part in parts), whole[name], **EXACT)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **EXACT)


@pytest.mark.parametrize("num_items", [None, 50])
@pytest.mark.parametrize("softmax", ["full", "chunked"])
@pytest.mark.parametrize("kind", MODELS)
def test_label_smoothing_is_that_of_trainer(
    kind: str, softmax: str, num_items: int | None, tmp_path: pathlib.Path
) -> None:
    """config.label_smoothing gives what TrainingArguments.label_smoothing_factor gives: labels shifted once.

    Trainer sums in float32 at times, hence the tolerance. It also asks padding for the token behind it, so here that
    token has no label.
    """
    smoothed, plain = build(kind, softmax=softmax, label_smoothing=0.2), build(kind, softmax=softmax)
    plain.load_state_dict(smoothed.state_dict())
    given = batch()
    given["labels"][:, 1:][MASK[:, :-1] == 0] = -100
    arguments = {"use_cpu": True, "report_to": "none", "output_dir": str(tmp_path)}
    trainer = Trainer(plain, TrainingArguments(**arguments, label_smoothing_factor=0.2))
    expected = trainer.compute_loss(plain, dict(given), num_items_in_batch=num_items).item()
    loss = smoothed(**given, num_items_in_batch=num_items).loss.item()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert abs(loss - plain(**given, num_items_in_batch=num_items).loss.item()) > 1e-3
    # Evaluation measures the cross-entropy itself.
    assert torch.equal(smoothed.eval()(**given).loss, plain.eval()(**given).loss)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_chunked_softmax_is_the_full_one(label_smoothing: float, tied: bool) -> None:
    fields = {"label_smoothing": label_smoothing, "tie_word_embeddings": tied, "embedding_size": 5}
    full, chunked = build(**fields), build(**fields, softmax="chunked")
    chunked.load_state_dict(full.state_dict())
    given = batch()
    losses = []
    for model in (full, chunked):
        outputs = model(**given)
        assert (outputs.logits is None) == (model is chunked)
        outputs.loss.backward()
        losses.append(outputs.loss)
    torch.testing.assert_close(losses[1], losses[0], **EXACT)
    expected = dict(full.named_parameters())
    for name, parameter in chunked.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, **EXACT)
    full.eval(), chunked.eval()
    assert torch.equal(chunked(**given).logits, full(**given).logits)
    assert torch.equal(chunked(given["input_ids"]).logits, full(given["input_ids"]).logits)


def test_an_adaptive_softmax_gives_log_probabilities_that_the_loss_is_made_of() -> None:
    model, given = build(**ADAPTIVE), batch()
    training = model(**given)
    assert training.logits is None
    evaluated = model.eval()(**given)
    log_probabilities = evaluated.logits
    assert log_probabilities.shape == (3, 7, VOCAB)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(3, 7, dtype=torch.float64), **EXACT)
    targets = given["labels"][:, 1:].masked_fill(MASK[:, :-1] == 0, -100)
    by_hand = nn.functional.nll_loss(log_probabilities[:, :-1].flatten(0, 1), targets.flatten())
    torch.testing.assert_close(evaluated.loss, by_hand, **EXACT)
    torch.testing.assert_close(training.loss, by_hand, **EXACT)


def test_logits_to_keep_are_the_last() -> None:
    model = build().eval()
    ids = torch.randint(0, VOCAB, (2, 6))
    logits = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, logits[:, -2:], **EXACT)
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 3])).logits, logits[:, [0, 3]], **EXACT)
    kept = model(ids, labels=ids, logits_to_keep=1)
    assert kept.logits.shape == (2, 1, VOCAB)
    torch.testing.assert_close(kept.loss, model(ids, labels=ids).loss, **EXACT)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("embedding_size", [8, 5])
@pytest.mark.parametrize("kind", MODELS)
def test_token_tables_are_tied_and_resized(kind: str, embedding_size: int, tied: bool, tmp_path: pathlib.Path) -> None:
    """A file holds a tied table once. New words leave the old ones' logits as they were."""
    model = build(kind, embedding_size=embedding_size, tie_word_embeddings=tied).eval()
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert (model.dense is not None) == (tied and embedding_size != 8)
    ids = torch.randint(0, VOCAB, (2, 5))
    before = model(ids).logits
    model.resize_token_embeddings(VOCAB + 4)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert model.config.vocab_size == VOCAB + 4
    assert (
        model.model.embed_tokens.num_embeddings == model.lm_head.out_features == len(model.lm_head.bias) == VOCAB + 4
    )
    after = model(ids).logits
    torch.testing.assert_close(after[..., :VOCAB], before, **EXACT)
    loss = model(ids + 4, labels=ids + 4).loss
    assert loss.isfinite()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=torch.float64)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    torch.testing.assert_close(again(ids).logits, after, **EXACT)  # loaded weights are aligned otherwise in memory


def test_an_adaptive_softmax_cannot_be_resized_and_is_saved(tmp_path: pathlib.Path) -> None:
    model = build(**ADAPTIVE).eval()
    with pytest.raises(ValueError, match="softmax='adaptive': its clusters belong to one vocabulary"):
        model.resize_token_embeddings(VOCAB + 1)
    assert model.config.vocab_size == VOCAB and model.model.embed_tokens.num_embeddings == VOCAB
    model.save_pretrained(tmp_path)
    ids = torch.randint(0, VOCAB, (2, 5))
    again = LSTMForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    torch.testing.assert_close(again(ids).logits, model(ids).logits, **EXACT)


@pytest.mark.parametrize("kind", MODELS)
def test_a_language_model_does_not_read_backwards(kind: str) -> None:
    with pytest.raises(ValueError, match=r"bidirectional=True: .* predicts the next token and must not see it"):
        build(kind, bidirectional=True)
    model = build(kind).eval()
    ids = torch.randint(0, VOCAB, (1, 6))
    other = ids.clone()
    other[0, 4] = (ids[0, 4] + 1) % VOCAB
    assert torch.equal(model(ids).logits[:, :4], model(other).logits[:, :4])
    assert not torch.allclose(model(ids).logits[:, 4:], model(other).logits[:, 4:])
