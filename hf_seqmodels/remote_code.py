"""The code that goes with a checkpoint, so that it loads where this package is not installed (`trust_remote_code`)."""

import ast
import importlib
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.dynamic_module_utils import get_relative_imports
from transformers.utils import logging

logger = logging.get_logger(__name__)

_PACKAGE = __name__.split(".")[0]
_MODELS = f"{_PACKAGE}.models"
_FOLDER = Path(__file__).parent / "models"
_AUTO_CLASSES = [
    name for name in dir(transformers.models.auto.modeling_auto) if name.startswith("Auto") and name != "AutoConfig"
]


def write_code(config: PreTrainedConfig, folder: str | os.PathLike) -> dict[str, str]:
    """Writes the files of a configuration and of every head that an Auto class has for it, and what they import.

    The files of a user's subclass are there already (transformers copies them); their imports from this package are
    made imports from the files beside them.

    Args:
        config: of this package, or of a subclass.
        folder: of the checkpoint.

    Returns:
        The `auto_map` for config.json: Auto class -> `module.Class`.

    Raises:
        ValueError: a user's file is named like one of this package, which would take its place.
    """
    references = _users_references(config, folder)
    heads = {"AutoConfig": type(config), **_heads(type(config))}
    known = {auto_class: cls for auto_class, cls in heads.items() if cls.__module__ != "__main__"}
    _copy_with_siblings([Path(str(sys.modules[cls.__module__].__file__)) for cls in known.values()], Path(folder))
    for auto_class, cls in known.items():
        references.setdefault(auto_class, _reference(cls))
    for file in sorted(Path(folder).glob("*.py")):
        if not _is_ours(file.stem):
            _localise(file)
    return references


def _heads(config_class: type[PreTrainedConfig]) -> dict[str, type]:
    mappings = ((name, getattr(transformers, name, None)) for name in _AUTO_CLASSES)
    models = ((name, getattr(auto, "_model_mapping", None)) for name, auto in mappings)
    # Not `if mapping`: its truth value imports every model of transformers, which takes ten seconds.
    return {name: mapping[config_class] for name, mapping in models if mapping is not None and config_class in mapping}


def _users_references(config: PreTrainedConfig, folder: str | os.PathLike) -> dict[str, str]:
    """What transformers noted while it copied a user's subclass: entries whose file is here and not one of ours."""
    kept = {}
    for auto_class, reference in (getattr(config, "auto_map", None) or {}).items():
        module, _, name = reference.partition(".")
        if _is_ours(module):
            if not hasattr(importlib.import_module(f"{_MODELS}.{module}"), name):
                raise ValueError(
                    f"{name} is defined in a file called {module}.py, as a file of {_PACKAGE} is. Both have to lie in "
                    "one folder beside the weights: rename yours."
                )
        elif (Path(folder) / f"{module}.py").is_file():
            kept[auto_class] = reference
    return kept


def _reference(cls: type) -> str:
    return f"{cls.__module__.split('.')[-1]}.{cls.__name__}"


def _is_ours(module: str) -> bool:
    return (_FOLDER / f"{module}.py").is_file()


def _copy_with_siblings(files: Iterable[Path], folder: Path) -> None:
    """Copies files and what they import from their own folders, each once."""
    due, copied = list(files), set[Path]()
    while due:
        file = due.pop()
        if file not in copied:
            copied.add(file)
            shutil.copyfile(file, folder / file.name)
            due += [file.parent / f"{name}.py" for name in get_relative_imports(file)]


def _localise(file: Path) -> None:
    """Makes `from hf_seqmodels… import …` in a user's file an import from the file beside it, which is copied."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(imports, key=lambda node: node.lineno, reverse=True):
        try:
            modules = _modules_of(node)
        except ValueError as error:
            logger.warning(
                f"{file.name}, line {node.lineno}: {error} The checkpoint loads only where {_PACKAGE} is installed."
            )
            continue
        if not modules:
            continue
        _copy_with_siblings([_FOLDER / f"{module}.py" for module in modules], file.parent)
        statements = [f"from .{module} import {', '.join(names)}" for module, names in modules.items()]
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before = lines[first][: node.col_offset]
        lines[first : last + 1] = [before + f"\n{before}".join(statements) + lines[last][node.end_col_offset :]]
    localised = "".join(lines)
    if localised != source:
        file.write_text(localised, encoding="utf-8")


def _modules_of(node: ast.Import | ast.ImportFrom) -> dict[str, list[str]]:
    """What an import takes from this package: name of a file that travels -> names, with their aliases.

    Raises:
        ValueError: it takes something that does not travel.
    """
    if isinstance(node, ast.Import):
        if any(alias.name.split(".")[0] == _PACKAGE for alias in node.names):
            raise ValueError(f"`import {_PACKAGE}` cannot travel; `from {_PACKAGE} import …` can.")
        return {}
    if node.level or (node.module or "").split(".")[0] != _PACKAGE:
        return {}
    origin = str(node.module)
    source: Any = importlib.import_module(origin)
    modules = defaultdict(list)
    for alias in node.names:
        is_file = origin.startswith(f"{_MODELS}.")
        module: str = origin if is_file else getattr(getattr(source, alias.name, None), "__module__", "")
        if not module.startswith(f"{_MODELS}."):
            raise ValueError(f"{alias.name} of {origin} is no part of a model, and does not travel.")
        renamed = f" as {alias.asname}" if alias.asname else ""
        modules[module.removeprefix(f"{_MODELS}.")].append(alias.name + renamed)
    return modules


__all__ = ["write_code"]
