"""Words of the page and its figures, in each language: `texts/<language>/page.yaml` and one file for each claim."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from hf_seqmodels.tasks.recipes import nearest

Language = Literal["en", "ko"]
LANGUAGES: tuple[str, ...] = get_args(Language)
FOLDER = Path(__file__).parent / "texts"


class Words:
    """Texts by key, such as the labels of figures.

    Args:
        where: names their file in errors.
        texts: key -> text, whose placeholders are those of `str.format`.
    """

    def __init__(self, where: str, texts: Mapping[str, str]):
        self.where, self.texts = where, dict(texts)

    def __call__(self, key: str, **values: Any) -> str:
        """The text that is called `key`, its placeholders filled. A number is its own word.

        A value that is itself a key, such as a model's name, is put in words, too.

        Raises:
            ValueError: there is no such text, or no value for a placeholder.
        """
        if key in self.texts:
            return self.fill(self.texts[key], values)
        if _is_number(key):
            return key
        raise ValueError(f"{self.where}: no text {key!r}. {nearest(key, self.texts)}")

    def fill(self, text: str, values: Mapping[str, Any]) -> str:
        """Puts values in the places of their names.

        Raises:
            ValueError: one is missing, or does not fit its format.
        """
        worded = {
            name: self.texts.get(value, value) if isinstance(value, str) else value for name, value in values.items()
        }
        try:
            return text.format_map(worded)
        except KeyError as error:
            raise ValueError(f"{self.where}: no value for {{{error.args[0]}}} in {text!r}.") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.where}: {error} in {text!r}.") from error


@dataclass(frozen=True)
class ClaimTexts:
    """The words of one claim; `Claim` says what each is.

    Args:
        title, claim, how, short, holds, fails: texts with the verdict's numbers as placeholders.
        figures: name of a figure -> its caption.
        labels: the words in figures: the claim's own, and those that every claim knows.
    """

    title: str
    claim: str
    how: str
    short: str
    holds: str
    fails: str
    figures: dict[str, str]
    labels: Words


def page_words(language: str) -> Words:
    """The page's own texts.

    Raises:
        ValueError: there is no such language.
    """
    return Words(f"{language}/page.yaml", _read(language, "page")["words"])


def claim_texts(name: str, language: str) -> ClaimTexts:
    """The texts of a claim.

    Raises:
        ValueError: there is no such language, or its file has not the keys of a claim.
    """
    texts, where = _read(language, name), f"{language}/{name}.yaml"
    wanted = {field.name for field in fields(ClaimTexts)}
    if texts.keys() != wanted:
        raise ValueError(f"{where}: has {', '.join(sorted(texts))}; needs {', '.join(sorted(wanted))}.")
    common = _read(language, "page")["labels"]
    return ClaimTexts(**{**texts, "labels": Words(where, {**common, **texts["labels"]})})


def _read(language: str, name: str) -> dict[str, Any]:
    if language not in LANGUAGES:
        raise ValueError(f"lang={language!r}: choose one of {', '.join(LANGUAGES)}.")
    path = FOLDER / language / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of texts.")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["LANGUAGES", "ClaimTexts", "Language", "Words", "claim_texts", "page_words"]
