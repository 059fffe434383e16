"""Draws attention maps: `python scripts/plot_attention.py --model dates --text "3. Mai 2021" --output_dir maps`."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.plot_attention import PlotAttentionArguments, main

if __name__ == "__main__":
    arguments = parse((PlotAttentionArguments,), description="Draws what a translation model looks at as it writes.")
    transformers.utils.logging.disable_progress_bar()
    try:
        main(*arguments)
    except ValueError as error:
        sys.exit(f"plot_attention: {error}")
