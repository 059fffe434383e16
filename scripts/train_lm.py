"""Trains RNN, LSTM and GRU language models. `accelerate launch scripts/train_lm.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.model_cards import CardArguments
from hf_seqmodels.tasks.train_lm import main
from hf_seqmodels.tasks.train_lm_arguments import LMModelArguments, LMObjectiveArguments, LMTextArguments
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  accelerate launch scripts/train_lm.py --recipe scripts/recipes/lm_shakespeare.yaml --train_file input.txt \\
      --output_dir out
  accelerate launch scripts/train_lm.py --train_file my.txt --tokenization subword --model_type gru \\
      --config_overrides '{"hidden_size": 256, "hidden_dropout_prob": 0.2}' --output_dir out
  accelerate launch scripts/train_lm.py ... --output_dir out --resume_from_checkpoint auto
"""

if __name__ == "__main__":
    arguments = parse(
        (LMTextArguments, LMModelArguments, LMObjectiveArguments, EngineArguments, CardArguments),
        description="Trains RNN, LSTM and GRU language models on contiguous text or on documents.",
        epilog=EPILOG,
    )
    transformers.utils.logging.disable_progress_bar()  # one bar is enough: training's own
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"train_lm: {error}")
