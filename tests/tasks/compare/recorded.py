"""Rows that a quick run measured, for tests of words and figures: `recorded/<claim>.json`.

A claim whose rows have changed is recorded again, from a report of it (without a name: all of them):

    python scripts/compare.py --out report --claims gates && python -m tests.tasks.compare.recorded report gates
"""

import json
import sys
from pathlib import Path

from hf_seqmodels.tasks.compare.claims import CLAIMS, load_claim
from hf_seqmodels.tasks.compare.results import Result, Run
from hf_seqmodels.tasks.compare.store import Store

FOLDER = Path(__file__).parent / "recorded"
RUN = Run(
    "quick",
    "python scripts/compare.py --out report --budget quick --lang en",
    [
        {
            **{"processor": "A processor", "cores": 2, "gpu": None, "system": "Linux 6"},
            **{"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "hf_seqmodels": "0.1.0"},
        }
    ],
    ["2026-11-25"],
)


def recorded_names() -> list[str]:
    """The claims that have rows here, in the order of the page."""
    return [name for name in CLAIMS if (FOLDER / f"{name}.json").is_file()]


def recorded_result(name: str) -> Result:
    """A claim with its recorded rows, judged now."""
    saved = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    claim = load_claim(name)
    cells = [cell for cell in claim.cells("quick") if cell.name in saved["seconds"]]
    return Result(claim, cells, saved["seconds"], saved["rows"], claim.judge(saved["rows"]))


def record(report: Path, name: str) -> None:
    """Keeps the rows of a report's claim."""
    claim, store = load_claim(name), Store(report, "quick")
    cells = claim.cells("quick")
    values = {
        "seconds": {cell.name: round(store.seconds(cell), 1) for cell in cells},
        "rows": [row for cell in cells for row in store.read(cell)],
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for _name in sys.argv[2:] or CLAIMS:
        record(Path(sys.argv[1]), _name)
