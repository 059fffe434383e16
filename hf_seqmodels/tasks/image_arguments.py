"""Arguments about images and their augmentation, shared by pretraining and fine-tuning."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_seqmodels.data.augmentation import AugmentationRule
from hf_seqmodels.data.image_sources import ImageSource


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ImageArguments:
    """Images (if none are named: scikit-learn's digits, 1,797 of 8×8, which come with it)"""

    train_folder: str | None = _option(None, "Folder with one sub-folder of images per class, or with images alone.")
    validation_folder: str | None = _option(None, "The same, to evaluate on.")
    test_folder: str | None = _option(None, "The same, for the final result.")
    train_file: str | None = _option(None, "Parquet file with images and labels, in place of a folder.")
    validation_file: str | None = _option(None, "The same, to evaluate on.")
    test_file: str | None = _option(None, "The same, for the final result.")
    dataset_name: str | None = _option(None, "A dataset on the Hub or a local dataset folder, in place of both.")
    dataset_config_name: str | None = _option(None, "The dataset's configuration.")
    image_column: str = _option("image", "Column that holds the images.")
    label_column: str = _option("label", "Column that holds the labels; empty if the images are unlabelled.")
    validation_share: float = _option(0.1, "Share of the training images to evaluate on, if no others are named.")
    train_share: float = _option(1.0, "Train on this share of the images, the same of each class.")
    image_size: list[int] = field(
        default_factory=list,
        metadata={"help": "Height and width (or one number) that images are resized to; by default the model's."},
    )
    num_channels: int | None = _option(None, "1 = grey, 3 = RGB; by default the model's.")
    image_mean: list[float] = field(
        default_factory=list,
        metadata={"help": "Mean of each channel in [0, 1]; by default measured on the training images."},
    )
    image_std: list[float] = field(
        default_factory=list, metadata={"help": "Standard deviation of each channel; by default measured."}
    )
    on_corrupt_image: Literal["stop", "skip"] = _option(
        "stop", "What to do with a file that is no image: stop and name it, or skip and count it."
    )
    preprocessing_num_workers: int | None = _option(None, "Processes that decode and resize the images.")
    cache_dir: str | None = _option(None, "Where prepared images are kept; by default the datasets library's folder.")

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share={self.validation_share} must lie between 0 and 1.")
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share={self.train_share} must lie in (0, 1].")
        if len(self.image_size) > 2 or any(side < 1 for side in self.image_size):
            raise ValueError(f"image_size={self.image_size} must be one or two positive numbers.")
        if bool(self.image_mean) != bool(self.image_std):
            raise ValueError("image_mean and image_std go together: give both or neither.")
        if len(self.image_size) == 1:
            self.image_size = self.image_size * 2
        self.source()

    def new_config(self, build: Callable[..., Any], overrides: dict[str, Any]) -> Any:
        """`build(**fields)`: the configuration of a new model for these images."""
        fields = {**overrides, **self._size()}
        if self.num_channels is not None:
            fields["num_channels"] = self.num_channels
        return build(**fields)

    def checkpoint_config(self, load: Callable[..., Any], checkpoint: str, overrides: dict[str, Any]) -> Any:
        """`load(checkpoint, **fields)`: the configuration of a model that goes on from a checkpoint.

        Raises:
            ValueError: the checkpoint is for images of other channels.
        """
        config = load(checkpoint, **{**overrides, **self._size()})
        if self.num_channels not in (None, config.num_channels):
            raise ValueError(
                f"num_channels={self.num_channels}, but {checkpoint} is a model for {config.num_channels}: leave the "
                "flag out."
            )
        return config

    def _size(self) -> dict[str, list[int]]:
        return {"image_size": self.image_size} if self.image_size else {}

    def source(self) -> ImageSource:
        """What `load_images` reads."""
        named = (self.train_folder, self.train_file, self.dataset_name)
        return ImageSource(
            embedded=not any(named),
            train_folder=self.train_folder,
            validation_folder=self.validation_folder,
            test_folder=self.test_folder,
            train_file=self.train_file,
            validation_file=self.validation_file,
            test_file=self.test_file,
            dataset_name=self.dataset_name,
            dataset_config_name=self.dataset_config_name,
            image_column=self.image_column,
            label_column=self.label_column or None,
            on_corrupt_image=self.on_corrupt_image,
            cache_dir=self.cache_dir,
            num_proc=self.preprocessing_num_workers,
        )


@dataclass
class AugmentationArguments:
    """Augmentation of the training images (each choice a pure function of seed, epoch and image)"""

    flip: float = _option(0.0, "Share of the images that are mirrored left to right.")
    crop_padding: int = _option(0, "Pixels of padding around an image of which a random crop is taken.")
    randaugment_ops: int = _option(0, "Operations of RandAugment on each image (Cubuk et al. 2020).")
    randaugment_magnitude: float = _option(5.0, "Their strength, 0 to 10.")
    erasing: float = _option(0.0, "Share of the images of which a rectangle is erased (Zhong et al. 2017).")
    mixup_alpha: float = _option(0.0, "Mixup's Beta distribution (Zhang et al. 2017); 0 = none.")
    cutmix_alpha: float = _option(0.0, "CutMix's Beta distribution (Yun et al. 2019); 0 = none.")
    mixing_probability: float = _option(1.0, "Share of the images that are mixed, if mixup or CutMix is on.")
    label_smoothing: float = _option(0.0, "Mass moved from the label to all classes (Szegedy et al. 2016).")

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> AugmentationRule:
        """The rule that the collators apply."""
        mixes = self.mixup_alpha > 0 or self.cutmix_alpha > 0
        settings = {**vars(self), "mixing_probability": self.mixing_probability if mixes else 0.0}
        return AugmentationRule(**settings)
