"""Shows a trained date translator at work. `python scripts/show_translation.py --model runs/quickstart/dates`."""

import transformers

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.show_translation import ShowTranslationArguments, main

if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    main(*parse((ShowTranslationArguments,), description="Translates dates, and shows where the model looks."))
