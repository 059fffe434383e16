"""Trains translation models. `accelerate launch scripts/train_translation.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.model_cards import CardArguments
from hf_seqmodels.tasks.train_translation import main
from hf_seqmodels.tasks.train_translation_arguments import (
    ParallelArguments,
    TranslationArguments,
    TranslationModelArguments,
)
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  accelerate launch scripts/train_translation.py --recipe scripts/recipes/dates_attention.yaml --output_dir out
  accelerate launch scripts/train_translation.py --train_file train.de train.en --validation_file val.de val.en \\
      --model_type attention_seq2seq --config_overrides '{"hidden_size": 512, "score": "additive"}' --output_dir out
  accelerate launch scripts/train_translation.py ... --output_dir out --resume_from_checkpoint auto
"""

if __name__ == "__main__":
    arguments = parse(
        (ParallelArguments, TranslationModelArguments, TranslationArguments, EngineArguments, CardArguments),
        description="Trains Seq2Seq, Seq2Seq with attention, and the original Transformer on parallel text.",
        epilog=EPILOG,
    )
    transformers.utils.logging.disable_progress_bar()  # one bar is enough: training's own
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"train_translation: {error}")
