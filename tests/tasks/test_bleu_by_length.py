"""Buckets of source length: whole, in order, and with the score of their own sentences."""

from hf_seqmodels import metrics
from hf_seqmodels.tasks.translation_evaluation import bleu_by_source_length

SOURCES = ["a b c d e f", "a", "a b", "a b", "a b c d", "a b c d e f g h"]
REFERENCES = ["one two three four five six", "one", "one two", "two one", "one two three four", "1 2 3 4 5 6 7 8"]


def test_buckets() -> None:
    predictions = [*REFERENCES[:5], "wrong"]
    found = bleu_by_source_length(SOURCES, predictions, REFERENCES, num_buckets=3)
    # both sentences of two words are in one bucket, though a third of the sentences is reached between them
    assert [(each["shortest"], each["longest"], each["sentences"]) for each in found] == [
        (1, 2, 3),
        (4, 4, 1),
        (6, 8, 2),
    ]
    assert found[1]["bleu"] > 99
    last = metrics.load("sacrebleu").compute(
        predictions=[predictions[0], "wrong"], references=[REFERENCES[0], REFERENCES[5]]
    )
    assert found[2]["bleu"] == last["score"]


def test_one_length_is_one_bucket() -> None:
    (only,) = bleu_by_source_length(["a b"] * 4, ["x y"] * 4, ["x y"] * 4)
    assert only["sentences"] == 4
