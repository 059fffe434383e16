"""How all models of this package are saved."""

from typing import Any

from transformers import PreTrainedModel


class SavesOwnNames(PreTrainedModel):
    """Base of every model: checkpoints hold the parameters' own names.

    transformers saves under the names that a checkpoint had when it was loaded (LayerNorm.gamma); but its `Trainer`
    resumes without translating them, so that those weights would silently keep their initial values.
    """

    def save_pretrained(  # type: ignore[override]
        self, save_directory: Any, *, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """As transformers', but under our own parameter names, which `Trainer` needs to resume."""
        super().save_pretrained(save_directory, save_original_format=save_original_format, **kwargs)


__all__ = ["SavesOwnNames"]
