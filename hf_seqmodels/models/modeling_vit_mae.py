"""SeqViT as a masked autoencoder (He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners")."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_vit import SeqViTConfig
from .losses import Count, at_least_float32, divide
from .masking_vit import masked_patches
from .modeling_vit import LayerSizes, SeqViTLayer, SeqViTModel, SeqViTPreTrainedModel, visibility
from .patches import kept_indices, patchify
from .positions import Grid, grids_of_mask, positions_in_batch, sincos_positions

# Added to the variance of a patch before its root is taken.
NORM_PIX_EPS = 1e-6


@dataclass
class SeqViTForPreTrainingOutput(ModelOutput):
    """Output of `SeqViTForPreTraining`.

    Args:
        loss: scalar, the mean squared error of the masked patches' (normalised) pixels.
        logits: `(batch, num_patches, pixels_per_patch)`: the predicted patches, flattened as `patchify` does.
        mask: `(batch, num_patches)` boolean: the patches that the encoder did not see.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeqViTDecoder(nn.Module):
    """A small Transformer over the encoded patches and mask tokens (He et al. 2021, section 3).

    Its sin-cos positions are computed, so no checkpoint and no way of building the model leaves them empty.
    """

    def __init__(self, config: SeqViTConfig):
        super().__init__()
        self.config = config
        sizes = LayerSizes(
            config.decoder_hidden_size, config.decoder_num_attention_heads, config.decoder_intermediate_size
        )
        self.embed = nn.Linear(config.hidden_size, sizes.hidden)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, sizes.hidden))
        self.layers = nn.ModuleList(SeqViTLayer(config, sizes) for _ in range(config.decoder_num_hidden_layers))
        self.layernorm = nn.LayerNorm(sizes.hidden, eps=config.layer_norm_eps)
        self.predict = nn.Linear(sizes.hidden, config.pixels_per_patch)

    def forward(
        self,
        encoded: torch.Tensor,
        ids_keep: torch.Tensor,
        grid: Grid,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predicts every patch from those that were kept.

        Args:
            encoded: `(batch, num_prefix_tokens + num_kept, hidden)`.
            ids_keep: `(batch, num_kept)` places of the kept patches, -1 on filling.
            grid: of the images.
            attention_mask: `(batch, num_patches)`, 0 on padding.

        Returns:
            `(batch, num_patches, pixels_per_patch)`.
        """
        embedded = self.embed(encoded)
        prefix, patches = embedded.tensor_split([self.config.num_prefix_tokens], dim=1)
        mask_token = self.mask_token.to(patches.dtype)
        # Filling goes to a place of its own behind the patches, and is cut off again.
        num_patches = grid[0] * grid[1]
        places = ids_keep.masked_fill(ids_keep < 0, num_patches).unsqueeze(-1).expand(-1, -1, patches.shape[-1])
        tokens = mask_token.expand(patches.shape[0], num_patches + 1, -1).scatter(1, places, patches)[:, :num_patches]
        tokens = tokens + self._positions(grid, attention_mask).to(tokens)
        hidden_states = torch.cat([prefix, tokens], dim=1)
        real = None
        if attention_mask is not None:
            real = nn.functional.pad(attention_mask.bool(), (prefix.shape[1], 0), value=True)
        mask = visibility(self.config, hidden_states, real)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return self.predict(self.layernorm(hidden_states[:, prefix.shape[1] :]))

    def _positions(self, grid: Grid, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """`(1 or batch, num_patches, decoder_hidden)`; each image's own grid in a padded batch."""
        dim, trained = self.config.decoder_hidden_size, self.config.grid
        return positions_in_batch(
            lambda own: sincos_positions(own, dim, trained).unsqueeze(0),
            grid,
            None if attention_mask is None else grids_of_mask(attention_mask, grid),
        )


class SeqViTForPreTraining(SeqViTPreTrainedModel):
    """The encoder sees a quarter of the patches; a small decoder predicts the pixels of the others."""

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        self.vit = SeqViTModel(config, add_pooling_layer=False)
        self.decoder = SeqViTDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SeqViTDecoder):
            init.trunc_normal_(module.mask_token, std=self.config.initializer_range)

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
    ) -> SeqViTForPreTrainingOutput:
        r"""Hides patches and predicts them.

        Args:
            pixel_values, attention_mask, interpolate_pos_encoding: see `SeqViTModel`.
            bool_masked_pos: `(batch, num_patches)`, true on the patches to hide; by default `config.mask_ratio` of
                them at random, and while evaluating always the same.
            num_items_in_batch: masked patches in the whole step.
            return_loss: whether to compute the loss; where there are no labels, `Trainer` evaluates it for this name.

        Raises:
            ValueError: a mask of the wrong shape, one that marks nothing, or one that leaves an image nothing to see.
        """
        grid, mask = masked_patches(self.config, pixel_values, bool_masked_pos, attention_mask, self.training)
        visible = ~mask if attention_mask is None else ~mask & attention_mask.bool()
        if not visible.any(1).all():
            raise ValueError("bool_masked_pos hides every patch of an image: the encoder needs at least one.")
        ids_keep = kept_indices(visible)
        outputs = self.vit(
            pixel_values,
            ids_keep=ids_keep,
            attention_mask=attention_mask,
            interpolate_pos_encoding=interpolate_pos_encoding,
            **kwargs,
        )
        predicted = self.decoder(outputs.last_hidden_state, ids_keep, grid, attention_mask)
        error = (at_least_float32(predicted) - self.targets(pixel_values)).square().mean(-1)
        return SeqViTForPreTrainingOutput(
            loss=divide((error * mask).sum(), num_items_in_batch, mask.sum()) if return_loss else None,
            logits=predicted,
            mask=mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def targets(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """What is to be predicted: `(batch, num_patches, pixels_per_patch)`, in float32 at least.

        With `norm_pix_loss` each patch is normalised by its own mean and variance (He et al. 2021, section 3).
        """
        patches = at_least_float32(patchify(pixel_values, self.config.patch_size))
        if not self.config.norm_pix_loss:
            return patches
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + NORM_PIX_EPS).sqrt()


__all__ = ["NORM_PIX_EPS", "SeqViTForPreTraining", "SeqViTForPreTrainingOutput"]
