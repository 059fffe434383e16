"""The words of every claim: the same in all languages, and filled with numbers that its verdict has."""

from string import Formatter

import pytest
import yaml

from hf_seqmodels.tasks.compare.claims import CLAIMS
from hf_seqmodels.tasks.compare.page import render
from hf_seqmodels.tasks.compare.texts import FOLDER, LANGUAGES, claim_texts, page_words
from tests.tasks.compare.recorded import RUN, recorded_names, recorded_result

SENTENCES = ("title", "claim", "how", "short", "holds", "fails")


def placeholders(text: str) -> set[str]:
    """Names of what is filled in."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_pages_have_the_same_words() -> None:
    english, *others = ({**page_words(language).texts} for language in LANGUAGES)
    for other in others:
        assert {key: placeholders(text) for key, text in other.items()} == {
            key: placeholders(text) for key, text in english.items()
        }


@pytest.mark.parametrize("name", CLAIMS)
def test_languages_agree(name: str) -> None:
    english, korean = (claim_texts(name, language) for language in LANGUAGES)
    for key in SENTENCES:
        assert placeholders(getattr(korean, key)) == placeholders(getattr(english, key)), key
    assert list(korean.figures) == list(english.figures)
    for key, caption in english.figures.items():
        assert placeholders(korean.figures[key]) == placeholders(caption), key
    assert {key: placeholders(text) for key, text in korean.labels.texts.items()} == {
        key: placeholders(text) for key, text in english.labels.texts.items()
    }


@pytest.mark.parametrize("name", CLAIMS)
def test_korean_is_korean(name: str) -> None:
    korean = claim_texts(name, "ko")
    for key in ("title", "claim", "how", "holds", "fails"):
        assert any("가" <= letter <= "힣" for letter in getattr(korean, key)), key


@pytest.mark.parametrize("name", CLAIMS)
def test_no_result_is_written_by_hand(name: str) -> None:
    """What came out is said in numbers of the verdict: a sentence about it that has none has none to say."""
    for language in LANGUAGES:
        texts = claim_texts(name, language)
        for key in ("short", "holds", "fails"):
            assert placeholders(getattr(texts, key)), key


@pytest.mark.parametrize("name", recorded_names())
def test_every_number_comes_from_the_verdict(name: str) -> None:
    verdict = recorded_result(name).verdict
    for language in LANGUAGES:
        texts = claim_texts(name, language)
        for text in [*(getattr(texts, key) for key in SENTENCES), *texts.figures.values()]:
            assert placeholders(text) <= verdict.numbers.keys()
            texts.labels.fill(text, verdict.numbers)


@pytest.mark.parametrize("name", recorded_names())
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_figure_has_a_caption_and_every_label_its_word(name: str, language: str) -> None:
    render([recorded_result(name)], RUN, language)


def test_no_text_is_left_over() -> None:
    for language in LANGUAGES:
        assert {path.stem for path in (FOLDER / language).glob("*.yaml")} == {"page", *CLAIMS}
        for path in (FOLDER / language).glob("*.yaml"):
            assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_claim_is_recorded() -> None:
    missing = [name for name in CLAIMS if name not in recorded_names()]
    assert not missing, f"record {missing}: see tests/tasks/compare/recorded.py"
