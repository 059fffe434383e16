"""Pretrains SeqBert with MLM and NSP. `accelerate launch scripts/pretrain_bert.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.model_cards import CardArguments
from hf_seqmodels.tasks.pretrain_bert import main
from hf_seqmodels.tasks.pretrain_bert_arguments import ModelArguments, ObjectiveArguments, TextArguments
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  accelerate launch scripts/pretrain_bert.py --recipe scripts/recipes/bert_small.yaml --output_dir out
  accelerate launch scripts/pretrain_bert.py --recipe scripts/recipes/bert_small.yaml --train_file my.txt \\
      --output_dir out
  accelerate launch scripts/pretrain_bert.py ... --output_dir out --resume_from_checkpoint auto
"""

if __name__ == "__main__":
    arguments = parse(
        (TextArguments, ModelArguments, ObjectiveArguments, EngineArguments, CardArguments),
        description="Pretrains SeqBert (masked language model and next sentence prediction).",
        epilog=EPILOG,
    )
    transformers.utils.logging.disable_progress_bar()  # one bar is enough: training's own
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"pretrain_bert: {error}")
