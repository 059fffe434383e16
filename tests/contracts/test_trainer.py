"""transformers' Trainer, as users drive it, on every head: evaluation, best model, resume, precision, compilation.

How a batch is cut into micro-batches is `test_accumulation.py`'s affair, label smoothing of shifted labels and of
translation `test_training.py`'s.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch._dynamo.utils import counters

from tests.contracts.cases import TRAINABLE, TRANSLATING, Case, case_named, name_of
from tests.contracts.toys import Row
from tests.contracts.trainer_runs import (
    arguments,
    contents,
    dropping_model,
    earlier_is_better,
    nothing_old_collected,
    rows_of,
    same,
    trainer_of,
    weights_in,
)

TRANSLATING_HEADS = [case for case in TRAINABLE if case in TRANSLATING]
each_case = pytest.mark.parametrize("case", TRAINABLE, ids=name_of)

# Checkpoints after steps 2 and 4; the first epoch ends with step 3, in the middle of neither's accumulation.
EVALUATED = {
    "gradient_accumulation_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "score",
}


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    with nothing_old_collected():
        yield


def evaluated_trainer(case: Case, folder: Path, shapes: list[Any], model: Any = None, **changes: Any) -> Any:
    """Trains four steps, evaluates and saves after the second and the last; the second is the best."""
    settings = arguments(case, folder, **{**EVALUATED, **changes})
    rows = rows_of(case)
    metrics = earlier_is_better(shapes)
    return trainer_of(case, model or dropping_model(case), settings, rows, compute_metrics=metrics)


@each_case
def test_evaluates_resumes_and_ends_with_the_best_model(case: Case, tmp_path) -> None:
    shapes: list[Any] = []
    trainer = evaluated_trainer(case, tmp_path / "whole", shapes)
    trainer.train()
    best, last = tmp_path / "whole/checkpoint-2", tmp_path / "whole/checkpoint-4"
    check_evaluation(case, trainer, shapes)
    check_best_model(case, trainer, best, last)
    check_resume(case, tmp_path, best, last)


def check_evaluation(case: Case, trainer: Any, shapes: list[Any]) -> None:
    """Losses are finite; metrics were given all rows, and labels as they are in the rows."""
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)
    batch = case.collate(trainer.eval_dataset)
    targets = tuple(batch[name].shape for name in trainer.label_names)
    model = trainer.model.eval()
    for predicted, labels in shapes:
        if case in TRANSLATING:
            # Seq2SeqTrainer fills both up, for it joins batches of generated tokens
            assert predicted[0] == labels[0] == 5 and labels[1] >= targets[0][1] and predicted[1] <= 20
            continue
        assert labels == (targets[0] if len(targets) == 1 else targets)  # none where the image is its own target
        with torch.no_grad():
            outputs = model(**batch)
        expected = tuple(outputs[name].shape for name in case.head.outputs)
        assert predicted == (expected if len(expected) > 1 else expected[0])


def check_best_model(case: Case, trainer: Any, best: Path, last: Path) -> None:
    """The model has the best weights, predicts by them, and is saved as them."""
    assert trainer.state.best_model_checkpoint == str(best)
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in weights_in(best).items())
    assert not same(weights_in(best), weights_in(last))
    rows = trainer.eval_dataset
    predicted = trainer.predict(rows).predictions
    folder = last.parent / "final"
    trainer.save_model(str(folder))
    model = case.load(folder)
    batch = case.collate(rows)
    if case in TRANSLATING:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        generated = model.generate(**inputs, max_length=6, num_beams=2)
        assert torch.equal(torch.from_numpy(predicted)[:, : generated.shape[1]], generated)
        return
    with torch.no_grad():
        outputs = model(**batch)
    predicted = predicted if isinstance(predicted, tuple) else (predicted,)
    values = dict(zip(case.head.outputs, map(torch.from_numpy, predicted)))
    got, expected = case.real_parts(values, batch), case.real_parts(outputs, batch)
    for name in case.head.outputs:
        for own, other in zip(got[name], expected[name]):
            # float32 in batches of another size, whose products are summed in another order
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def check_resume(case: Case, folder: Path, best: Path, last: Path) -> None:
    """From the first checkpoint, a model of other weights arrives at the second one, bit for bit."""
    other = dropping_model(case)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    torch.manual_seed(99)
    resumed = evaluated_trainer(case, folder / "resumed", [None], other)
    shutil.copytree(best, folder / "resumed/checkpoint-2")
    resumed.train(resume_from_checkpoint=str(folder / "resumed/checkpoint-2"))
    assert same(contents(folder / "resumed/checkpoint-4"), contents(last))


@pytest.mark.parametrize("lost", ["rng_state.pth", "optimizer.pt"])
def test_what_resuming_needs(lost: str, tmp_path) -> None:
    """The control: without the random state or the optimiser's, the same comparison finds a difference."""
    case = case_named("SeqBertForSequenceClassification")
    evaluated_trainer(case, tmp_path / "whole", []).train()
    shutil.copytree(tmp_path / "whole/checkpoint-2", tmp_path / "resumed/checkpoint-2")
    (tmp_path / "resumed/checkpoint-2" / lost).unlink()
    torch.manual_seed(99)
    resumed = evaluated_trainer(case, tmp_path / "resumed", [None])
    resumed.train(resume_from_checkpoint=str(tmp_path / "resumed/checkpoint-2"))
    first, second = (weights_in(tmp_path / name / "checkpoint-4") for name in ("whole", "resumed"))
    assert not same(first, second)


def losses_of(case: Case, folder: Path, model: Any, **changes: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Each step's loss in a run of two steps, and the weights after it; with changes of arguments or of data."""
    data = {name: changes.pop(name) for name in ("train_dataset", "eval_dataset", "data_collator") if name in changes}
    trainer = trainer_of(case, model, arguments(case, folder, max_steps=2, **changes), rows_of(case, 4), **data)
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return losses, {name: weight.clone() for name, weight in trainer.model.state_dict().items()}


@each_case
def test_low_precision_and_activation_checkpointing(case: Case, tmp_path) -> None:
    losses, weights = losses_of(case, tmp_path, dropping_model(case))
    # What is computed twice is computed alike, dropout and all.
    again, checkpointed = losses_of(case, tmp_path, dropping_model(case), activation_checkpointing=True)
    assert again == losses and same(checkpointed, weights)
    low, mixed = losses_of(case, tmp_path, dropping_model(case), bf16=True)
    assert low == pytest.approx(losses, rel=0.05)  # of bfloat16's products, with 8 bits
    assert low != losses
    assert all(weight.isfinite().all() for weight in mixed.values())
    assert {name: weight.dtype for name, weight in mixed.items()} == {n: w.dtype for n, w in weights.items()}


# Dynamo takes seconds to read a model: two always, the others with --slow.
QUICKLY_COMPILED = ("RNNForSequenceClassification", "SeqBertForSequenceClassification")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name_of(case), marks=[] if name_of(case) in QUICKLY_COMPILED else pytest.mark.slow)
        for case in TRAINABLE
    ],
)
def test_compiled_training(case: Case, tmp_path) -> None:
    """Without dropout, which draws other numbers when compiled (see `layers.dropout`).

    All heads compile, though only BERT's classifiers as one graph: Dynamo leaves nn.RNN, nn.LSTM and nn.GRU to Python,
    as it does what looks for the places of masked tokens, masked patches and targets.
    """
    torch._dynamo.reset()  # it compiles no more than 8 models that share a line of code
    losses, _ = losses_of(case, tmp_path, case.model(torch.float32))
    counters.clear()
    changes = {"torch_compile": True, "torch_compile_backend": "eager"}
    compiled, _ = losses_of(case, tmp_path, case.model(torch.float32), **changes)
    assert counters["stats"]["unique_graphs"] > 0
    assert compiled == pytest.approx(losses, rel=1e-5)  # float32 sums in another order


SMOOTHED = [case for case in TRAINABLE if "labels" in case.head.targets and "logits" in case.head.outputs]


@pytest.mark.parametrize("case", [case for case in SMOOTHED if case not in TRANSLATING], ids=name_of)
def test_trainers_label_smoothing(case: Case, tmp_path) -> None:
    """Trainer makes the loss itself then, from the logits of all positions: it is torch's."""
    batch, model = case.batch(), case.model().train()
    logits, labels = case.model()(**batch).logits, batch["labels"]
    trainer = trainer_of(case, model, arguments(case, tmp_path, label_smoothing_factor=0.1), rows_of(case))
    loss = trainer.compute_loss(model, batch)
    if case.head.shifts:
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)  # Trainer sums the uniform part in float32


@pytest.mark.parametrize("case", TRANSLATING_HEADS, ids=name_of)
def test_label_smoothing_of_translation_by_trainer_or_model(case: Case, tmp_path) -> None:
    """Trainer's needs a collator that makes the decoder's inputs, as transformers' own for translation does."""
    model = case.model(torch.float32)

    def collate(rows: list[Row]) -> dict[str, Any]:
        batch = case.collate(rows)
        return batch | {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"])}

    own, _ = losses_of(case, tmp_path, case.model(torch.float32, label_smoothing=0.1))
    losses, _ = losses_of(case, tmp_path, model, data_collator=collate, label_smoothing_factor=0.1)
    assert losses == pytest.approx(own, rel=1e-5)  # float32 sums in another order


def test_label_smoothing_of_two_losses_is_refused(tmp_path) -> None:
    case = case_named("SeqBertForPreTraining")
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1"):
        losses_of(case, tmp_path, dropping_model(case), label_smoothing_factor=0.1)


WITHOUT_LABELS = ("SeqBertForQuestionAnswering", "SeqViTForPreTraining", "SeqViTForMaskedImageModeling")


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_label_smoothing_without_labels_has_no_effect(name: str, tmp_path) -> None:
    """Trainer smooths `labels` alone: not the ends of an answer, not pixels."""
    case = case_named(name)
    losses, _ = losses_of(case, tmp_path, dropping_model(case))
    assert losses_of(case, tmp_path, dropping_model(case), label_smoothing_factor=0.1)[0] == losses


def test_every_head_has_its_label_smoothing_tested() -> None:
    names = {name_of(case) for case in SMOOTHED} | {*WITHOUT_LABELS, "SeqBertForPreTraining"}
    assert names == set(map(name_of, TRAINABLE))


DATASETS = (
    "LSTMForCausalLM",
    "SeqBertForSequenceClassification",
    "SeqViTForImageClassification",
    "VanillaTransformerForConditionalGeneration",
)


@pytest.mark.parametrize("name", DATASETS)
def test_columns_of_datasets_that_no_model_takes(name: str, tmp_path) -> None:
    """Trainer finds in forward's signature which columns to keep: all that the model needs, and no other."""
    case = case_named(name)
    rows = rows_of(case, 4)
    dataset = Dataset.from_list([{key: values.tolist() for key, values in row.items()} for row in rows])
    dataset = dataset.add_column("comment", ["no tensor"] * len(rows)).with_format("torch")
    losses, weights = losses_of(case, tmp_path, dropping_model(case))
    changes = {"train_dataset": dataset, "eval_dataset": dataset, "remove_unused_columns": True}
    again, same_weights = losses_of(case, tmp_path, dropping_model(case), **changes)
    assert again == losses and same(same_weights, weights)
    with pytest.raises((AttributeError, TypeError)):  # the control: our collators would fail on the comment
        losses_of(case, tmp_path, dropping_model(case), **{**changes, "remove_unused_columns": False})


@pytest.mark.parametrize("name", ["SeqViTForPreTraining", "SeqViTForMaskedImageModeling"])
def test_losses_without_labels_are_on_request(name: str) -> None:
    """`return_loss` in the signature is how Trainer knows that it can evaluate them."""
    case = case_named(name)
    model, batch = case.model(), case.batch()
    assert model(**batch).loss is not None and model(**batch, return_loss=False).loss is None
