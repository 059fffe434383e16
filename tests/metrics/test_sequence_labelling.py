"""Entities and their scores against hand-worked cases."""

import pytest

from hf_seqmodels import metrics
from hf_seqmodels.metrics.sequence_labelling import Entity, Scheme, entities


@pytest.mark.parametrize(
    "tags, conll, strict",
    [
        ("O O", [], []),
        ("B-A I-A O B-A", [("A", 0, 2), ("A", 3, 4)], [("A", 0, 2), ("A", 3, 4)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)], [("A", 0, 1), ("A", 1, 2)]),
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)], [("A", 0, 1)]),
        ("I-A I-A O", [("A", 0, 2)], []),
        ("O I-A B-A I-A", [("A", 1, 2), ("A", 2, 4)], [("A", 2, 4)]),
        ("B-A I-B I-A", [("A", 0, 1), ("B", 1, 2), ("A", 2, 3)], [("A", 0, 1)]),
        ("B-work-of-art I-work-of-art", [("work-of-art", 0, 2)], [("work-of-art", 0, 2)]),
        ("", [], []),
    ],
)
def test_entities(tags: str, conll: list[tuple], strict: list[tuple]) -> None:
    assert entities(tags.split(), "conll") == [Entity(*row) for row in conll]
    assert entities(tags.split(), "IOB2") == [Entity(*row) for row in strict]


@pytest.mark.parametrize("tag", ["PER", "B-", "S-PER", "", "o"])
def test_entities_refuse_what_is_no_bio_tag(tag: str) -> None:
    with pytest.raises(ValueError, match="position 1"):
        entities(["O", tag])


def test_scores_by_hand() -> None:
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O"], ["O", "O"]]
    predictions = [["B-PER", "I-PER", "O", "B-PER"], ["O", "O"], ["O", "B-LOC"]]
    result = metrics.load("seqeval").compute(predictions=predictions, references=references)
    # right: one PER; predicted: 2 PER, 1 LOC; true: 2 PER, 1 LOC; tags right: 3 + 1 + 1 of 8
    assert result["PER"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "number": 2}
    assert result["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 1}
    assert result["overall_precision"] == result["overall_recall"] == pytest.approx(1 / 3)
    assert result["overall_f1"] == pytest.approx(1 / 3) and result["overall_accuracy"] == pytest.approx(5 / 8)


@pytest.mark.parametrize("scheme, f1", [("conll", 1.0), ("IOB2", 0.0)])
def test_scheme_decides_about_a_stray_inside(scheme: Scheme, f1: float) -> None:
    result = metrics.load("seqeval").compute(predictions=[["I-A"]], references=[["B-A"]], scheme=scheme)
    assert result["overall_f1"] == f1 and result["overall_accuracy"] == 0.0


def test_a_wrong_end_or_kind_is_wrong() -> None:
    result = metrics.load("seqeval").compute(predictions=[["B-A", "O", "B-B"]], references=[["B-A", "I-A", "B-A"]])
    assert result["overall_f1"] == 0.0 and result["A"]["number"] == 2 and result["B"]["number"] == 0


def test_refuses_sequences_of_different_length_and_unknown_schemes() -> None:
    metric = metrics.load("seqeval")
    with pytest.raises(ValueError, match="Sequence 1: 1 predicted tags for 2 tokens"):
        metric.compute(predictions=[["O"], ["O"]], references=[["O"], ["O", "O"]])
    with pytest.raises(ValueError, match="'BILOU'"):
        metrics.load("seqeval").compute(predictions=[["O"]], references=[["O"]], scheme="BILOU")
