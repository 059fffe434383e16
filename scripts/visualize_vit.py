"""Draws a trained SeqViT. `python scripts/visualize_vit.py --model runs/vit --output_dir runs/vit/pictures`."""

import transformers

import hf_seqmodels  # noqa: F401 - plugs SeqViT into the Auto classes
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.visualize_vit import VisualizeArguments, main

if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    main(*parse((VisualizeArguments,), description="Draws where a SeqViT looks and what it has learned."))
