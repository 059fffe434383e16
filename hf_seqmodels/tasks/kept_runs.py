"""Comparisons of several trainings, each with a folder that says by which settings it was made and what came out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_seqmodels.training import EngineArguments

RESULT, SETTINGS = "result.json", "settings.json"

# Where a run writes, how it reports and where it goes on: nothing that makes it another run.
_NO_SETTINGS = frozenset(
    {
        "output_dir",
        "save_steps",
        "save_total_limit",
        "resume_from_checkpoint",
        "report_to",
        "disable_tqdm",
        "push_to_hub",
        "hub_model_id",
        "dataloader_num_workers",
    }
)


def engine_settings(args: EngineArguments) -> dict[str, Any]:
    """What of the engine's arguments identifies a run."""
    return {f"training.{name}": value for name, value in asdict(args).items() if name not in _NO_SETTINGS}


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Compares `settings` with those that `folder` was begun with, if it was.

    Raises:
        ValueError: they differ; the first that does is named.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return
    saved, own = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    for name in sorted(set(saved) | set(own)):
        if saved.get(name) != own.get(name):
            raise ValueError(
                f"{folder} was begun with {name}={saved.get(name)!r}, not {own.get(name)!r}: choose another "
                "output_dir, or the same settings."
            )


def write_json(path: Path, values: Any) -> None:
    """Whole or not at all: a kill leaves no half file that the next start would trip over."""
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(values, indent=1), encoding="utf-8")
    aside.replace(path)
