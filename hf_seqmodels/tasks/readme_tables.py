"""The README's table of architectures, classes, Auto classes and pipelines: the registry, printed."""

import argparse
from pathlib import Path

from hf_seqmodels.registry import ARCHITECTURES, Architecture, pipeline_of

START, END = "<!-- classes: start (scripts/readme_tables.py) -->", "<!-- classes: end -->"

# model_type -> the papers that an architecture comes from.
PAPERS = {
    "rnn": "[Elman 1990](https://doi.org/10.1207/s15516709cog1402_1)",
    "lstm": "[Hochreiter & Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735)",
    "gru": "[Cho et al. 2014](https://arxiv.org/abs/1406.1078)",
    "seq2seq": "[Sutskever et al. 2014](https://arxiv.org/abs/1409.3215)",
    "attention_seq2seq": "[Bahdanau et al. 2015](https://arxiv.org/abs/1409.0473), "
    "[Luong et al. 2015](https://arxiv.org/abs/1508.04025)",
    "vanilla_transformer": "[Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)",
    "seq_bert": "[Devlin et al. 2018](https://arxiv.org/abs/1810.04805)",
    "seq_vit": "[Dosovitskiy et al. 2020](https://arxiv.org/abs/2010.11929)",
}


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
    return f"{before}{START}\n{class_table()}\n{END}{after}"


def _title(architecture: Architecture) -> str:
    name, paper = architecture.config.__name__.removesuffix("Config"), PAPERS.get(architecture.config.model_type)
    return f"**{name}**" + (f" ({paper})" if paper else "")


def _rows(architecture: Architecture) -> list[tuple[str, str, str]]:
    rows = [
        (f"`{model.__name__}`", f"`{auto_class}`", pipeline_of(architecture, auto_class) or "–")
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
