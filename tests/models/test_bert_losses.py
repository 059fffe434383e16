"""SeqBert's losses: apart, alone, of nothing, and by the step's own counts; where BERT's go wrong."""

import pytest
import torch
from transformers import BertForPreTraining

from hf_seqmodels import SeqBertConfig, SeqBertForMaskedLM, SeqBertForPreTraining
from hf_seqmodels.conversion.bert import to_transformers


@pytest.fixture
def model() -> SeqBertForPreTraining:
    config = SeqBertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return SeqBertForPreTraining(config).train()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    input_ids = torch.randint(5, 50, (4, 9))
    labels = input_ids.masked_fill(torch.rand(4, 9) > 0.4, -100)
    labels[:, 3] = input_ids[:, 3]
    return {"input_ids": input_ids, "labels": labels, "next_sentence_label": torch.tensor([0, 1, 1, 0])}


def test_losses_come_apart_and_alone(model: SeqBertForPreTraining, batch: dict[str, torch.Tensor]) -> None:
    both = model(**batch)
    assert torch.equal(both.loss, both.mlm_loss + both.nsp_loss)
    mlm = model(batch["input_ids"], labels=batch["labels"])
    nsp = model(batch["input_ids"], next_sentence_label=batch["next_sentence_label"])
    assert mlm.nsp_loss is None and torch.allclose(mlm.loss, both.mlm_loss)
    assert nsp.mlm_loss is None and torch.allclose(nsp.loss, both.nsp_loss)
    peer = to_transformers(model)
    assert isinstance(peer, BertForPreTraining)
    assert peer(batch["input_ids"], labels=batch["labels"]).loss is None  # BERT's own wants both labels
    assert torch.allclose(peer.train()(**batch).loss, both.loss, atol=1e-5)


def test_nothing_masked_is_zero_with_a_graph(model: SeqBertForPreTraining, batch: dict[str, torch.Tensor]) -> None:
    nothing = torch.full_like(batch["labels"], -100)
    outputs = model(batch["input_ids"], labels=nothing)
    outputs.loss.backward()
    assert outputs.loss.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    peer = to_transformers(model)
    pairs = batch["next_sentence_label"]
    assert peer(batch["input_ids"], labels=nothing, next_sentence_label=pairs).loss.isnan()


def test_each_loss_has_its_own_denominator(model: SeqBertForPreTraining, batch: dict[str, torch.Tensor]) -> None:
    whole = model(**batch)
    masked = int((batch["labels"] != -100).sum())
    halves = [
        model(
            **{name: values[part] for name, values in batch.items()}, num_items_in_batch=masked, num_pairs_in_batch=4
        )
        for part in (slice(0, 1), slice(1, 4))
    ]
    assert torch.allclose(sum(half.mlm_loss for half in halves), whole.mlm_loss)
    assert torch.allclose(sum(half.nsp_loss for half in halves), whole.nsp_loss)


def test_sparse_scores_are_the_dense_ones(model: SeqBertForPreTraining, batch: dict[str, torch.Tensor]) -> None:
    sparse = model(**batch).prediction_logits
    dense = model(**batch, sparse_prediction=False).prediction_logits
    assert dense.shape == (4, 9, 50)
    assert torch.allclose(sparse, dense[batch["labels"] != -100], atol=1e-6)


def test_masked_lm_loads_from_pretraining_without_a_word(
    model: SeqBertForPreTraining, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    model.save_pretrained(tmp_path)
    SeqBertForMaskedLM.from_pretrained(tmp_path)
    assert not caplog.records
