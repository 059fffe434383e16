#!/usr/bin/env python3
"""Fine-tunes a model on labelled text; `--help` explains every flag."""

import sys

from hf_seqmodels.tasks.finetune_text import main
from hf_seqmodels.training import TrainingError

if __name__ == "__main__":
    try:
        main()
    except (ValueError, TrainingError) as error:
        sys.exit(f"finetune_text: {error}")
