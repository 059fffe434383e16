"""Side-by-side benchmarks. `python scripts/benchmark.py bert --size small --seq 128 --batch 16`."""

import sys

from hf_seqmodels.tasks.benchmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
