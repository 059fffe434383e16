"""A trained SeqViT in pictures: where it looks, what its embeddings learned, what it makes of hidden patches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor

from hf_seqmodels.analysis import (
    NotInModelError,
    attention_distance,
    attention_maps,
    attention_rollout,
    plots,
    position_similarity,
    principal_filters,
    reconstruct,
)
from hf_seqmodels.data.image_decoding import decode_image
from hf_seqmodels.data.image_sources import ImageSource, load_tables
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.image_processing_vit import SeqViTImageProcessor, denormalize_images
from hf_seqmodels.models.modeling_vit import SeqViTModel, SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_classification import SeqViTBackbone, SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction
from hf_seqmodels.models.patches import as_pair

_CLASSES: dict[str, type[SeqViTPreTrainedModel]] = {
    model_class.__name__: model_class
    for model_class in (
        SeqViTModel,
        SeqViTBackbone,
        SeqViTForImageClassification,
        SeqViTForMaskedImageModeling,
        SeqViTForMaskedPatchPrediction,
        SeqViTForPreTraining,
    )
}
_DIGITS_SIZE = (8, 8)


@dataclass
class VisualizeArguments:
    """What to draw"""

    model: str = field(metadata={"help": "Folder of a SeqViT, with any head."})
    output_dir: str = field(metadata={"help": "Folder for the pictures."})
    images: list[str] = field(
        default_factory=list, metadata={"help": "Image files; by default ten held-out digits of scikit-learn, 0 to 9."}
    )
    dpi: int = field(default=120, metadata={"help": "Dots per inch of the pictures."})

    def __post_init__(self) -> None:
        if not (Path(self.model) / "config.json").is_file():
            raise ValueError(f"model={self.model!r} is not a folder with a config.json.")
        for path in self.images:
            if not Path(path).is_file():
                raise ValueError(f"images: there is no file {path!r}.")
        if self.dpi < 1:
            raise ValueError(f"dpi={self.dpi} must be at least 1.")


class _Shown(NamedTuple):
    """A model and images in its scale: `pixel_values` `(batch, channels, height, width)` and what undoes it."""

    model: SeqViTPreTrainedModel
    pixel_values: torch.Tensor
    mean: Any
    std: Any

    @property
    def images(self) -> np.ndarray:
        """`(batch, height, width, channels)` in [0, 1]."""
        return denormalize_images(self.pixel_values, self.mean, self.std).permute(0, 2, 3, 1).numpy()


def main(args: VisualizeArguments) -> list[Path]:
    """Draws everything that the model has, and says where it lies and what is left out.

    Returns:
        The PNG files: rollout, heads (of the first image), positions, filters, distance, reconstruction.

    Raises:
        ValueError: the model is no SeqViT, or an image does not fit it.
    """
    model = _load_model(args.model)
    shown = _Shown(model, *_load_images(args, model.config))
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\n{type(model).__name__} from {args.model}, images: {len(shown.pixel_values)}")
    written = []
    for name, draw in _PICTURES.items():
        try:
            figure = draw(shown)
        except NotInModelError as error:
            print(f"  {name}.png left out: {error}")
            continue
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=args.dpi, bbox_inches="tight")
        print(f"  {path}")
        written.append(path)
    return written


_PICTURES: dict[str, Callable[[_Shown], plots.Figure]] = {
    "rollout": lambda shown: plots.rollout_figure(shown.images, attention_rollout(shown.model, shown.pixel_values)),
    "heads": lambda shown: plots.heads_figure(shown.images[0], attention_maps(shown.model, shown.pixel_values[:1])[0]),
    "positions": lambda shown: plots.positions_figure(
        position_similarity(shown.model), as_pair(shown.model.config.patch_size)
    ),
    "filters": lambda shown: plots.filters_figure(principal_filters(shown.model)),
    "distance": lambda shown: plots.distance_figure(attention_distance(shown.model, shown.pixel_values)),
    "reconstruction": lambda shown: plots.reconstruction_figure(
        reconstruct(shown.model, shown.pixel_values, shown.mean, shown.std)
    ),
}


def _load_model(folder: str) -> SeqViTPreTrainedModel:
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, SeqViTConfig):
        raise ValueError(f"model={folder!r} is a {config.model_type}, not a {SeqViTConfig.model_type}.")
    names = config.architectures or []
    if len(names) != 1 or names[0] not in _CLASSES:
        raise ValueError(
            f"architectures={names} in {folder}/config.json names no SeqViT class; there are {', '.join(_CLASSES)}."
        )
    return _CLASSES[names[0]].from_pretrained(folder)


def _load_images(args: VisualizeArguments, config: SeqViTConfig) -> tuple[torch.Tensor, Any, Any]:
    """Pixel values of the images, and the mean and deviation that they were normalised by."""
    if (Path(args.model) / "preprocessor_config.json").is_file():
        processor = AutoImageProcessor.from_pretrained(args.model)
    else:
        height, width = as_pair(config.image_size)
        processor = SeqViTImageProcessor(num_channels=config.num_channels, size={"height": height, "width": width})
    batch = processor(list(_opened(args.images) if args.images else _digits()), return_tensors="pt")
    if not batch.get("attention_mask", torch.ones(1)).all():
        raise ValueError("the images have several sizes, and the model's processor pads: give images of one size.")
    normalized = processor.do_normalize
    return (
        batch["pixel_values"],
        processor.image_mean if normalized else 0.0,
        processor.image_std if normalized else 1.0,
    )


def _opened(paths: list[str]) -> Iterator[Image.Image]:
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
        except OSError as error:
            raise ValueError(f"images: {path!r} cannot be read: {error}") from error
        yield image


def _digits() -> Iterator[Image.Image]:
    """The first 0, the first 1, … of the embedded digits that no program here trains on."""
    held_out = load_tables(ImageSource(embedded=True))["validation"]
    labels = np.asarray(held_out["label"])
    for label in range(10):
        encoded = held_out[int(np.flatnonzero(labels == label)[0])]["image"]
        yield Image.frombytes("L", _DIGITS_SIZE, decode_image(encoded, _DIGITS_SIZE, 1))
