"""Trains SeqViT on images. `accelerate launch scripts/pretrain_vit.py --help` explains every flag."""

import sys

import transformers

from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.image_arguments import AugmentationArguments, ImageArguments
from hf_seqmodels.tasks.model_cards import CardArguments
from hf_seqmodels.tasks.pretrain_vit import main
from hf_seqmodels.tasks.pretrain_vit_arguments import ViTModelArguments, ViTObjectiveArguments
from hf_seqmodels.training import EngineArguments, TrainingError

EPILOG = """\
examples:
  accelerate launch scripts/pretrain_vit.py --recipe scripts/recipes/vit_digits.yaml --output_dir out
  accelerate launch scripts/pretrain_vit.py --recipe scripts/recipes/vit_small.yaml --train_folder photos \\
      --objective mae --output_dir out
  accelerate launch scripts/pretrain_vit.py ... --output_dir out --resume_from_checkpoint auto
"""

if __name__ == "__main__":
    arguments = parse(
        (
            ImageArguments,
            ViTModelArguments,
            ViTObjectiveArguments,
            AugmentationArguments,
            EngineArguments,
            CardArguments,
        ),
        description="Trains SeqViT: classification, MAE, SimMIM or the ViT paper's patch prediction.",
        epilog=EPILOG,
    )
    transformers.utils.logging.disable_progress_bar()  # one bar is enough: training's own
    try:
        main(*arguments)
    except (ValueError, TrainingError) as error:
        sys.exit(f"pretrain_vit: {error}")
