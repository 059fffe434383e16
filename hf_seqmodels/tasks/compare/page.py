"""The page: one HTML file with its figures and its style in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .claim import num_seeds
from .configuration import parameters_of, seeds_of, settings_of
from .results import Result, Run, computing_seconds
from .svg import Panel, page_style, svg_panels
from .texts import ClaimTexts, Words, claim_texts, page_words

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class _Figure:
    """A figure of the page: its id, its panels and what is written below them."""

    id: str
    number: int
    caption: str
    panels: list[Panel]


@dataclass(frozen=True)
class _Section:
    """A claim, in words."""

    name: str
    number: int
    title: str
    claim: str
    how: str
    short: str
    holds: bool
    verdict: str
    figures: list[_Figure]
    configuration: list[str]
    settings: list[tuple[str, str]]
    numbers: list[tuple[str, str]]
    cells: list[tuple[str, str]]


def render(results: Sequence[Result], run: Run, language: str) -> str:
    """The page in a language, as HTML that needs nothing beside itself.

    Args:
        results: of the claims, in the order of the page.
        run: how they came about.
        language: of `texts.LANGUAGES`.

    Raises:
        ValueError: texts and results don't fit: a word, a number or a caption is missing.
    """
    words = page_words(language)
    sections: list[_Section] = []
    for result in results:
        num_figures = sum(len(section.figures) for section in sections)
        sections.append(_section(result, claim_texts(result.claim.name, language), words, len(sections), num_figures))
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        language=language,
        words=words,
        css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        sections=sections,
        facts=_facts(results, run, words),
        num_held=sum(section.holds for section in sections),
        markup=Markup,
    )


def _section(result: Result, texts: ClaimTexts, words: Words, num_before: int, num_figures: int) -> _Section:
    name, verdict = result.claim.name, result.verdict
    fill = {
        key: texts.labels.fill(getattr(texts, key), verdict.numbers)
        for key in ("title", "claim", "how", "short", "holds", "fails")
        if key not in ("holds", "fails") or (key == "holds") == verdict.holds
    }
    with page_style():
        drawn = result.claim.draw(result.rows, texts.labels)
        if drawn.keys() != texts.figures.keys():
            raise ValueError(f"{texts.labels.where}: captions of {list(texts.figures)}; figures are {list(drawn)}.")
        figures = []
        for number, (key, figure) in enumerate(drawn.items(), start=num_figures + 1):
            caption = texts.labels.fill(texts.figures[key], verdict.numbers)
            figures.append(_Figure(f"{name}-{key}", number, caption, svg_panels(figure, f"{name}-{key}", caption)))
    return _Section(
        name=name,
        number=num_before + 1,
        title=fill["title"],
        claim=fill["claim"],
        how=fill["how"],
        short=fill["short"],
        holds=verdict.holds,
        verdict=fill["holds" if verdict.holds else "fails"],
        figures=figures,
        configuration=_configuration(result, texts.labels, words),
        settings=settings_of(result.cells),
        numbers=[(key, _number(value, texts.labels)) for key, value in verdict.numbers.items()],
        cells=[(cell.name, _duration(result.seconds[cell.name], words)) for cell in result.cells],
    )


def _configuration(result: Result, labels: Words, words: Words) -> list[str]:
    """What every figure of a claim has in common, in short: seeds and bars, and the sizes of models."""
    seeds = seeds_of(result.cells, result.rows)
    key = {0: "none", 1: "one"}.get(seeds, "many")
    lines = [words(f"config_seeds_{key}", seeds=seeds)]
    if sizes := parameters_of(result.rows):
        shown = ", ".join(f"{labels(model)} {size}" if model else size for model, size in sizes.items())
        lines.append(words("config_parameters", parameters=shown))
    return lines


def _facts(results: Sequence[Result], run: Run, words: Words) -> list[tuple[str, str]]:
    num_cells = len({name for result in results for name in result.seconds})
    duration = _duration(computing_seconds(results), words)
    facts = [
        (words("budget"), words("budget_value", budget=run.budget, seeds=num_seeds(run.budget))),
        (words("computing_time"), words("computing_time_value", duration=duration, cells=num_cells)),
        (words("date"), ", ".join(run.days)),
    ]
    for machine in run.machines:
        libraries = ", ".join(
            f"{name} {machine[key]}"
            for name, key in (
                ("Python", "python"),
                ("PyTorch", "torch"),
                ("transformers", "transformers"),
                ("hf_seqmodels", "hf_seqmodels"),
            )
        )
        facts += [
            (words("processor"), words("processor_value", name=machine["processor"], cores=machine["cores"])),
            (words("graphics"), str(machine["gpu"] or words("no_graphics"))),
            (words("versions"), f"{libraries}, {machine['system']}"),
        ]
    return facts + [(words("command"), run.command)]


def _duration(seconds: float, words: Words) -> str:
    if seconds < 60:
        return words("seconds", seconds=seconds)
    minutes = int(seconds) // 60
    if minutes < 60:
        return words("minutes", minutes=minutes, seconds=int(seconds) % 60)
    return words("hours", hours=minutes // 60, minutes=minutes % 60)


def _number(value: Any, labels: Words) -> str:
    if isinstance(value, bool | str):
        return labels.texts.get(str(value), str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


__all__ = ["render"]
