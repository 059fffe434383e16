"""Shows a trained SeqViT at work. `python scripts/show_vit.py --model runs/quickstart/vit`."""

import transformers

import hf_seqmodels  # noqa: F401 - plugs SeqViT into the Auto classes
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.show_vit import ShowViTArguments, main

if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    main(*parse((ShowViTArguments,), description="Reloads a trained SeqViT and classifies digits with it."))
