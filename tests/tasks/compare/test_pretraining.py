"""Pretraining pays: what the claim makes of rows."""

from typing import Any

import pytest

from hf_seqmodels.tasks.compare.claims.pretraining import CLAIM, LINES
from hf_seqmodels.tasks.compare.texts import claim_texts


def rows(pretrained: float, scratch: float, lstm: float) -> list[dict[str, Any]]:
    """Accuracies that rise by ten points from 50 labels to 1500; of pairs, which the claim must not look at."""
    accuracies = {"pretrained": pretrained, "scratch": scratch, "lstm": lstm}
    found: list[dict[str, Any]] = []
    for line, wanted in LINES.items():
        for seed in (0, 1):
            for count, more in ((50, 0.0), (1500, 0.1)):
                row = {"task": "docstrings", **wanted, "num_labels": count, "seed": seed}
                found.append({**row, "accuracy": accuracies[line] + more + 0.01 * seed})
            found.append({"task": "pairs", **wanted, "num_labels": 2000, "seed": seed, "accuracy": 0.0})
    return [*found, {**found[0], "objective": "mlm", "accuracy": 0.0}]


@pytest.mark.parametrize(
    ("accuracies", "holds"),
    [((0.75, 0.7, 0.7), True), ((0.72, 0.7, 0.6), False), ((0.75, 0.6, 0.74), False), ((0.7, 0.75, 0.75), False)],
)
def test_it_must_be_ahead_of_both(accuracies: tuple[float, float, float], holds: bool) -> None:
    verdict = CLAIM.judge(rows(*accuracies))
    assert verdict.holds is holds
    assert verdict.numbers["ahead"] == pytest.approx(100 * (accuracies[0] - max(accuracies[1:])), abs=0.05)
    assert verdict.numbers["pretrained_fewest"] == pytest.approx(100 * accuracies[0] + 0.5, abs=0.05)
    assert (verdict.numbers["fewest"], verdict.numbers["most"]) == (50, 1500)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_texts_and_figures(language: str) -> None:
    texts = claim_texts("pretraining", language)
    figures = CLAIM.draw(rows(0.8, 0.7, 0.7), texts.labels)
    assert list(figures) == list(texts.figures)
    (axes,) = figures["labels"].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["50", "1500"]
    assert len(axes.get_legend().get_texts()) == len(LINES)
    for accuracies in ((0.8, 0.7, 0.7), (0.7, 0.7, 0.7)):
        verdict = CLAIM.judge(rows(*accuracies))
        for text in (texts.title, texts.claim, texts.how, texts.short, texts.holds, texts.fails):
            texts.labels.fill(text, verdict.numbers)
