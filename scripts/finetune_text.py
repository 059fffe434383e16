#!/usr/bin/env python3
"""Fine-tunes a model on labelled text; `--help` explains every flag."""

from hf_seqmodels.tasks.finetune_text import main

if __name__ == "__main__":
    main()
