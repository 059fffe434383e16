"""The translation task that needs no files: dates as people write them, in many languages, to ISO 8601.

How each locale writes dates is CLDR's (by Babel). Which characters of the source say year, month and day is known, so
that what a model attends to can be compared with what it should.
"""

import datetime
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
from babel import Locale, UnknownLocaleError
from babel.dates import DateTimeFormat
from babel.localedata import locale_identifiers
from datasets import Dataset, Features, List, Value

from .random import generator
from .streams import Streams

# fmt: off
DEFAULT_LOCALES = (
    "en", "en_GB", "de", "fr", "es", "pt", "it", "nl", "sv", "da", "nb", "fi", "pl", "cs", "hu", "ro",
    "el", "ru", "uk", "tr", "vi", "id", "ko", "ja", "zh",
)
# fmt: on
SPLITS = ("train", "validation", "test")
# What a target says, and where in it.
TARGET_PLACES = {"year": range(0, 4), "month": range(5, 7), "day": range(8, 10)}
FIRST_DATE, LAST_DATE = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
HELD_OUT_SHARE = 0.1

_STYLES = ("full", "long", "medium", "short")
_SKELETONS = ("yMd", "yMEd", "yMMMd", "yMMMEd", "yMMMMd", "yMMMMEd")
_FIELD = re.compile(r"%\((\w+)\)s")
# The first letter of a field of CLDR (UTS 35, part 4, "Date Field Symbol Table") and what it stands for.
_PARTS = {"y": "year", "M": "month", "L": "month", "d": "day", "E": "weekday", "c": "weekday"}
# What a number or a weekday looks like to a reader: a whole year is known from a day or month by its four digits.
_LOOKS = {"year": "0000", "month": "0", "day": "0", "weekday": "W"}
_SPAN = List(Value("int32"), length=2)
DATE_FEATURES = Features(
    {
        "source": Value("string"),
        "target": Value("string"),
        "locale": Value("string"),
        "year_span": _SPAN,
        "month_span": _SPAN,
        "day_span": _SPAN,
    }
)


@dataclass(frozen=True)
class DateFormat:
    """A way of writing dates.

    Args:
        locale: whose.
        pieces: literal texts and CLDR's fields in turn, a literal first and last.
    """

    locale: Locale
    pieces: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Such as ("EEEE", "d", "MMMM", "y")."""
        return self.pieces[1::2]

    def write(self, date: datetime.date) -> tuple[str, dict[str, tuple[int, int]]]:
        """The date's text, and the span `[start, end)` in it of each part, by "year", "month", "day" or "weekday"."""
        values = DateTimeFormat(date, self.locale)
        text, spans = "", {}
        for place, piece in enumerate(self.pieces):
            is_field = place % 2 == 1
            start = len(text)
            text += values[piece] if is_field else piece
            if is_field:
                spans[_PARTS[piece[0]]] = (start, len(text))
        return text, spans


def date_pairs(
    num_examples: int, seed: int, locales: Sequence[str] = DEFAULT_LOCALES, split: str = "train"
) -> Dataset:
    """Dates in words and numbers, and the same as `YYYY-MM-DD`.

    Each example is a pure function of (seed, split, index): locale, format and date (1900 to 2099) are drawn evenly.
    No date is in two splits, whatever their seeds. Formats that don't tell the date are left out, see `date_formats`.

    Args:
        num_examples: how many; fewer are the first of more.
        seed: names the draw.
        locales: names of CLDR's locales, such as "ko" or "pt_BR".
        split: "train" (8 in 10 dates), "validation" or "test" (1 in 10 each).

    Returns:
        Columns `source`, `target`, `locale`, and `year_span`, `month_span`, `day_span`: `[start, end)` in characters
        of the source. (`TARGET_PLACES` says where they are in the target.)

    Raises:
        ValueError: `num_examples` below 1, no or an unknown locale (similar ones are named), one without a clear
            format, or an unknown split.
    """
    if num_examples < 1:
        raise ValueError(f"num_examples={num_examples} must be at least 1.")
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}.")
    formats = list(date_formats(locales).items())
    dates = _dates_of(split)
    streams = Streams(seed, f"dates/{split}")
    rows: dict[str, list[Any]] = {name: [] for name in DATE_FEATURES}
    for index in range(num_examples):
        rng = streams.at(index, 0, 0)
        locale, written = formats[rng.integers(len(formats))]
        date = datetime.date.fromordinal(int(dates[rng.integers(len(dates))]))
        text, spans = written[rng.integers(len(written))].write(date)
        rows["source"].append(text)
        rows["target"].append(date.isoformat())
        rows["locale"].append(locale)
        for part in TARGET_PLACES:
            rows[f"{part}_span"].append(spans[part])
    return Dataset.from_dict(rows, features=DATE_FEATURES)


def target_origins(pair: Mapping[str, Any], part: str) -> list[tuple[int, int] | None]:
    """Where each character of a target comes from.

    Args:
        pair: a row of `date_pairs`.
        part: "year", "month" or "day"; the characters of the others are left out.

    Returns:
        For each character of the target `[start, end)` in characters of the source; `None` for those left out, and for
        leading zeros, which come from nowhere.
    """
    target, places = pair["target"], TARGET_PLACES[part]
    start, end = pair[f"{part}_span"]
    from_nowhere = part != "year" and target[places[0]] == "0"
    return [
        (start, end) if place in places and not (from_nowhere and place == places[0]) else None
        for place in range(len(target))
    ]


@lru_cache(maxsize=1)
def _dates_of_splits() -> dict[str, np.ndarray]:
    """Ordinals of the dates of each split. No seed: training and evaluation may have different ones."""
    ordinals = generator(0, "date splits").permutation(np.arange(FIRST_DATE.toordinal(), LAST_DATE.toordinal() + 1))
    held_out = int(len(ordinals) * HELD_OUT_SHARE)
    validation, test, train = np.split(ordinals, [held_out, 2 * held_out])
    return {"train": train, "validation": validation, "test": test}


def _dates_of(split: str) -> np.ndarray:
    return _dates_of_splits()[split]


def date_formats(locales: Sequence[str]) -> dict[str, list[DateFormat]]:
    """How each locale writes whole dates, as far as the text alone tells the date.

    Left out are formats with a year of two digits, and those that two of the locales would read differently: 3/4/2020
    if one of them puts the month first and another the day, or a month's short name that is two months'.

    Raises:
        ValueError: no or an unknown locale, or one that has no format left.
    """
    if not locales:
        raise ValueError("locales=() must name at least one.")
    candidates = {name: _candidates(_parse(name)) for name in locales}
    meanings = defaultdict(set)
    readings = {form: list(_readings(form)) for formats in candidates.values() for form in formats}
    for text, meaning in (reading for readings_of_one in readings.values() for reading in readings_of_one):
        meanings[text].add(meaning)
    clear = {
        name: [form for form in formats if all(len(meanings[text]) == 1 for text, _ in readings[form])]
        for name, formats in candidates.items()
    }
    without = [name for name, formats in clear.items() if not formats]
    if without:
        raise ValueError(f"locales={tuple(locales)}: of {without[0]!r} no format is left that tells the date clearly.")
    return clear


def _parse(name: str) -> Locale:
    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(
            f"locales: CLDR has none that is called {name!r}; similar are {', '.join(_similar(name))}."
        ) from error


def _similar(name: str) -> list[str]:
    """Locales by language ("de_XY"), by English name ("korean"), by country ("kr") and by similar code."""
    known = sorted(locale_identifiers())
    by_name = {english.lower(): code for code, english in Locale("en").languages.items() if code in known}
    language = re.split("[-_]", name)[0].lower()
    found = [
        *([language] if language in known else []),
        *(by_name[english] for english in get_close_matches(name.lower(), by_name, 2)),
        *(code for code in known if code.endswith(f"_{name.upper()}")),
        *get_close_matches(name, known, 3, 0),
    ]
    return list(dict.fromkeys(found))[:4]


def _candidates(locale: Locale) -> list[DateFormat]:
    """The locale's different formats with a whole year."""
    patterns = [locale.date_formats[style] for style in _STYLES]
    skeletons = locale.datetime_skeletons
    patterns += [skeletons[name] for name in _SKELETONS if name in skeletons]
    formats = dict.fromkeys(DateFormat(locale, tuple(_FIELD.split(str(pattern.format)))) for pattern in patterns)
    return [form for form in formats if set(form.fields) & {"y", "yyyy"} and all(f[0] in _PARTS for f in form.fields)]


def _readings(form: DateFormat) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What a text in this format looks like, numbers and weekdays aside, and what it then says, for each month.

    It says in which order the parts come and, where the month has a name, which month it is.
    """
    order = tuple(_PARTS[field[0]] for field in form.fields if _PARTS[field[0]] != "weekday")
    for month in range(1, 13):
        values = DateTimeFormat(datetime.date(2000, month, 1), form.locale)
        named = not all(values[field].isdecimal() for field in form.fields if _PARTS[field[0]] == "month")
        looks = list(form.pieces)
        for place, field in enumerate(form.fields):
            part = _PARTS[field[0]]
            looks[2 * place + 1] = values[field] if part == "month" and named else _LOOKS[part]
        yield "".join(looks), (order, month if named else None)
