"""The README's table of architectures, classes, Auto classes and pipelines: the registry, printed."""

import argparse
from pathlib import Path

from hf_seqmodels.models.model_card import paper_of, pipeline_tag_of
from hf_seqmodels.registry import ARCHITECTURES, Architecture

START, END = "<!-- classes: start (scripts/readme_tables.py) -->", "<!-- classes: end -->"


def class_table() -> str:
    """Markdown: one row for each class that an Auto class gives, in the registry's order."""
    lines = ["| architecture | class | Auto class | `pipeline()` |", "|---|---|---|---|"]
    for architecture in ARCHITECTURES:
        for number, cells in enumerate(_rows(architecture)):
            lines.append(f"| {'' if number else _title(architecture)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_class_table(text: str) -> str:
    """`text` with what stands between the markers `START` and `END` replaced by the table.

    Raises:
        ValueError: a marker is missing or stands there twice.
    """
    for marker in (START, END):
        if text.count(marker) != 1:
            raise ValueError(f"{marker} stands in the text {text.count(marker)} times; exactly once is expected.")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{class_table()}\n\n{END}{after}"


def _title(architecture: Architecture) -> str:
    name, paper = architecture.config.__name__.removesuffix("Config"), paper_of(architecture.config)
    return f"**{name}**" + ("" if paper is None else f" ([{paper[0]}]({paper[1]}))")


def _rows(architecture: Architecture) -> list[tuple[str, str, str]]:
    rows = [
        (f"`{model.__name__}`", f"`{auto_class}`", pipeline_tag_of(model) or "–")
        for auto_class, model in architecture.models.items()
    ]
    if architecture.image_processor is not None:
        rows.append((f"`{architecture.image_processor.__name__}`", "`AutoImageProcessor`", "–"))
    return rows


def main(readme: Path) -> None:
    """Prints the table; with `--write` on the command line it goes into `readme` instead."""
    parser = argparse.ArgumentParser(description="Prints the README's table of classes, which is the registry.")
    parser.add_argument("--write", action="store_true", help="put it between the README's markers")
    if parser.parse_args().write:
        readme.write_text(with_class_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(class_table())
