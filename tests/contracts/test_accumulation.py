"""Contract 4: how a batch is cut into micro-batches changes nothing, through transformers' own Trainer."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, PreTrainedModel, Trainer, TrainingArguments

from hf_seqmodels.training.trainer import PretrainingTrainer
from tests.contracts.cases import TRAINABLE, Case, case_named, name_of
from tests.contracts.text import NUM_LABELS
from tests.contracts.toys import Row

LENGTHS = (12, 3, 7, 1, 9, 2, 5, 16)  # unequal: every cut has micro-batches with unequal numbers of labels
CUTS = [(8, 1), (4, 2), (2, 4), (1, 8)]
RATE = 0.1


def step_of_sgd(
    case: Case, model: PreTrainedModel, rows: list[Row], size: int, count: int, folder, trainer_class=Trainer
) -> dict[str, torch.Tensor]:
    """The change of every weight in one optimiser step over `rows` in `count` micro-batches of `size` rows."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=count,
        max_steps=1,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer_class(model, arguments, train_dataset=rows, data_collator=case.collate).train()
    return {name: (p.detach() - before[name]) / -RATE for name, p in model.named_parameters()}


def largest_difference(gradients: dict, expected: dict) -> float:
    return max((gradients[name] - grad).abs().max().item() for name, grad in expected.items())


def rows_for_trainer(case: Case) -> list[Row]:
    """Trainer counts `labels` and nothing else. What has none is a mean over micro-batches, so every row predicts
    equally much: one patch. (Unequal masks: `test_padding.py`, with counts.)"""
    rows = [case.row(length) for length in LENGTHS]
    if case.head.targets.keys() == {"bool_masked_pos"}:
        for row in rows:
            row["bool_masked_pos"] = torch.arange(len(row["bool_masked_pos"])) == 0
    return rows


@pytest.mark.parametrize("case", TRAINABLE, ids=name_of)
def test_every_cut_gives_the_same_gradient(case: Case, tmp_path) -> None:
    rows = rows_for_trainer(case)
    trainer = PretrainingTrainer if "next_sentence_label" in case.head.targets else Trainer
    results = [step_of_sgd(case, case.model(), rows, *cut, tmp_path, trainer) for cut in CUTS]
    assert max(grad.abs().max().item() for grad in results[0].values()) > 1e-2
    for result in results[1:]:
        # float64 sums in another order, divided by the learning rate
        assert largest_difference(result, results[0]) < 1e-12


def test_masked_lm_alone_needs_no_trainer_of_ours(tmp_path) -> None:
    case = case_named("SeqBertForPreTraining")
    rows = [{k: v for k, v in case.row(length).items() if k != "next_sentence_label"} for length in LENGTHS]
    expected, result = (step_of_sgd(case, case.model(), rows, *cut, tmp_path) for cut in ((8, 1), (2, 4)))
    assert largest_difference(result, expected) < 1e-12


def test_next_sentences_alone(tmp_path) -> None:
    case = case_named("SeqBertForPreTraining")
    rows = [{k: v for k, v in case.row(length).items() if k != "labels"} for length in LENGTHS[:6]]
    # 6 rows in micro-batches of 4 and 2: a mean of means would be wrong
    expected, result = (
        step_of_sgd(case, case.model(), rows, *cut, tmp_path, PretrainingTrainer) for cut in ((6, 1), (4, 2))
    )
    assert largest_difference(result, expected) < 1e-12


def image_rows(labels: str) -> list[Row]:
    """Images of several sizes with mixed labels, or with hard ones and a teacher's opinion."""
    rows = [case_named("SeqViTForImageClassification").row(length) for length in LENGTHS[:6]]
    for row in rows:
        scores = torch.randn(NUM_LABELS, dtype=torch.float64)
        row |= {"labels": scores.softmax(-1)} if labels == "soft" else {"teacher_logits": scores}
        if labels == "soft and a teacher":
            row["labels"] = scores.flip(0).softmax(-1)
    return rows


@pytest.mark.parametrize("labels", ["soft", "teacher", "soft and a teacher"])
def test_soft_labels_and_teachers(labels: str, tmp_path) -> None:
    case = case_named("SeqViTForImageClassification")
    rows, distilled = image_rows(labels), labels != "soft"
    models = [case.model(use_distillation_token=distilled) for _ in range(2)]
    # 6 rows in micro-batches of 4 and 2: a mean of means would be wrong
    expected, result = (step_of_sgd(case, model, rows, *cut, tmp_path) for model, cut in zip(models, ((6, 1), (4, 2))))
    assert largest_difference(result, expected) < 1e-12


@pytest.mark.parametrize("model_class", [BertForPreTraining, BertForMaskedLM])
def test_transformers_bert_fails_the_same_check(model_class: type[PreTrainedModel], tmp_path) -> None:
    """The control: its gradient grows with the number of micro-batches."""
    case = case_named(f"Seq{model_class.__name__}")
    rows = [case.row(6) for _ in LENGTHS]
    results = []
    for cut in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = model_class(BertConfig(**case.toy.config)).double()
        results.append(step_of_sgd(case, model, rows, *cut, tmp_path))
    expected, result = results
    assert largest_difference(result, expected) > 1.0
