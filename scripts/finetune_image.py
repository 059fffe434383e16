#!/usr/bin/env python3
"""Fine-tunes an image classifier; `--help` explains every flag."""

from hf_seqmodels.tasks.finetune_image import main

if __name__ == "__main__":
    main()
