"""Prints the README's table of classes; `python scripts/readme_tables.py --write` puts it there."""

from pathlib import Path

from hf_seqmodels.tasks.readme_tables import main

if __name__ == "__main__":
    main(Path(__file__).parents[1] / "README.md")
