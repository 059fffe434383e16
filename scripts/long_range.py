"""How far back models remember. `accelerate launch scripts/long_range.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.long_range import main
from hf_seqmodels.tasks.long_range_arguments import ENGINE_DEFAULTS, LongRangeArguments
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  python scripts/long_range.py --recipe scripts/recipes/long_range_quick.yaml --output_dir out
  python scripts/long_range.py --recipe scripts/recipes/long_range_adding.yaml --output_dir out
  python scripts/long_range.py --problem copy --lengths 50 100 --num_seeds 3 --output_dir out
The same command again goes on where the last one stopped.
"""

if __name__ == "__main__":
    arguments = parse(
        (LongRangeArguments, EngineArguments),
        description="Trains RNN, LSTM, GRU and attention of one size on problems that need a long memory.",
        epilog=EPILOG,
        defaults=ENGINE_DEFAULTS,
    )
    transformers.utils.logging.disable_progress_bar()
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"long_range: {error}")
