"""The bottleneck and its cure. `accelerate launch scripts/bottleneck.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.bottleneck import main
from hf_seqmodels.tasks.bottleneck_arguments import ENGINE_DEFAULTS, BottleneckArguments
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  python scripts/bottleneck.py --recipe scripts/recipes/bottleneck_quick.yaml --output_dir out
  python scripts/bottleneck.py --recipe scripts/recipes/bottleneck.yaml --output_dir out
The same command again goes on where the last one stopped.
"""

if __name__ == "__main__":
    arguments = parse(
        (BottleneckArguments, EngineArguments),
        description="Trains Seq2Seq, Seq2Seq with attention and Transformer of one size to copy and to reverse.",
        epilog=EPILOG,
        defaults=ENGINE_DEFAULTS,
    )
    transformers.utils.logging.disable_progress_bar()
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"bottleneck: {error}")
