"""Losses that add up, stay finite with nothing to predict, and leave the configuration alone."""

import pytest
import torch
from torch import nn

from hf_seqmodels import SeqBertConfig, SeqBertForPreTraining
from hf_seqmodels.models.losses import sequence_classification_loss, token_cross_entropy

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def draw(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 5, (rows, 4))
    labels[:, 1] = -100
    return torch.randn(rows, 4, 5, dtype=torch.float64, requires_grad=True), labels


def test_mean_over_labelled_positions() -> None:
    logits, labels = draw()
    expected = nn.functional.cross_entropy(logits.view(-1, 5), labels.view(-1))
    torch.testing.assert_close(token_cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_add_up(as_tensor: bool) -> None:
    logits, labels = draw()
    labels[0] = -100
    count = (labels != -100).sum() if as_tensor else int((labels != -100).sum())
    parts = [token_cross_entropy(logits[i:j], labels[i:j], count) for i, j in ((0, 1), (1, 3), (3, 6))]
    assert parts[0].item() == 0
    torch.testing.assert_close(sum(parts), token_cross_entropy(logits, labels))


@pytest.mark.parametrize("count", [None, 0, torch.tensor(0)])
def test_nothing_to_predict_is_zero_with_a_graph(count: int | torch.Tensor | None) -> None:
    logits, labels = draw()
    loss = token_cross_entropy(logits, torch.full_like(labels, -100), count)
    loss.backward()
    assert loss.item() == 0 and logits.grad.eq(0).all()


def test_low_precision_logits_are_summed_in_float32() -> None:
    logits, labels = draw()
    loss = token_cross_entropy(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, token_cross_entropy(logits.bfloat16().float(), labels))


def test_label_smoothing_is_that_of_torch() -> None:
    logits, labels = draw()
    expected = nn.functional.cross_entropy(logits.view(-1, 5), labels.view(-1), label_smoothing=0.1)
    torch.testing.assert_close(token_cross_entropy(logits, labels, label_smoothing=0.1), expected)


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type", "expected"),
    [
        (1, torch.rand(6), None, nn.functional.mse_loss),
        (1, torch.rand(6, 1), "regression", nn.functional.mse_loss),
        (3, torch.rand(6, 3), "regression", nn.functional.mse_loss),
        (3, torch.randint(0, 3, (6,)), None, nn.functional.cross_entropy),
        (3, torch.randint(0, 3, (6, 1)), None, nn.functional.cross_entropy),
        (3, torch.rand(6, 3), None, nn.functional.binary_cross_entropy_with_logits),
    ],
)
def test_problem_types_of_transformers(
    num_labels: int, labels: torch.Tensor, problem_type: str | None, expected
) -> None:
    logits = torch.randn(6, num_labels)
    shaped = labels.view(-1) if expected is nn.functional.cross_entropy else labels.view(logits.shape)
    loss = sequence_classification_loss(logits, labels, problem_type)
    torch.testing.assert_close(loss, expected(logits, shaped))
    parts = [
        sequence_classification_loss(logits[i:j], labels[i:j], problem_type, labels.numel())
        for i, j in ((0, 2), (2, 6))
    ]
    torch.testing.assert_close(sum(parts), loss)


@pytest.fixture
def model() -> SeqBertForPreTraining:
    return SeqBertForPreTraining(SeqBertConfig(**SIZES)).double().train()


def pretraining_batch(rows: int = 4) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 40, (rows, 9))
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.7, -100)
    labels[:, 2] = ids[:, 2]
    return {"input_ids": ids, "labels": labels, "next_sentence_label": torch.randint(0, 2, (rows,))}


@pytest.mark.parametrize("sparse", [False, True])
def test_no_masked_token_in_pretraining(model: SeqBertForPreTraining, sparse: bool) -> None:
    batch = pretraining_batch()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    outputs = model(**batch, sparse_prediction=sparse)
    assert outputs.mlm_loss.item() == 0 and outputs.mlm_loss.requires_grad
    torch.testing.assert_close(outputs.loss, outputs.nsp_loss)
    outputs.mlm_loss.backward()
    grads = [p.grad for p in model.cls.predictions.parameters()]
    assert all(grad is not None and grad.eq(0).all() for grad in grads)
    # nor does a count of zero from Trainer divide by it
    outputs = model(**batch, num_items_in_batch=torch.tensor(0))
    assert outputs.loss.isfinite()


def test_each_loss_has_its_own_denominator(model: SeqBertForPreTraining) -> None:
    batch = pretraining_batch()
    masked = int((batch["labels"] != -100).sum())
    plain = model(**batch)
    counted = model(**batch, num_items_in_batch=10 * masked, num_pairs_in_batch=torch.tensor(8))
    torch.testing.assert_close(counted.mlm_loss, plain.mlm_loss / 10)
    torch.testing.assert_close(counted.nsp_loss, plain.nsp_loss / 2)
    torch.testing.assert_close(counted.loss, counted.mlm_loss + counted.nsp_loss)


def test_with_the_items_alone_the_pairs_are_weighted_by_them(model: SeqBertForPreTraining) -> None:
    batch = pretraining_batch()
    masked = int((batch["labels"] != -100).sum())
    plain = model(**batch)
    counted = model(**batch, num_items_in_batch=4 * masked)
    torch.testing.assert_close(counted.nsp_loss, plain.nsp_loss / 4)
    without = {name: value for name, value in batch.items() if name != "labels"}
    torch.testing.assert_close(model(**without, num_items_in_batch=77).loss, plain.nsp_loss)


def test_pairs_without_a_label_are_left_out(model: SeqBertForPreTraining) -> None:
    batch = pretraining_batch()
    batch["next_sentence_label"] = torch.tensor([1, -100, 0, -100])
    outputs = model(**batch)
    expected = nn.functional.cross_entropy(outputs.seq_relationship_logits[[0, 2]], torch.tensor([1, 0]))
    torch.testing.assert_close(outputs.nsp_loss, expected)


def test_labels_on_padding_count_for_nothing(model: SeqBertForPreTraining) -> None:
    batch = pretraining_batch()
    mask = torch.ones_like(batch["input_ids"])
    mask[0, 5:] = 0
    cleaned = batch["labels"].masked_fill(mask == 0, -100)
    outputs = model(**{**batch, "labels": batch["labels"]}, attention_mask=mask)
    torch.testing.assert_close(outputs.loss, model(**{**batch, "labels": cleaned}, attention_mask=mask).loss)
