"""Contract 2: a padded batch equals each row alone, padded on either side, however short a row is."""

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.contracts.cases import CASES, TRAINABLE, Case, collate, gradients, name_of, without_targets

LENGTHS = (9, 4, 1, 6)
EXACT = {"rtol": 0, "atol": 1e-12}
unpadding = pytest.mark.parametrize("unpad", [False, True], ids=["padded", "unpad_inputs"])
sides = pytest.mark.parametrize("side", ["left", "right"])


def alone(row: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values.unsqueeze(0) for name, values in row.items()}


@pytest.mark.parametrize("case", CASES, ids=name_of)
@sides
@unpadding
def test_outputs_of_each_row_alone(case: Case, side: str, unpad: bool) -> None:
    rows = [case.row(length) for length in LENGTHS]
    model = case.model(unpad_inputs=unpad)
    with torch.no_grad():
        outputs = model(**without_targets(collate(rows, side)))
        for index, (row, length) in enumerate(zip(rows, LENGTHS)):
            batch = alone(row)
            expected = model(input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"])
            for name, kind in case.head.outputs.items():
                got = outputs[name][index]
                if kind == "token":
                    got = got[:length] if side == "right" else got[-length:]
                torch.testing.assert_close(got, expected[name][0], **EXACT)


@pytest.mark.parametrize("case", [case for case in TRAINABLE if case.head.exact_counts], ids=name_of)
@sides
@unpadding
def test_loss_and_gradients_are_the_sums_over_rows(case: Case, side: str, unpad: bool) -> None:
    rows = [case.row(length) for length in LENGTHS]
    counts = {"num_items_in_batch": sum(int((row["labels"] != -100).sum()) for row in rows)}
    if "next_sentence_label" in case.head.targets:
        counts["num_pairs_in_batch"] = len(rows)
    model = case.model(unpad_inputs=unpad).train()
    outputs, got = gradients(model, {**collate(rows, side), **counts})
    total, expected = 0.0, {}
    for row in rows:
        part, grads = gradients(model, {**alone(row), **counts})
        total += part.loss.item()
        expected = {name: expected.get(name, 0) + grad for name, grad in grads.items()}
    assert outputs.loss.item() == pytest.approx(total, abs=1e-12)
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def test_answers_cannot_lie_on_padding() -> None:
    """The loss of a row is that of the row alone; a position on padding counts as lost to truncation."""
    (case,) = [case for case in CASES if case.auto_class == "AutoModelForQuestionAnswering"]
    rows = [case.row(length) for length in LENGTHS]
    rows[1]["start_positions"] = torch.tensor(7)  # of 4 tokens
    model = case.model()
    rows = [{**row, "end_positions": row["start_positions"]} for row in rows]
    whole = model(**collate(rows)).loss
    losses = [model(**alone(row)).loss for index, row in enumerate(rows) if index != 1]
    assert whole.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)


def test_transformers_bert_fails_on_left_padding() -> None:
    """The control: BERT counts positions through the padding, so the same check sees a difference there."""
    case = CASES[0]
    model = BertModel(BertConfig(**case.toy.config)).double().eval()
    rows = [case.row(length) for length in LENGTHS]
    with torch.no_grad():
        padded = model(**without_targets(collate(rows, "left"))).last_hidden_state[1, -4:]
        expected = model(rows[1]["input_ids"][None], token_type_ids=rows[1]["token_type_ids"][None])
    assert (padded - expected.last_hidden_state[0]).abs().max() > 1e-3
