"""Checkpoint folders on disk: written aside and renamed, verified when read, rotated.

`checkpoint-000300/` appears complete or not at all: its files are written into a hidden folder beside it and flushed
to the disk, a manifest with their sizes and SHA-256 is added, and the folder is renamed.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path

from hf_seqmodels.training.errors import CheckpointError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_ASIDE = ".writing-"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_path(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return output_dir / f"checkpoint-{step:06d}"


def aside_path(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of `step` is while it is being written."""
    return aside_folder(checkpoint_path(output_dir, step))


def aside_folder(final: Path) -> Path:
    """Where a folder is while it is being written."""
    return final.with_name(f"{_ASIDE}{final.name}")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoints of `output_dir`, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=_step)


def remove_unfinished(output_dir: Path) -> None:
    """Removes what a killed save left behind."""
    for path in output_dir.glob(f"{_ASIDE}*"):
        logger.warning("Removing %s, which an interrupted save left behind.", path)
        shutil.rmtree(path)


def finish_checkpoint(aside: Path, final: Path) -> None:
    """Adds the manifest, flushes everything to the disk, and renames `aside` to `final`."""
    files = {
        str(path.relative_to(aside)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(aside.rglob("*"))
        if path.is_file()
    }
    (aside / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    _remove(final)
    aside.rename(final)
    _flush(final.parent)


def verify(path: Path) -> None:
    """Compares every file with the manifest.

    Raises:
        CheckpointError: naming the file that is missing, cut short, changed or foreign.
    """
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{path} has no {MANIFEST}: it is not a checkpoint of this engine.")
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{manifest} is not valid JSON: {error}.") from error
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing.")
        if file.stat().st_size != expected["bytes"]:
            raise CheckpointError(f"{file} has {file.stat().st_size} bytes instead of {expected['bytes']}.")
        if _sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file} is not the file that was saved (SHA-256 differs).")


def find_checkpoint(output_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from.

    Args:
        output_dir: where "auto" looks.
        wanted: "auto", the newest valid one (`None` if there is none), or the path of one.

    Raises:
        CheckpointError: the path that was asked for is not a valid checkpoint; or "auto" found only damaged ones.
    """
    if wanted != "auto":
        path = Path(wanted)
        if not path.is_dir():
            raise CheckpointError(f"resume_from_checkpoint={wanted!r} is not a folder.")
        verify(path)
        return path
    candidates = list_checkpoints(output_dir)
    for path in reversed(candidates):
        try:
            verify(path)
        except CheckpointError as error:
            logger.warning("Skipping %s: %s", path.name, error)
            continue
        return path
    if candidates:
        raise CheckpointError(f"Every checkpoint in {output_dir} is damaged; remove them to start anew.")
    return None


def rotate(output_dir: Path, newest: Path, limit: int | None) -> None:
    """Keeps `newest` and the `limit` - 1 before it.

    Later ones stay and don't count: they are damaged, or of a run that this one branched off from.
    """
    if limit is not None:
        upto = [path for path in list_checkpoints(output_dir) if _step(path) <= _step(newest)]
        for path in upto[:-limit]:
            _remove(path)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _remove(path: Path) -> None:
    """Takes a checkpoint out of sight before its files go, so that a kill leaves none that is half there."""
    if path.exists():
        hidden = path.with_name(f"{_ASIDE}removed-{path.name}")
        path.rename(hidden)
        shutil.rmtree(hidden)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
