"""Arguments of ViT's pretraining, apart from the images' and the engine's."""

from dataclasses import dataclass, field
from typing import Any, Literal

from hf_seqmodels.models.configuration_vit import PRESETS

# Share of the patches to predict: He et al. 2021; Xie et al. 2021 (SimMIM); Dosovitskiy et al. 2020, B.1.2.
MASK_RATIOS = {"mae": 0.75, "simmim": 0.6, "patch_prediction": 0.5}
OBJECTIVES = ("classification", *MASK_RATIOS)


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ViTModelArguments:
    """Model"""

    model_size: str = _option("Ti/16", f"Preset of SeqViTConfig, as Ti/16: {', '.join(PRESETS)} and the patch size.")
    config_overrides: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Fields of SeqViTConfig that differ from the preset."}
    )
    model_name_or_path: str | None = _option(
        None, "Go on from this SeqViT checkpoint instead, of whatever objective; positions are resized."
    )
    attn_implementation: str | None = _option(None, "eager, sdpa, flex_attention or flash_attention_2; default sdpa.")


@dataclass
class ViTObjectiveArguments:
    """Objective"""

    objective: Literal["classification", "mae", "simmim", "patch_prediction"] = _option(
        "classification",
        "classification of labelled images; or without labels mae (He et al. 2021), simmim (Xie et al. 2021), "
        "patch_prediction (Dosovitskiy et al. 2020, B.1.2).",
    )
    mask_ratio: float | None = _option(
        None, "Share of the patches to predict; by default 0.75 (mae), 0.6 (simmim), 0.5 (patch_prediction)."
    )
    mask_patch_size: int | None = _option(
        None, "Pixels of the squares that are masked as a whole, a multiple of the patch; by default the patch."
    )
    num_train_epochs: float | None = _option(None, "Passes over the images; takes the place of max_steps.")
    max_eval_batches: int | None = _option(None, "Evaluate on so many batches only.")
    feature_examples: int = _option(
        5000,
        "After mae, simmim and patch_prediction: judge the encoder on so many labelled images by nearest neighbours "
        "and a linear classifier; 0 = not.",
    )

    def __post_init__(self) -> None:
        if self.mask_ratio is not None and not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio} must lie in (0, 1).")
        if self.num_train_epochs is not None and self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs={self.num_train_epochs} must be above 0.")
        if self.feature_examples < 0:
            raise ValueError(f"feature_examples={self.feature_examples} must not be negative.")

    @property
    def masked_share(self) -> float:
        """The mask ratio given, or the objective's own."""
        return self.mask_ratio if self.mask_ratio is not None else MASK_RATIOS[self.objective]
