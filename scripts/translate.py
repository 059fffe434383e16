"""Translates lines of text with a trained model. `python scripts/translate.py --help` explains every flag."""

import sys

import transformers

import hf_seqmodels  # noqa: F401  (plugs the architectures into transformers' Auto classes)
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.translate import TranslateArguments, main

EPILOG = """\
examples:
  echo "ein hund rennt ." | python scripts/translate.py --model_name_or_path out
  python scripts/translate.py --model_name_or_path out --input_file test.de --output_file test.en --num_beams 1
"""

if __name__ == "__main__":
    (arguments,) = parse(
        TranslateArguments, description="Translates text, a sentence a line, in the order it came.", epilog=EPILOG
    )
    transformers.utils.logging.disable_progress_bar()  # stderr is for messages
    try:
        main(arguments)
    except ValueError as error:
        sys.exit(f"translate: {error}")
