"""Shows a pretrained SeqBert at work. `python scripts/show_bert.py --model runs/quickstart/bert`."""

import transformers

import hf_seqmodels  # noqa: F401 - plugs SeqBert into the Auto classes
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.show_bert import ShowArguments, main

if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    main(*parse((ShowArguments,), description="Reloads a pretrained SeqBert and fills masks with it."))
