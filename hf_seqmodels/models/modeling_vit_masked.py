"""SeqViT that predicts masked patches: their pixels (SimMIM) or their mean colour (the ViT paper's own objective)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_vit import SeqViTConfig
from .losses import Count, at_least_float32, check_labels, divide, token_cross_entropy
from .masking_vit import masked_patches
from .modeling_vit import SeqViTModel, SeqViTPreTrainedModel
from .patches import patchify, unpatchify

# Beyond this many classes of mean colour no image set has examples of all.
_MOST_COLOURS = 2**15


@dataclass
class SeqViTMaskedImageModelingOutput(ModelOutput):
    """Output of `SeqViTForMaskedImageModeling`.

    Args:
        loss: scalar, the mean absolute error of the masked pixels (normalised ones).
        reconstruction: `(batch, num_channels, height, width)`, of all patches.
        mask: `(batch, num_patches)` boolean: the patches that were hidden.
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeqViTForMaskedImageModeling(SeqViTPreTrainedModel):
    """Predicts the pixels of masked patches by one linear layer (Xie et al. 2021, "SimMIM")."""

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        self.vit = SeqViTModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = nn.Linear(config.hidden_size, config.pixels_per_patch)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_items_in_batch: Count = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> SeqViTMaskedImageModelingOutput:
        r"""Hides patches and predicts them.

        Args:
            pixel_values, attention_mask, interpolate_pos_encoding: see `SeqViTModel`.
            bool_masked_pos: `(batch, num_patches)`, true on the patches to hide; by default `config.mask_ratio` of
                them at random, and while evaluating always the same.
            num_items_in_batch: masked patches in the whole step.
            return_loss: whether to compute the loss; where there are no labels, `Trainer` evaluates it for this name.

        Raises:
            ValueError: a mask of the wrong shape or one that marks nothing.
        """
        grid, mask = masked_patches(self.config, pixel_values, bool_masked_pos, attention_mask, self.training)
        outputs = self.vit(
            pixel_values,
            bool_masked_pos=mask,
            attention_mask=attention_mask,
            interpolate_pos_encoding=interpolate_pos_encoding,
            **kwargs,
        )
        predicted = self.decoder(outputs.last_hidden_state[:, self.config.num_prefix_tokens :])
        difference = at_least_float32(predicted) - patchify(pixel_values, self.config.patch_size)
        total = (difference.abs().mean(-1) * mask).sum()
        return SeqViTMaskedImageModelingOutput(
            loss=divide(total, num_items_in_batch, mask.sum()) if return_loss else None,
            reconstruction=unpatchify(predicted, self.config.patch_size, grid),
            mask=mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


@dataclass
class SeqViTMaskedPatchPredictionOutput(ModelOutput):
    """Output of `SeqViTForMaskedPatchPrediction`.

    Args:
        loss: scalar, cross-entropy over the labelled patches, if labels were given.
        logits: `(batch, num_patches, 2 ** (colour_bits * num_channels))`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeqViTForMaskedPatchPrediction(SeqViTPreTrainedModel):
    """Predicts the mean colour of corrupted patches, in 3 bits per channel (Dosovitskiy et al. 2020, appendix B.1.2).

    The paper corrupts half of the patches, 80 % by the mask token, 10 % by another patch and 10 % not at all;
    corrupted pixels, masks and labels come from `hf_seqmodels.data.image_collators.PatchPredictionCollator`.
    """

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        colours = 2 ** (config.colour_bits * config.num_channels)
        if colours > _MOST_COLOURS:
            raise ValueError(
                f"colour_bits={config.colour_bits} of num_channels={config.num_channels} make {colours} classes of "
                f"colour, more than {_MOST_COLOURS}: take fewer bits."
            )
        self.vit = SeqViTModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = nn.Linear(config.hidden_size, colours)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> SeqViTMaskedPatchPredictionOutput:
        r"""Predicts a colour for each patch.

        Args:
            pixel_values, attention_mask, interpolate_pos_encoding: see `SeqViTModel`.
            bool_masked_pos: `(batch, num_patches)`, true where the mask token takes a patch's place.
            labels: `(batch, num_patches)` colours, -100 where none is to be predicted.
            num_items_in_batch: labelled patches in the whole step, as `Trainer` counts them.

        Raises:
            ValueError: a mask or labels that do not fit.
        """
        outputs = self.vit(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            attention_mask=attention_mask,
            interpolate_pos_encoding=interpolate_pos_encoding,
            **kwargs,
        )
        logits = self.decoder(outputs.last_hidden_state[:, self.config.num_prefix_tokens :])
        loss = None
        if labels is not None:
            check_labels(labels, logits.shape[-1], logits.shape[:-1])
            loss = token_cross_entropy(logits, labels, num_items_in_batch)
        return SeqViTMaskedPatchPredictionOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "SeqViTForMaskedImageModeling",
    "SeqViTForMaskedPatchPrediction",
    "SeqViTMaskedImageModelingOutput",
    "SeqViTMaskedPatchPredictionOutput",
]
