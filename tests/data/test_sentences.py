"""The sentence splitter."""

import pytest

from hf_seqmodels.data.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains. We stay.", ["It rains.", "We stay."]),
        ('He said "Go!" Then he left.', ['He said "Go!"', "Then he left."]),
        ("Dr. Smith met J. Doe in the U.S. Senate.", ["Dr. Smith met J. Doe in the U.S. Senate."]),
        ("See Fig. 3 and No. 5. The rest is clear.", ["See Fig. 3 and No. 5.", "The rest is clear."]),
        ("It is 3.5 cm long, e.g. here. Yes?  No!", ["It is 3.5 cm long, e.g. here.", "Yes?", "No!"]),
        ("in the Atlantic Ocean . It may grow ( 24 in ) . In life", None),
        ("H. americanus is blue . It is big .", ["H. americanus is blue .", "It is big ."]),
        ("今日は雨です。家にいます。", ["今日は雨です。", "家にいます。"]),
        ("no mark at all", ["no mark at all"]),
        ("  \n\t ", []),
        ("...", ["..."]),
        ("This is plan b. I like it.", ["This is plan b.", "I like it."]),
    ],
)
def test_split(text: str, sentences: list[str] | None) -> None:
    expected = sentences or ["in the Atlantic Ocean .", "It may grow ( 24 in ) .", "In life"]
    assert split_sentences(text) == ([] if not text.strip() else expected)


def test_nothing_is_lost() -> None:
    text = 'One. "Two!" (Three?) four… Five . Six etc. Seven'
    assert " ".join(split_sentences(text)) == text
