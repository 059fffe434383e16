"""Contract 4: how a batch is cut into micro-batches changes nothing, through transformers' own Trainer."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, PreTrainedModel, Trainer, TrainingArguments

from hf_seqmodels.training.trainer import PretrainingTrainer
from tests.contracts.cases import TRAINABLE, Case, collate, name_of

LENGTHS = (12, 3, 7, 1, 9, 2, 5, 16)  # unequal: every cut has micro-batches with unequal numbers of labels
CUTS = [(8, 1), (4, 2), (2, 4), (1, 8)]
RATE = 0.1


def step_of_sgd(model: PreTrainedModel, rows: list, size: int, count: int, folder, trainer_class=Trainer) -> dict:
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
    trainer_class(model, arguments, train_dataset=rows, data_collator=collate).train()
    return {name: (p.detach() - before[name]) / -RATE for name, p in model.named_parameters()}


def largest_difference(gradients: dict, expected: dict) -> float:
    return max((gradients[name] - grad).abs().max().item() for name, grad in expected.items())


@pytest.mark.parametrize("case", TRAINABLE, ids=name_of)
def test_every_cut_gives_the_same_gradient(case: Case, tmp_path) -> None:
    rows = [case.row(length) for length in LENGTHS]
    trainer = PretrainingTrainer if "next_sentence_label" in case.head.targets else Trainer
    results = [step_of_sgd(case.model(), rows, *cut, tmp_path, trainer) for cut in CUTS]
    assert max(grad.abs().max().item() for grad in results[0].values()) > 1e-2
    for result in results[1:]:
        # float64 sums in another order, divided by the learning rate
        assert largest_difference(result, results[0]) < 1e-12


def test_masked_lm_alone_needs_no_trainer_of_ours(tmp_path) -> None:
    (case,) = [case for case in TRAINABLE if case.auto_class == "AutoModelForPreTraining"]
    rows = [{k: v for k, v in case.row(length).items() if k != "next_sentence_label"} for length in LENGTHS]
    expected, result = (step_of_sgd(case.model(), rows, *cut, tmp_path) for cut in ((8, 1), (2, 4)))
    assert largest_difference(result, expected) < 1e-12


def test_next_sentences_alone(tmp_path) -> None:
    (case,) = [case for case in TRAINABLE if case.auto_class == "AutoModelForPreTraining"]
    rows = [{k: v for k, v in case.row(length).items() if k != "labels"} for length in LENGTHS[:6]]
    # 6 rows in micro-batches of 4 and 2: a mean of means would be wrong
    expected, result = (
        step_of_sgd(case.model(), rows, *cut, tmp_path, PretrainingTrainer) for cut in ((6, 1), (4, 2))
    )
    assert largest_difference(result, expected) < 1e-12


@pytest.mark.parametrize("model_class", [BertForPreTraining, BertForMaskedLM])
def test_transformers_bert_fails_the_same_check(model_class: type[PreTrainedModel], tmp_path) -> None:
    """The control: its gradient grows with the number of micro-batches."""
    (case,) = [c for c in TRAINABLE if c.auto_class == model_class.__name__.replace("BertFor", "AutoModelFor")]
    rows = [case.row(6) for _ in LENGTHS]
    results = []
    for cut in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        model = model_class(BertConfig(**case.toy.config)).double()
        results.append(step_of_sgd(model, rows, *cut, tmp_path))
    expected, result = results
    assert largest_difference(result, expected) > 1.0
