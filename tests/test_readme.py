"""What the README says of the code is what the code is."""

import ast
import pkgutil
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from transformers.pipelines import PIPELINE_REGISTRY

import hf_seqmodels
from hf_seqmodels.models.model_card import paper_of
from hf_seqmodels.registry import ARCHITECTURES, Architecture
from hf_seqmodels.tasks import readme_tables

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BEFORE_CONTRIBUTING = TEXT.split("## Contributing")[0]


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every command that starts a script: the script's name and what follows it, without comments."""
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", TEXT)
    found = []
    for line in lines:
        if script := re.search(
            r"(?:scripts/|^(?=benchmark))(\w+\.py)(\s.*)?$", line.replace("…", "").split("   #")[0]
        ):
            found.append([script[1], *shlex.split(script[2] or "")])
    return found


def test_table_of_classes_is_the_registry() -> None:
    assert readme_tables.with_class_table(TEXT) == TEXT, "python scripts/readme_tables.py --write brings it up to date"


def test_the_table_has_every_class_with_its_pipeline() -> None:
    rows = re.findall(r"^\|.*\| `(\w+)` \| `(Auto\w+)` \| ([\w–-]+) \|$", readme_tables.class_table(), re.MULTILINE)
    models = {(model.__name__, auto) for a in ARCHITECTURES for auto, model in a.models.items()}
    processors = {(a.image_processor.__name__, "AutoImageProcessor") for a in ARCHITECTURES if a.image_processor}
    assert {row[:2] for row in rows} == models | processors and len(rows) == len(models) + len(processors)
    assert {task for _, _, task in rows} - {"–"} <= set(PIPELINE_REGISTRY.get_supported_tasks())
    assert [a.config.model_type for a in ARCHITECTURES if paper_of(a.config) is None] == []


def test_the_table_follows_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with one head less it is another table."""
    first, *others = ARCHITECTURES
    fewer = Architecture(first.config, {"AutoModel": first.models["AutoModel"]})
    monkeypatch.setattr(readme_tables, "ARCHITECTURES", (fewer, *others))
    assert readme_tables.with_class_table(TEXT) != TEXT


def test_markers_must_stand_there_once() -> None:
    for text in (TEXT.replace(readme_tables.START, ""), TEXT + readme_tables.END):
        with pytest.raises(ValueError, match=r"stands in the text [02] times; exactly once is expected"):
            readme_tables.with_class_table(text)


def test_files_that_commands_name_exist() -> None:
    named = re.findall(r"(?:scripts|tests)/[\w/]+\.(?:py|sh|yaml)", TEXT)
    named += re.findall(r'src="([^"]+)"', TEXT)
    assert named and [name for name in named if not (README.parent / name).is_file()] == []


def test_names_of_the_package_exist() -> None:
    names = set(re.findall(r"\bhf_seqmodels(?:\.[A-Za-z_]\w*)+", BEFORE_CONTRIBUTING))
    for code in blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and str(node.module).startswith("hf_seqmodels"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert names
    for name in names:
        assert pkgutil.resolve_name(name) is not None
    prefixes = "|".join(a.config.__name__.removesuffix("Config") for a in ARCHITECTURES)
    classes = set(re.findall(rf"`((?:{prefixes})\w+)`", BEFORE_CONTRIBUTING)) - {"Seq2SeqTrainer"}  # transformers'
    assert classes and classes <= set(hf_seqmodels.__all__)


def test_flags_of_commands_are_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Each script's own `--help` names them."""
    wanted: dict[tuple[str, ...], set[str]] = {}
    for script, *arguments in commands():
        subcommand = tuple(arguments[:1]) if script == "benchmark.py" else ()
        flags = {argument for argument in arguments if argument.startswith("--")}
        wanted.setdefault((script, *subcommand), set()).update(flags)
    assert len(wanted) > 10
    for (script, *subcommand), flags in wanted.items():
        monkeypatch.setattr(sys, "argv", [script, *subcommand, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(README.parent / "scripts" / script), run_name="__main__")
        assert ended.value.code == 0
        known = set(re.findall(r"--\w+", capsys.readouterr().out))
        assert flags <= known, (script, flags - known)


def test_links_within_it_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links and [link for link in links if link not in anchors] == []


def test_tables_have_as_many_cells_in_every_row() -> None:
    """A row that an empty line or a stray bar has cut off is no row of its table."""
    outside = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\|$\n)+", outside, re.MULTILINE):
        rows = table.splitlines()
        assert re.fullmatch(r"(\|-+)+\|", rows[1]), rows[0]
        assert len({row.count("|") for row in rows}) == 1, rows[0]
