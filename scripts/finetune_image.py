#!/usr/bin/env python3
"""Fine-tunes an image classifier; `--help` explains every flag."""

import sys

from hf_seqmodels.tasks.finetune_image import main
from hf_seqmodels.training import TrainingError

if __name__ == "__main__":
    try:
        main()
    except (ValueError, TrainingError) as error:
        sys.exit(f"finetune_image: {error}")
