"""Pretraining and fine-tuning in memory, on the embedded text cut down to what takes a second."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels.data.docstrings import docstring_documents, embedded_classification
from hf_seqmodels.tasks.compare import transfer_data as data_module
from hf_seqmodels.tasks.compare.claim import BUDGETS
from hf_seqmodels.tasks.compare.claims.objectives import CLAIM as OBJECTIVES_CLAIM
from hf_seqmodels.tasks.compare.claims.pretraining import CLAIM as PRETRAINING_CLAIM
from hf_seqmodels.tasks.compare.transfer import (
    OBJECTIVES,
    build_classifier,
    measure_transfer,
    num_steps,
    percent_by_seed,
)
from hf_seqmodels.tasks.compare.transfer_cells import transfer_cells
from hf_seqmodels.tasks.compare.transfer_data import Examples, TransferData, sentence_pairs, transfer_data

SIZES = {
    "seq_bert": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
    },
    "lstm": {"embedding_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "bidirectional": True},
}
WORDS = ("alpha", "beta", "gamma", "delta", "omega")


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library of forty small modules in place of Python's own."""
    for number in range(40):
        words = f"{WORDS[number % 5]} {WORDS[number // 5 % 5]} thing {number}"
        (tmp_path / f"m{number}.py").write_text(
            f'class A:\n    """A {words}. It is {words}. One more {words}. And the last {words}."""\n\n'
            f'    def f(self):\n        """Return the {words}. It gives {words}."""\n'
        )
    monkeypatch.setattr(data_module, "docstring_documents", lambda split: docstring_documents(split, tmp_path))
    monkeypatch.setattr(data_module, "embedded_classification", lambda: embedded_classification(tmp_path))
    monkeypatch.setattr(data_module, "embedded_text", lambda: ())
    transfer_data.cache_clear()
    yield
    transfer_data.cache_clear()


def measure(**changes: Any) -> list[dict[str, Any]]:
    """Rows of a cell of micro size."""
    settings: dict[str, Any] = {
        "model": "seq_bert",
        "objective": "mlm_nsp",
        "seed": 0,
        "vocab_size": 200,
        "max_length": 32,
        "pretraining": {"max_steps": 3, "batch_size": 2, "learning_rate": 1e-3},
        "finetunings": [["docstrings", 8, 2], ["pairs", 10, 1]],
        "finetuning": {"min_steps": 2, "epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
        **changes,
    }
    return measure_transfer(lambda share: None, sizes=SIZES[settings["model"]], **settings)


def test_rows_are_those_of_the_seed_and_say_the_budget() -> None:
    reports: list[float] = []
    rows = measure()
    assert rows == measure() != measure(seed=1)
    assert [(row["task"], row["num_labels"], row["draw"]) for row in rows] == [
        ("docstrings", 8, 0),
        ("docstrings", 8, 1),
        ("pairs", 10, 0),
    ]
    assert [row["steps"] for row in rows] == [4, 4, 5] and rows[0]["examples"] == 16
    assert all(0 <= row["accuracy"] <= 1 and row["pretraining_steps"] == 3 for row in rows)
    settings = {"vocab_size": 200, "max_length": 32, "pretraining": None, "objective": "none", "seed": 0}
    measure_transfer(
        reports.append,
        model="lstm",
        sizes=SIZES["lstm"],
        finetunings=[["docstrings", 8, 1]],
        finetuning={"min_steps": 2, "epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
        **settings,
    )
    assert reports == [0.5, 1.0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_measured(objective: str) -> None:
    pretraining = None if objective == "none" else {"max_steps": 2, "batch_size": 2, "learning_rate": 1e-3}
    rows = measure(objective=objective, pretraining=pretraining, finetunings=[["pairs", 4, 1]])
    assert rows[0]["objective"] == objective and rows[0]["pretraining_steps"] == (0 if pretraining is None else 2)


def test_objectives_lead_to_other_weights_of_the_same_examples() -> None:
    rows = {name: measure(objective=name, finetunings=[["pairs", 4, 1]]) for name in ("mlm", "nsp", "mlm_nsp")}
    assert all(row[0]["num_parameters"] == rows["mlm"][0]["num_parameters"] for row in rows.values())


def test_what_is_pretrained_is_what_is_fine_tuned() -> None:
    data = transfer_data(200, 32)
    donor = build_classifier("seq_bert", SIZES["seq_bert"], data, {})
    encoder = donor.base_model.state_dict()
    torch.manual_seed(1)
    copy, other = (build_classifier("seq_bert", SIZES["seq_bert"], data, weights) for weights in (encoder, {}))
    for name, values in encoder.items():
        assert torch.equal(copy.base_model.state_dict()[name], values)
    assert not torch.equal(
        copy.base_model.get_input_embeddings().weight, other.base_model.get_input_embeddings().weight
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "clm"}, "objective='clm' must be one of none, mlm, nsp, mlm_nsp"),
        ({"objective": "none"}, "does not go with objective='none'"),
        ({"objective": "mlm", "pretraining": None}, "pretraining=None does not go"),
        ({"finetunings": [["pairs", 10_000, 1]], "pretraining": None, "objective": "none"}, "not 10000"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(**changes)


def test_nothing_of_the_test_is_pretrained_on() -> None:
    data = transfer_data(200, 32)
    text = data.tokenizer.decode(data.text.load(0).tokens)
    for task, (train, test) in data.tasks.items():
        for examples, seen in ((train, True), (test, False)):
            for ids in examples.input_ids:
                first = data.tokenizer.decode(ids[1:]).split("[SEP]")[0].strip().split(".")[0]
                assert (first in text) == seen, (task, first)


def test_pairs_tell_nothing_by_their_second_sentence_alone() -> None:
    documents = [tuple(f"{number} {place}" for place in range(5)) for number in range(9)]
    first, second, labels = sentence_pairs(documents)
    assert sorted(second) == sorted(f"{number} {place}" for number in range(9) for place in (1, 3))
    assert sorted(labels) == [0] * 9 + [1] * 9
    for a, b, label in zip(first, second, labels):
        (here, at), (there, place) = (map(int, text.split()) for text in (a, b))
        assert (here == there and place == at + 1) == (label == 0)
        assert label == 0 or here != there


def test_few_labels_are_balanced_and_differ_by_draw() -> None:
    labels = np.array([0] * 30 + [1] * 30)
    examples = Examples([], [], labels)
    draws = [examples.order(0, draw)[:10] for draw in range(2)]
    assert [int(labels[draw].sum()) for draw in draws] == [5, 5]
    assert set(draws[0]) != set(draws[1])
    assert list(draws[0]) == list(examples.order(0, 0)[:10])


def test_batches_are_padded() -> None:
    data = transfer_data(200, 32)
    train, _ = data.tasks["pairs"]
    lengths = [len(train.input_ids[index]) for index in range(3)]
    batch = train.batch([0, 1, 2])
    assert batch["input_ids"].shape == (3, max(lengths)) and batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["token_type_ids"].max() == 1 and batch["labels"].tolist() == train.labels[:3].tolist()


def test_spread_is_that_of_seeds() -> None:
    row = {"num_labels": 50, "seed": 0}
    rows = [{**row, "accuracy": 0.5}, {**row, "accuracy": 0.7}, {**row, "seed": 1, "accuracy": 0.9}]
    by_seed = percent_by_seed(rows, ["num_labels"])
    assert [row["seed"] for row in by_seed] == [0, 1]
    assert [row["percent"] for row in by_seed] == pytest.approx([60, 90])


def test_steps() -> None:
    finetuning = {"min_steps": 60, "epochs": 3, "batch_size": 16}
    assert [num_steps(count, finetuning) for count in (50, 320, 321)] == [60, 60, 61]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_claims_share_cells_and_compare_like_with_like(budget: Any) -> None:
    cells = {cell.name: cell for cell in [*PRETRAINING_CLAIM.cells(budget), *OBJECTIVES_CLAIM.cells(budget)]}
    seeds = {"quick": 1, "standard": 3, "full": 5}[budget]
    assert len(cells) == 5 * seeds
    for claim in (PRETRAINING_CLAIM, OBJECTIVES_CLAIM):
        for cell in claim.cells(budget):
            assert cells[cell.name] == cell
    # The same steps and examples of fine-tuning, and for each model a learning rate.
    rates = {cell.settings["model"]: cell.settings["finetuning"]["learning_rate"] for cell in cells.values()}
    first = next(iter(cells.values())).settings["finetuning"]
    for cell in cells.values():
        assert cell.settings["finetuning"] == {**first, "learning_rate": rates[cell.settings["model"]]}
    pretrainings = [cell.settings["pretraining"] for cell in cells.values() if cell.settings["pretraining"]]
    assert len(pretrainings) == 3 * seeds and all(each == pretrainings[0] for each in pretrainings)


def test_matched_parameters() -> None:
    data = transfer_data(200, 32)
    # A vocabulary of the size asked for, as Python's own library fills it.
    full = TransferData(_Vocabulary(data.tokenizer), data.text, data.tasks)  # type: ignore[arg-type]
    sizes = []
    for cell in transfer_cells("quick", ("none",), lstm=True):
        model = build_classifier(cell.settings["model"], cell.settings["sizes"], full, {})
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    assert max(sizes) <= 1.1 * min(sizes)


class _Vocabulary:
    """A tokenizer's size and padding, nothing else."""

    def __init__(self, tokenizer: Any):
        self.pad_token_id = tokenizer.pad_token_id

    def __len__(self) -> int:
        return 2048
