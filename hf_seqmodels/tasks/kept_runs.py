"""Comparisons of several trainings, each with a folder that says by which settings it was made and what came out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
        "hub_private_repo",
        "hub_strategy",
        "dataloader_num_workers",
    }
)


class Plan(Protocol):
    """One training of a comparison."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies it, for JSON."""
        ...


AnyPlan = TypeVar("AnyPlan", bound=Plan)
Run = TypeVar("Run")


def train_in_turn(plans: Sequence[AnyPlan], train: Callable[[AnyPlan, str], Run | None]) -> list[Run] | None:
    """Trains one plan after the other, once all of them are known to fit their folders.

    Args:
        train: plan and its number, such as "2 of 6" -> what came out; `None` if a signal stopped it.

    Returns:
        The runs; `None` if a signal stopped them early.

    Raises:
        ValueError: a folder was begun with other settings.
    """
    for plan in plans:
        check_settings(plan.folder, plan.settings)
    runs: list[Run] = []
    for number, plan in enumerate(plans, start=1):
        run = train(plan, f"{number} of {len(plans)}")
        if run is None:
            return None
        runs.append(run)
    return runs


def check_resume(args: EngineArguments) -> None:
    """Raises ValueError if one checkpoint is named, since there are several runs."""
    if args.resume_from_checkpoint not in (None, "auto"):
        raise ValueError(f"resume_from_checkpoint={args.resume_from_checkpoint!r}: there are several runs; use auto.")


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
