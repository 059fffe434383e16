"""The embedded translation task: dates of many locales, their ISO form, and which characters say what."""

import datetime

import pytest
from babel.dates import format_date

from hf_seqmodels.data.dates import (
    DEFAULT_LOCALES,
    FIRST_DATE,
    LAST_DATE,
    SPLITS,
    date_formats,
    date_pairs,
    target_origins,
)

DATE = datetime.date(2021, 3, 4)


def test_examples_are_pure_functions_of_seed_and_index() -> None:
    pairs = date_pairs(300, seed=1)
    assert date_pairs(100, seed=1).to_dict() == pairs.select(range(100)).to_dict()
    assert date_pairs(100, seed=2).to_dict() != pairs.select(range(100)).to_dict()
    assert set(pairs["locale"]) == set(DEFAULT_LOCALES)


def test_no_date_is_in_two_splits() -> None:
    found = {split: set(date_pairs(2000, seed, split=split)["target"]) for seed, split in enumerate(SPLITS)}
    assert not found["train"] & found["validation"] and not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert all(FIRST_DATE <= datetime.date.fromisoformat(date) <= LAST_DATE for date in found["train"])
    # Negative control: two seeds of one split do share dates.
    assert found["validation"] & set(date_pairs(2000, seed=7, split="validation")["target"])


@pytest.mark.parametrize("name", DEFAULT_LOCALES)
def test_formats_write_what_babel_writes(name: str) -> None:
    written = {form.write(DATE)[0] for form in date_formats([name])[name]}
    for style in ("full", "long"):
        assert format_date(DATE, style, locale=name) in written


def test_spans_are_where_the_parts_are() -> None:
    for pair in date_pairs(1000, seed=0):
        year, month, day = pair["target"].split("-")
        source = pair["source"]
        start, end = pair["year_span"]
        assert source[start:end] == year
        start, end = pair["day_span"]
        assert int(source[start:end]) == int(day)
        start, end = pair["month_span"]
        said = source[start:end]
        assert int(said) == int(month) if said.isdecimal() else any(character.isalpha() for character in said)
    (korean,) = {form.write(DATE)[0]: form.write(DATE)[1] for form in date_formats(["ko"])["ko"][:1]}.items()
    assert korean == ("2021년 3월 4일 목요일", {"year": (0, 4), "month": (6, 8), "day": (9, 10), "weekday": (12, 15)})


def test_each_character_of_a_target_comes_from_its_part() -> None:
    pair = {"target": "2021-03-14", "year_span": (9, 13), "month_span": (3, 8), "day_span": (0, 2)}
    assert target_origins(pair, "year") == [(9, 13)] * 4 + [None] * 6
    assert target_origins(pair, "month") == [None] * 6 + [(3, 8)] + [None] * 3  # its leading zero comes from nowhere
    assert target_origins(pair, "day") == [None] * 8 + [(0, 2)] * 2


def test_formats_that_two_locales_read_differently_are_left_out() -> None:
    alone = {form.write(DATE)[0] for form in date_formats(["en_GB"])["en_GB"]}
    both = date_formats(["en_GB", "en"])
    together = {name: {form.write(DATE)[0] for form in formats} for name, formats in both.items()}
    assert "04/03/2021" in alone
    assert "04/03/2021" not in together["en_GB"] and "3/4/2021" not in together["en"]
    assert {"4 March 2021"} < together["en_GB"] and {"March 4, 2021"} < together["en"]
    # Years of two digits are out in any case; who puts a whole year first is understood beside who puts it last.
    assert "3/4/21" not in {form.write(DATE)[0] for form in date_formats(["en"])["en"]}
    assert "2021/03/04" in {form.write(DATE)[0] for form in date_formats(["en_GB", "en", "ja"])["ja"]}


def test_no_text_means_two_dates() -> None:
    """Every format of every locale, a date of each month with day and month unequal: one text, one date."""
    dates = [datetime.date(2021, month, day) for month in range(1, 13) for day in (1, 2, 5, 11, 12, 28)]
    meant: dict[str, datetime.date] = {}
    for formats in date_formats(DEFAULT_LOCALES).values():
        for form in formats:
            for date in dates:
                assert meant.setdefault(form.write(date)[0], date) == date


@pytest.mark.parametrize(("name", "similar"), [("korean", "ko"), ("kr", "ko_KR"), ("de_XY", "de")])
def test_unknown_locale(name: str, similar: str) -> None:
    with pytest.raises(ValueError, match=rf"none that is called '{name}'; similar are .*\b{similar}\b"):
        date_pairs(1, 0, locales=[name])


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="num_examples=0 must be at least 1"):
        date_pairs(0, 0)
    with pytest.raises(ValueError, match="at least one"):
        date_pairs(1, 0, locales=())
    with pytest.raises(ValueError, match="split='dev' must be one of train, validation, test"):
        date_pairs(1, 0, split="dev")
