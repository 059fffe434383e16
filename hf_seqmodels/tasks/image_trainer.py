"""transformers' Trainer for images: stateless augmentation in every epoch, layer-wise learning rates."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.random import Key
from hf_seqmodels.training.optimizers import learning_rate_scales, parameter_groups, undecayed_names


class EpochImages(Dataset[dict[str, Any]]):
    """An `ImageDataset` by plain index, for Trainer's samplers; the epoch is set from outside.

    Args:
        images: gives an example by its key (epoch, shard, index).
    """

    def __init__(self, images: ImageDataset):
        self.images = images
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.images[Key(self.epoch, 0, index)]


class _TellEpoch(TrainerCallback):
    """Tells the dataset the epoch before its batches are drawn, after a resumption, too."""

    def __init__(self, dataset: EpochImages):
        self.dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.dataset.epoch = int(state.epoch or 0)


class ImageTrainer(Trainer):
    """A `Trainer` that knows of epochs and of layers.

    Args:
        train_dataset: its `epoch` is kept up to date. Workers are started anew in each epoch, so it reaches them.
        eval_collator: takes the place of `data_collator`, which augments, where images are evaluated.
        layer_decay: see `learning_rate_scales`.

    Raises:
        ValueError: workers that outlive an epoch would never hear of the next one.
    """

    def __init__(
        self,
        *,
        args: TrainingArguments,
        train_dataset: EpochImages,
        eval_collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
        layer_decay: float = 1.0,
        **kwargs: Any,
    ):
        if args.dataloader_persistent_workers:
            raise ValueError("dataloader_persistent_workers=True: the workers would augment every epoch alike.")
        super().__init__(args=args, train_dataset=train_dataset, **kwargs)
        self.eval_collator, self.layer_decay = eval_collator, layer_decay
        self.add_callback(_TellEpoch(train_dataset))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As Trainer's, without augmentation."""
        augmenting, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = augmenting

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """As Trainer's, without augmentation."""
        augmenting, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_test_dataloader(test_dataset)
        finally:
            self.data_collator = augmenting

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimiser that the arguments name, over our groups: decay, and each layer's own rate."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            scales = learning_rate_scales(trained, self.layer_decay) if self.layer_decay != 1 else None
            groups = parameter_groups(
                trained.named_parameters(), undecayed_names(trained), self.args.weight_decay, scales
            )
            for group in groups:
                group["lr"] = self.args.learning_rate * group.get("lr_scale", 1.0)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = optimizer_class([group for group in groups if group["params"]], **settings)
        return self.optimizer


def freeze(model: torch.nn.Module, trained: Sequence[str]) -> None:
    """Leaves the gradients of the named sub-modules alone and takes those of all others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.split(".")[0] in trained


__all__ = ["EpochImages", "ImageTrainer", "freeze"]
