"""Precision, recall and F1 of entities in BIO-tagged sequences, as conlleval and seqeval count them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import datasets
import evaluate

from .base import OfflineMetric

Scheme = Literal["conll", "IOB2"]


class Entity(NamedTuple):
    """A tagged span: tokens `start` to `end` (exclusive) of one sequence."""

    kind: str
    start: int
    end: int


def entities(tags: Sequence[str], scheme: Scheme = "conll") -> list[Entity]:
    """The entities of one sequence of BIO tags (`B-PER`, `I-PER`, `O`).

    Args:
        tags: one per token.
        scheme: what an `I-X` means that doesn't continue an entity of kind X: it opens one ("conll", as Sang and De
            Meulder's conlleval 2003 reads both IOB1 and IOB2), or it is outside ("IOB2", strict).

    Raises:
        ValueError: a tag that is neither `O` nor `B-` or `I-` and a kind, or an unknown scheme.
    """
    if scheme not in ("conll", "IOB2"):
        raise ValueError(f"scheme={scheme!r} is not known; choose 'conll' or 'IOB2'.")
    found: list[Entity] = []
    kind, start = "", 0  # kind "" is outside
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, tag_kind = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not tag_kind):
            raise ValueError(f"{tag!r} at position {position} is no BIO tag: expected O, B-<kind> or I-<kind>.")
        if prefix == "I" and tag_kind == kind:
            continue
        if kind:
            found.append(Entity(kind, start, position))
        opens = prefix == "B" or (prefix == "I" and scheme == "conll")
        kind, start = (tag_kind if opens else ""), position
    return found


class SequenceLabelling(OfflineMetric):
    """Entity precision, recall and F1: an entity counts if its kind and both its ends are right.

    Gives, as seqeval does, `overall_precision`, `overall_recall`, `overall_f1` (micro-averaged), `overall_accuracy`
    (of tags), and per kind `{"precision", "recall", "f1", "number"}` (number: entities in the references).
    """

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="Tjong Kim Sang and De Meulder 2003, Introduction to the CoNLL-2003 Shared Task",
            inputs_description="predictions, references: one list of BIO tags per sequence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        scheme: Scheme = "conll",
    ) -> dict[str, Any]:
        predicted: Counter[str] = Counter()
        expected: Counter[str] = Counter()
        right: Counter[str] = Counter()
        right_tags = tags = 0
        for index, (guess, truth) in enumerate(zip(predictions, references)):
            if len(guess) != len(truth):
                raise ValueError(f"Sequence {index}: {len(guess)} predicted tags for {len(truth)} tokens.")
            guessed, true = set(entities(guess, scheme)), set(entities(truth, scheme))
            predicted.update(entity.kind for entity in guessed)
            expected.update(entity.kind for entity in true)
            right.update(entity.kind for entity in guessed & true)
            right_tags += sum(a == b for a, b in zip(guess, truth))
            tags += len(truth)
        result: dict[str, Any] = {
            kind: {**_scores(right[kind], predicted[kind], expected[kind]), "number": expected[kind]}
            for kind in sorted({*predicted, *expected})
        }
        overall = _scores(right.total(), predicted.total(), expected.total())
        result.update({f"overall_{name}": score for name, score in overall.items()})
        result["overall_accuracy"] = right_tags / tags if tags else 0.0
        return result


def _scores(right: int, predicted: int, expected: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where a denominator is."""
    return {
        "precision": right / predicted if predicted else 0.0,
        "recall": right / expected if expected else 0.0,
        "f1": 2 * right / (predicted + expected) if predicted + expected else 0.0,
    }
