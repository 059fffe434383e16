"""BLEU and chrF against sacrebleu itself, and what they refuse."""

import pytest
import sacrebleu

from hf_seqmodels import metrics

PREDICTIONS = ["The cat sat on the mat.", "a dog runs across the field", "nothing"]
REFERENCES = ["The cat sits on the mat.", "A dog runs across a field", "something else"]


@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_are_sacrebleus(lowercase: bool) -> None:
    bleu = metrics.load("sacrebleu").compute(predictions=PREDICTIONS, references=REFERENCES, lowercase=lowercase)
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], lowercase=lowercase)
    assert (bleu["score"], bleu["counts"], bleu["sys_len"]) == (expected.score, expected.counts, expected.sys_len)
    assert f"case:{'lc' if lowercase else 'mixed'}|eff:no|tok:13a|smooth:exp|version:" in bleu["signature"]
    chrf = metrics.load("chrf").compute(predictions=PREDICTIONS, references=REFERENCES, lowercase=lowercase)
    scorer = sacrebleu.metrics.CHRF(lowercase=lowercase)
    assert chrf["score"] == scorer.corpus_score(PREDICTIONS, [REFERENCES]).score
    assert chrf["signature"].startswith(f"nrefs:1|case:{'lc' if lowercase else 'mixed'}|")


def test_it_is_a_corpus_score_over_batches() -> None:
    metric = metrics.load("sacrebleu")
    for prediction, reference in zip(PREDICTIONS, REFERENCES):
        metric.add_batch(predictions=[prediction], references=[reference])
    whole = metrics.load("sacrebleu").compute(predictions=PREDICTIONS, references=REFERENCES)
    assert metric.compute() == whole
    sentences = [sacrebleu.sentence_bleu(p, [r]).score for p, r in zip(PREDICTIONS, REFERENCES)]
    assert whole["score"] != pytest.approx(sum(sentences) / len(sentences))


def test_several_references() -> None:
    references = [[right, prediction] for right, prediction in zip(REFERENCES, PREDICTIONS)]
    result = metrics.load("sacrebleu").compute(predictions=PREDICTIONS, references=references)
    assert result["score"] == pytest.approx(100) and "nrefs:2" in result["signature"]
    with pytest.raises(ValueError, match=r"equally many, at least 1; there are \[1, 2\]"):
        metrics.load("chrf").compute(predictions=PREDICTIONS[:2], references=[["a"], ["a", "b"]])
