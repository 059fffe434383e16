"""On which machine the cells of a report were measured, and when."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

import hf_seqmodels
from hf_seqmodels.tasks.kept_runs import write_json

Machine = dict[str, str | int | None]


def this_machine() -> Machine:
    """Processor, cores, GPU (None without one), system, and versions of what measures."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "hf_seqmodels": hf_seqmodels.__version__,
    }


class Sessions:
    """The machines that a budget's cells were measured on, in `<folder>/cells/<budget>.json`.

    Args:
        folder: of the report.
        budget: of the run.
    """

    def __init__(self, folder: Path, budget: str):
        self.path = folder / "cells" / f"{budget}.json"

    def note(self, machine: Machine) -> None:
        """Adds a session that begins now; to be called before something is measured."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path, [*self._read(), {"start": now, "machine": machine}])

    def machines(self) -> list[Machine]:
        """Each once."""
        found: list[Machine] = []
        for session in self._read():
            if session["machine"] not in found:
                found.append(session["machine"])
        return found

    def days(self) -> list[str]:
        """On which something was measured: ISO dates (UTC), each once."""
        return list(dict.fromkeys(session["start"][:10] for session in self._read()))

    def _read(self) -> list[dict]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else []


def _processor() -> str:
    """The name of the CPU; `platform` knows it on some systems only."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


__all__ = ["Machine", "Sessions", "this_machine"]
