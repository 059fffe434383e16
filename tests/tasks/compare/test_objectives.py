"""MLM and NSP: what the claim makes of rows."""

from typing import Any

import pytest

from hf_seqmodels.tasks.compare.claims.objectives import CLAIM
from hf_seqmodels.tasks.compare.texts import claim_texts
from hf_seqmodels.tasks.compare.transfer import OBJECTIVES


def rows(docstrings_mlm: float = 0.7, pairs_mlm_nsp: float = 0.7) -> list[dict[str, Any]]:
    """Everything else is right on half; with many labels, which only some are tried on, on none."""
    found: list[dict[str, Any]] = []
    for seed in (0, 1):
        for objective in OBJECTIVES:
            row = {"model": "seq_bert", "objective": objective, "seed": seed}
            docstrings = docstrings_mlm if objective == "mlm" else 0.5
            pairs = pairs_mlm_nsp if objective == "mlm_nsp" else 0.5
            for count in (50, 150):
                found.append({**row, "task": "docstrings", "num_labels": count, "accuracy": docstrings})
            found.append({**row, "task": "docstrings", "num_labels": 1500, "accuracy": 0.0})
            found.append({**row, "task": "pairs", "num_labels": 2000, "accuracy": pairs})
    return [*found, {**found[0], "model": "lstm", "accuracy": 0.0}]


@pytest.mark.parametrize(
    ("settings", "holds"),
    [
        ({}, True),
        ({"docstrings_mlm": 0.52}, False),
        ({"pairs_mlm_nsp": 0.52}, False),
        ({"docstrings_mlm": 0.4, "pairs_mlm_nsp": 0.4}, False),
    ],
)
def test_each_must_do_its_part(settings: dict[str, float], holds: bool) -> None:
    verdict = CLAIM.judge(rows(**settings))
    assert verdict.holds is holds
    assert verdict.numbers["mlm_gain"] == pytest.approx(100 * settings.get("docstrings_mlm", 0.7) - 50)
    assert verdict.numbers["nsp_gain"] == pytest.approx(100 * settings.get("pairs_mlm_nsp", 0.7) - 50)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_texts_and_figures(language: str) -> None:
    texts = claim_texts("objectives", language)
    figures = CLAIM.draw(rows(), texts.labels)
    assert list(figures) == list(texts.figures)
    assert [axes.get_title() for axes in figures["objectives"].axes] == [
        texts.labels(task) for task in ("docstrings", "pairs")
    ]
    for found in (rows(), rows(0.5, 0.5)):
        verdict = CLAIM.judge(found)
        for text in (texts.title, texts.claim, texts.how, texts.short, texts.holds, texts.fails):
            texts.labels.fill(text, verdict.numbers)
