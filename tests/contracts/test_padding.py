"""Contract 2: a padded batch equals each row alone, padded on any side, however short a row is."""

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.contracts.cases import (
    CASES,
    EXACT,
    TRAINABLE,
    Case,
    assert_equal_gradients,
    case_named,
    gradients,
    name_of,
)

LENGTHS = (9, 4, 1, 6)


def over_sides(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("case", "options", "side"),
        [
            pytest.param(case, options, side, id=f"{name_of(case)}-{name}-{side}")
            for case in cases
            for name, options in case.variants.items()
            for side in case.toy.modality.sides
        ],
    )


@over_sides(CASES)
def test_outputs_of_each_row_alone(case: Case, options: dict, side: str) -> None:
    rows = [case.row(length) for length in LENGTHS]
    model = case.model(**options)
    batch = case.without_targets(case.collate(rows, side))
    with torch.no_grad():
        got = case.real_parts(model(**batch), batch)
        for index, row in enumerate(rows):
            lone = case.without_targets(case.alone(row))
            for name, (expected,) in case.real_parts(model(**lone), lone).items():
                torch.testing.assert_close(got[name][index], expected, **EXACT)


@over_sides([case for case in TRAINABLE if case.head.exact_counts])
def test_loss_and_gradients_are_the_sums_over_rows(case: Case, options: dict, side: str) -> None:
    rows = [case.row(length) for length in LENGTHS]
    counts = {"num_items_in_batch": case.num_items(rows)}
    if "next_sentence_label" in case.head.targets:
        counts["num_pairs_in_batch"] = len(rows)
    model = case.model(**options).train()
    outputs, got = gradients(model, {**case.collate(rows, side), **counts})
    total, expected = 0.0, {}
    for row in rows:
        part, grads = gradients(model, {**case.alone(row), **counts})
        total += part.loss.item()
        expected = {name: expected.get(name, 0) + grad for name, grad in grads.items()}
    assert outputs.loss.item() == pytest.approx(total, abs=1e-12)
    assert_equal_gradients(got, expected)
    # and without a count it is the mean
    assert model(**case.collate(rows, side)).loss.item() == pytest.approx(total, abs=1e-12)


def test_answers_cannot_lie_on_padding() -> None:
    """The loss of a row is that of the row alone; a position on padding counts as lost to truncation."""
    case = case_named("SeqBertForQuestionAnswering")
    rows = [case.row(length) for length in LENGTHS]
    rows[1]["start_positions"] = torch.tensor(7)  # of 4 tokens
    model = case.model()
    rows = [{**row, "end_positions": row["start_positions"]} for row in rows]
    whole = model(**case.collate(rows)).loss
    losses = [model(**case.alone(row)).loss for index, row in enumerate(rows) if index != 1]
    assert whole.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)


def test_transformers_bert_fails_on_left_padding() -> None:
    """The control: BERT counts positions through the padding, so the same check sees a difference there."""
    case = case_named("SeqBertModel")
    model = BertModel(BertConfig(**case.toy.config)).double().eval()
    rows = [case.row(length) for length in LENGTHS]
    with torch.no_grad():
        padded = model(**case.collate(rows, "left")).last_hidden_state[1, -4:]
        expected = model(**case.alone(rows[1])).last_hidden_state[0]
    assert (padded - expected).abs().max() > 1e-3


@pytest.mark.parametrize("stem", ["patch", "conv", "shifted"])
def test_an_unmasked_image_sees_its_padding(stem: str) -> None:
    """The control: without the mask the same check sees a difference."""
    case = case_named("SeqViTModel")
    rows = [case.row(length) for length in LENGTHS]
    model = case.model(stem=stem)
    batch = case.collate(rows)
    del batch["attention_mask"]
    with torch.no_grad():
        got, expected = model(**batch).pooler_output[1], model(**case.alone(rows[1])).pooler_output[0]
    assert (got - expected).abs().max() > 1e-3
