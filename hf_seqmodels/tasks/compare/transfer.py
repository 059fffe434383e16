"""Pretraining a SeqBert in memory, and fine-tuning it, a new one, or an LSTM on a number of labels."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from hf_seqmodels.data.packing import collate_packed
from hf_seqmodels.data.pretraining import BertPretrainingDataset
from hf_seqmodels.data.random import generator
from hf_seqmodels.data.sampling import BatchStream, Cursor
from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.modeling_bert_pretraining import SeqBertForPreTraining
from hf_seqmodels.tasks.model_sizes import num_trained

from .claim import Progress, Row
from .rows import summarise
from .training import Batch, fit, stage
from .transfer_data import Examples, TransferData, transfer_data

Objective = Literal["none", "mlm", "nsp", "mlm_nsp"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

# Without these labels in its batches a model has no such loss.
_UNUSED_LABELS: dict[Objective, str | None] = {"mlm": "next_sentence_label", "nsp": "labels", "mlm_nsp": None}
_TEST_BATCH = 64


def measure_transfer(
    progress: Progress,
    model: str,
    objective: Objective,
    seed: int,
    sizes: dict[str, Any],
    vocab_size: int,
    max_length: int,
    pretraining: dict[str, Any] | None,
    finetunings: list[list[Any]],
    finetuning: dict[str, Any],
) -> list[Row]:
    """Pretrains once, then fine-tunes a copy for each task and number of labels.

    All objectives see the same examples in the same order, of sentence pairs with masked tokens; they differ in which
    losses count. Of `mlm` alone the pooled [CLS] is as new as that of a model that is not pretrained.

    Args:
        model: `seq_bert` or `lstm`.
        objective: of pretraining; `none` begins with random weights.
        seed: of weights, order, masks, and which labels are drawn.
        sizes: fields of the model's configuration.
        vocab_size: word pieces at most.
        max_length: of an example in tokens.
        pretraining: `max_steps`, `batch_size` (examples of full length; a batch is packed to so many tokens) and
            `learning_rate`; None for `none`.
        finetunings: task, number of labels, and how many draws of them to try.
        finetuning: `epochs` but at least `min_steps`, `batch_size` and `learning_rate`.

    Returns:
        A row for each draw: `task`, `model`, `objective`, `num_labels`, `draw`, `seed`, `accuracy` on the task's test
        examples, `num_test`, `num_parameters`, and the budget: `steps`, `examples`, `pretraining_steps`.

    Raises:
        ValueError: an objective that is unknown or does not go with `pretraining`, or more labels than there are.
    """
    _check_objective(objective, pretraining)
    data = transfer_data(vocab_size, max_length)
    runs = [(task, count, draw) for task, count, draws in finetunings for draw in range(draws)]
    steps = [num_steps(count, finetuning) for _, count, _ in runs]
    done, total = 0, sum(steps)
    encoder: dict[str, torch.Tensor] = {}
    if pretraining is not None:
        done, total = pretraining["max_steps"], total + pretraining["max_steps"]
        encoder = pretrain(data, objective, seed, sizes, max_length, pretraining, stage(progress, 0, done / total))
    rows: list[Row] = []
    for (task, count, draw), max_steps in zip(runs, steps):
        train, test = data.tasks[task]
        if count > len(train):
            raise ValueError(f"finetunings: {task} has {len(train)} labels to train on, not {count}.")
        torch.manual_seed(seed)
        classifier = build_classifier(model, sizes, data, encoder)
        fit_classifier(
            classifier,
            train,
            train.order(seed, draw)[:count],
            generator(seed, f"{task} {count}", draw),
            max_steps,
            finetuning,
            stage(progress, done / total, (done + max_steps) / total),
        )
        done += max_steps
        rows.append(
            {
                "task": task,
                "model": model,
                "objective": objective,
                "num_labels": count,
                "draw": draw,
                "seed": seed,
                "accuracy": accuracy(classifier, test),
                "num_test": len(test),
                "num_parameters": num_trained(classifier),
                "steps": max_steps,
                "examples": max_steps * finetuning["batch_size"],
                "pretraining_steps": 0 if pretraining is None else pretraining["max_steps"],
            }
        )
    return rows


def _check_objective(objective: str, pretraining: dict[str, Any] | None) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r} must be one of {', '.join(OBJECTIVES)}.")
    if (objective == "none") != (pretraining is None):
        raise ValueError(f"pretraining={pretraining!r} does not go with objective={objective!r}.")


def percent_by_seed(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Accuracies in percent as `percent`, averaged over all that differs but `by` and the seed: draws of labels, say.

    So what figures show as spread is that over seeds.
    """
    return [{**summary.keys, "percent": 100 * summary.mean} for summary in summarise(rows, "accuracy", [*by, "seed"])]


def num_steps(num_labels: int, finetuning: dict[str, Any]) -> int:
    """Steps of a fine-tuning: so many epochs, but not fewer than `min_steps`."""
    return max(finetuning["min_steps"], -(-finetuning["epochs"] * num_labels // finetuning["batch_size"]))


def pretrain(
    data: TransferData,
    objective: Objective,
    seed: int,
    sizes: dict[str, Any],
    max_length: int,
    pretraining: dict[str, Any],
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Trains a new SeqBert on the unlabelled text, without dropout, which so short a training has no need of.

    Returns:
        The encoder's weights by name.
    """
    dataset = BertPretrainingDataset(data.text, data.tokenizer, max_length=max_length, seed=seed, nsp="balanced")
    batch_size, unused = pretraining["batch_size"], _UNUSED_LABELS[objective]
    stream = BatchStream(dataset, seed, batch_size, token_budget=batch_size * max_length).micro_batches(Cursor())
    torch.manual_seed(seed)
    fields = {**sizes, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = SeqBertForPreTraining(SeqBertConfig(vocab_size=len(data.tokenizer), **fields))

    def batch_of(step: int) -> Batch:
        keys, _ = next(stream)
        batch = collate_packed([dataset[key] for key in keys])
        return {name: values for name, values in batch.items() if name != unused}

    fit(model, batch_of, pretraining["max_steps"], pretraining["learning_rate"], progress, weight_decay=0.01)
    return model.bert.state_dict()


def build_classifier(
    model: str, sizes: dict[str, Any], data: TransferData, encoder: dict[str, torch.Tensor]
) -> PreTrainedModel:
    """A classifier of two labels, with the weights of a pretrained encoder if there are any."""
    config = AutoConfig.for_model(
        model, vocab_size=len(data.tokenizer), pad_token_id=data.tokenizer.pad_token_id, num_labels=2, **sizes
    )
    classifier = AutoModelForSequenceClassification.from_config(config)
    if encoder:
        classifier.base_model.load_state_dict(encoder)
    return classifier


def fit_classifier(
    classifier: PreTrainedModel,
    train: Examples,
    chosen: Any,
    rng: Any,
    max_steps: int,
    finetuning: dict[str, Any],
    progress: Progress,
) -> None:
    """Trains on the chosen examples alone, in a new order in each epoch; a batch may span two."""
    batch_size = finetuning["batch_size"]
    epochs = -(-max_steps * batch_size // len(chosen))
    order = [int(index) for _ in range(epochs) for index in rng.permutation(chosen)]

    def batch_of(step: int) -> Batch:
        return inputs_of(classifier, train.batch(order[step * batch_size : (step + 1) * batch_size]))

    fit(classifier, batch_of, max_steps, finetuning["learning_rate"], progress, weight_decay=0.01)


def inputs_of(classifier: PreTrainedModel, batch: Batch) -> Batch:
    """What the model takes of a batch: a recurrent one has no token types."""
    if classifier.config.model_type == "seq_bert":
        return batch
    return {name: values for name, values in batch.items() if name != "token_type_ids"}


def accuracy(classifier: PreTrainedModel, test: Examples) -> float:
    """Share of the examples that get their label."""
    by_length = sorted(range(len(test)), key=lambda index: len(test.input_ids[index]))  # less padding
    right = 0
    with torch.inference_mode():
        for first in range(0, len(test), _TEST_BATCH):
            batch = inputs_of(classifier, test.batch(by_length[first : first + _TEST_BATCH]))
            right += int((classifier(**batch).logits.argmax(-1) == batch["labels"]).sum())
    return right / len(test)


__all__ = ["OBJECTIVES", "Objective", "build_classifier", "measure_transfer", "num_steps", "percent_by_seed"]
