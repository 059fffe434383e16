"""The whole story, measured. `python scripts/compare.py --out report`; `--help` explains every flag."""

import sys

from hf_seqmodels.tasks.compare.cli import run

if __name__ == "__main__":
    sys.exit(run())
