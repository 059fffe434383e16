"""How all models and configurations of this package are saved."""

import os
from collections.abc import Callable
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME

from .model_card import load_card, write_pushed_card


class CarriesCode(PreTrainedConfig):
    """Base of every configuration: what is saved with it loads where this package is not installed.

    Auto classes find the code of all heads beside the weights (`auto_map`, `trust_remote_code=True`). The package says
    what that code is (`write_code`, set when it is imported); a copy that was loaded from the Hub goes on as
    transformers' own custom code does: with the configuration and the head that were loaded.
    """

    write_code: ClassVar[Callable[..., dict[str, str]] | None] = None

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As transformers', and the code of all heads."""
        references = getattr(self, "auto_map", None)
        if self.write_code is None and references:
            self.auto_map = {name: at for name, at in references.items() if _is_at_hand(at, save_directory)}
        super().save_pretrained(save_directory)
        if self.write_code is not None:
            self.auto_map = self.write_code(save_directory)
            self.to_json_file(os.path.join(save_directory, CONFIG_NAME))
        if push_to_hub:  # not by `super()`, which would have pushed before the code was there
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(os.path.abspath(save_directory))), **kwargs)


def _is_at_hand(reference: str, folder: Any) -> bool:
    """Whether `module.Class` is in a file of `folder`, or `owner/name--module.Class` in another repository."""
    return "--" in reference or os.path.isfile(os.path.join(folder, f"{reference.split('.')[0]}.py"))


class SavesOwnNames(PreTrainedModel):
    """Base of every model: checkpoints hold the parameters' own names.

    transformers saves under the names that a checkpoint had when it was loaded (LayerNorm.gamma); but its `Trainer`
    resumes without translating them, so that those weights would silently keep their initial values.
    """

    def save_pretrained(  # type: ignore[override]
        self, save_directory: Any, *, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """As transformers', but under our own parameter names, which `Trainer` needs to resume."""
        # Pushing puts the repository's card, or a form, in the place of the one that is there.
        self._present_card = load_card(save_directory) if kwargs.get("push_to_hub") else None
        super().save_pretrained(save_directory, save_original_format=save_original_format, **kwargs)

    def _upload_modified_files(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with a model card that says what the model is."""
        write_pushed_card(working_dir, self, repo_id, self._present_card)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)


__all__ = ["CarriesCode", "SavesOwnNames"]
