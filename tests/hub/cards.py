"""What the Hub checks of a README.md's metadata before it takes a commit.

After https://huggingface.co/docs/hub/model-cards and its specification (docs of hub-docs, modelcard.md): the block
between the first two `---` is a YAML mapping; `license` is an identifier of the Hub's list; `model-index` holds models
with results, each with task, dataset and metrics.
"""

import re
from typing import Any

import yaml

_BLOCK = re.compile(r"\A\s*---\r?\n(?P<yaml>.*?)\r?\n---(?:\r?\n|\Z)", re.DOTALL)
# Part of the Hub's list: those that a test may meet, and a few neighbours.
LICENSES = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-4.0", "openrail", "afl-3.0", "mpl-2.0", "unlicense", "other", "unknown"}
)
_LISTS = ("tags", "datasets", "metrics", "language")


def card_metadata(text: str) -> dict[str, Any]:
    """The metadata of a valid card; empty if it has none."""
    block = _BLOCK.match(text)
    return (yaml.safe_load(block["yaml"]) or {}) if block else {}


def validate_card(text: str) -> list[str]:
    """What is wrong with a card's metadata, in words; nothing if it is fine."""
    block = _BLOCK.match(text)
    if block is None:
        return []  # the Hub warns of missing metadata only
    try:
        metadata = yaml.safe_load(block["yaml"])
    except yaml.YAMLError as error:
        return [f"The metadata is not YAML: {error}"]
    if metadata is None:
        return []
    if not isinstance(metadata, dict):
        return ["The metadata must be a mapping."]
    errors = []
    license = metadata.get("license")
    for name in license if isinstance(license, list) else [license]:
        if name is not None and name not in LICENSES:
            errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}], not {name!r}')
    for name in ("library_name", "pipeline_tag", "license_name", "license_link"):
        if not isinstance(metadata.get(name, ""), str):
            errors.append(f'"{name}" must be a string')
    for name in _LISTS:
        values = metadata.get(name, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            errors.append(f'"{name}" must be a list of strings')
    if "model-index" in metadata:
        errors += _index_errors(metadata["model-index"])
    return errors


def _index_errors(index: Any) -> list[str]:
    if not isinstance(index, list):
        return ['"model-index" must be a list']
    errors = []
    for place, model in enumerate(index):
        where = f'"model-index[{place}]'
        if not isinstance(model, dict) or not isinstance(model.get("name"), str) or not model["name"]:
            errors.append(f'{where}.name" is required')
            continue
        results = model.get("results")
        if not isinstance(results, list):
            errors.append(f'{where}.results" must be a list')
            continue
        for number, result in enumerate(results):
            errors += _result_errors(f"{where}.results[{number}]", result)
    return errors


def _result_errors(where: str, result: Any) -> list[str]:
    if not isinstance(result, dict):
        return [f'{where}" must be a mapping']
    errors = []
    for part, required in {"task": ("type",), "dataset": ("type", "name")}.items():
        for name in required:
            if not isinstance(result.get(part), dict) or not isinstance(result[part].get(name), str):
                errors.append(f'{where}.{part}.{name}" is required')
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*errors, f'{where}.metrics" must be a list with something in it']
    for place, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str):
            errors.append(f'{where}.metrics[{place}].type" is required')
        elif metric.get("value") is None:
            errors.append(f'{where}.metrics[{place}].value" is required')
    return errors
