"""The flags of scripts/finetune_image.py beside the images', the augmentation's and transformers' own."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class FinetuneImageArguments:
    """Model to fine-tune"""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "checkpoint to start from, pretrained by whatever objective: a folder or a name on the Hub"},
    )
    model_type: str | None = field(
        default=None, metadata={"help": "train from scratch instead: an architecture such as seq_vit or vit"}
    )
    config_overrides: dict[str, Any] = field(
        default_factory=dict, metadata={"help": 'config fields to change, such as {"pooling": "mean"}'}
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "each layer learns at this factor of the rate of the layer above it (Bao et al. 2022)"},
    )
    freeze_encoder: bool = field(default=False, metadata={"help": "train the classifier alone (a linear probe)"})

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.model_type is None):
            raise ValueError("give either --model_name_or_path (a checkpoint) or --model_type (from scratch).")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must lie in (0, 1].")
