"""Contract 7: every class trains, whole, in low precision, checkpointed and compiled; and overfits through Trainer."""

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from tests.contracts.cases import (
    CASES,
    EXACT,
    TRAINABLE,
    TRANSLATING,
    Case,
    assert_equal_gradients,
    case_named,
    gradients,
    name_of,
    over_variants,
)

each_case = pytest.mark.parametrize("case", TRAINABLE, ids=name_of)


@each_case
def test_overfits_a_toy_batch_through_trainer(case: Case, tmp_path) -> None:
    torch.manual_seed(0)
    rows = [case.row(length) for length in (8, 5, 7, 3)]
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        max_steps=60,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    model = case.model(torch.float32)
    before = model(**case.collate(rows)).loss.item()
    Trainer(model, arguments, train_dataset=rows, data_collator=case.collate).train()
    assert model.eval()(**case.collate(rows)).loss.item() < case.head.remaining_loss * before


@over_variants(TRAINABLE)
def test_every_parameter_gets_a_finite_gradient(case: Case, options: dict) -> None:
    model = case.model(**options).train()
    _, grads = gradients(model, case.batch((16, 9, 4, 1)))
    assert grads.keys() == dict(model.named_parameters()).keys()
    for name, grad in grads.items():
        assert grad.isfinite().all(), name
        # a bias may shift all scores of a softmax alike, which takes that away (the keys', the choices', …)
        assert grad.abs().max() > 1e-9 or name.endswith("bias"), name


@over_variants([case for case in CASES if not case.head.targets])
def test_the_bare_models_too(case: Case, options: dict) -> None:
    model, batch = case.model(**options).train(), case.batch(targets=False)
    parts = case.real_parts(model(**batch), batch).values()
    sum(part.square().sum() for rows in parts for part in rows).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@over_variants(TRAINABLE)
@pytest.mark.parametrize("rate", [0.0, 0.1], ids=["no dropout", "dropout"])
def test_activation_checkpointing_changes_nothing(case: Case, options: dict, rate: float) -> None:
    batch = case.batch()
    model = case.model(**dict.fromkeys(case.toy.rates, rate), **options).train()
    torch.manual_seed(5)
    expected, expected_grads = gradients(model, batch)
    model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    torch.manual_seed(5)
    outputs, grads = gradients(model, batch)
    torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
    assert_equal_gradients(grads, expected_grads)


@each_case
def test_bf16_weights_and_autocast(case: Case) -> None:
    batch = case.batch()
    expected = case.model().train()(**batch).loss.item()
    low = case.model(torch.bfloat16).train()
    outputs, grads = gradients(low, batch)
    assert outputs.loss.dtype == torch.float32  # losses of low-precision logits are computed in float32
    assert all(grad.isfinite().all() and grad.dtype == torch.bfloat16 for grad in grads.values())
    with torch.autocast("cpu", torch.bfloat16):
        mixed, mixed_grads = gradients(case.model(torch.float32).train(), batch)
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in mixed_grads.values())
    for loss in (outputs.loss, mixed.loss):
        assert loss.item() == pytest.approx(expected, rel=0.1)


COMPILED = [
    case_named(name)
    for name in (
        "SeqBertForPreTraining",
        "SeqViTForPreTraining",
        "LSTMForCausalLM",
        "GRUForSequenceClassification",
        "RNNForTokenClassification",
        "AttentionSeq2SeqForConditionalGeneration",
        "VanillaTransformerForConditionalGeneration",
    )
]


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", COMPILED, ids=name_of)
def test_compiled_models_give_the_same_loss(case: Case, backend: str) -> None:
    batch = case.batch()
    model = case.model().train()
    expected, expected_grads = gradients(model, batch)
    model.zero_grad()
    torch._dynamo.reset()  # after 8 models of one code it would silently go on uncompiled
    loss = torch.compile(model, backend=backend)(**batch).loss
    loss.backward()
    torch.testing.assert_close(loss, expected.loss, **EXACT)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_grads[name], rtol=0, atol=1e-10)


@each_case
def test_dropout_is_on_in_training_only(case: Case) -> None:
    model, batch = case.model(**dict.fromkeys(case.toy.rates, 0.5)), case.batch()
    assert model(**batch).loss == model(**batch).loss
    model.train()
    assert model(**batch).loss != model(**batch).loss
    assert all(module.p == 0.5 for module in model.modules() if isinstance(module, nn.Dropout))


@pytest.mark.parametrize("case", [case for case in TRAINABLE if case.head.shifts], ids=name_of)
def test_trainers_label_smoothing_is_the_models_own(case: Case, tmp_path) -> None:
    """Trainer shifts labels only for the classes that it knows as language models."""
    batch = case.batch()
    arguments = TrainingArguments(str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, report_to="none")
    model = case.model().train()
    loss = Trainer(model, arguments).compute_loss(model, dict(batch))
    expected = case.model(label_smoothing=0.1).train()(**batch).loss
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)  # Trainer sums the uniform part in float32


@pytest.mark.parametrize("case", [case for case in TRAINABLE if case in TRANSLATING], ids=name_of)
@pytest.mark.parametrize("num_items", [None, 40])
def test_trainers_label_smoothing_of_translation(case: Case, num_items: int | None, tmp_path) -> None:
    """Trainer keeps the labels to itself, so its collator must make the decoder's inputs; without, it is an error."""
    batch = case.batch()
    arguments = TrainingArguments(str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, report_to="none")
    model = case.model().train()
    trainer = Trainer(model, arguments)
    with pytest.raises(ValueError, match="decoder_input_ids are missing"):
        trainer.compute_loss(model, dict(batch), num_items_in_batch=num_items)
    batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=num_items)
    expected = case.model(label_smoothing=0.1).train()(**batch, num_items_in_batch=num_items).loss
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)  # Trainer sums the uniform part in float32
