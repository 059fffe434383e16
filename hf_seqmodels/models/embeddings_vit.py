"""From pixels to the token sequence of SeqViT: stems, positions, prefix tokens, masking and leaving out patches."""

import math
from itertools import pairwise

import torch
from torch import nn

from .configuration_vit import SeqViTConfig
from .layers import Dropout
from .patches import as_pair, gather_patches, kept_indices, patch_grid, patchify, random_patches
from .positions import Grid, grids_of_mask, positions_in_batch, resize_positions, sincos_positions


class PatchStem(nn.Module):
    """A linear layer on each flattened patch (Dosovitskiy et al. 2020, equation 1)."""

    def __init__(self, config: SeqViTConfig):
        super().__init__()
        self.patch_size = as_pair(config.patch_size)
        self.projection = nn.Linear(config.pixels_per_patch, config.hidden_size)

    def forward(
        self, pixel_values: torch.Tensor, visible_pixels: torch.Tensor | None, ids_keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(batch, channels, height, width)` -> `(batch, num_patches or num_kept, hidden)`."""
        patches = patchify(pixel_values, self.patch_size)
        if ids_keep is not None:
            patches = gather_patches(patches, ids_keep)
        return self.projection(patches)


class ShiftedPatchStem(nn.Module):
    """Patches of the image and of four copies shifted by half a patch (Lee et al. 2021, section 3.1, SPT)."""

    def __init__(self, config: SeqViTConfig):
        super().__init__()
        self.patch_size = as_pair(config.patch_size)
        inputs = 5 * config.pixels_per_patch
        self.norm = nn.LayerNorm(inputs, eps=config.layer_norm_eps)
        self.projection = nn.Linear(inputs, config.hidden_size)

    def forward(
        self, pixel_values: torch.Tensor, visible_pixels: torch.Tensor | None, ids_keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(batch, channels, height, width)` -> `(batch, num_patches or num_kept, hidden)`."""
        if visible_pixels is not None:
            # What lies beyond an image's edge is zero, as if it were alone; so is what is hidden.
            pixel_values = pixel_values * visible_pixels
        dy, dx = (side // 2 for side in self.patch_size)
        height, width = pixel_values.shape[-2:]
        padded = nn.functional.pad(pixel_values, (dx, dx, dy, dy))
        shifted = [padded[..., y : y + height, x : x + width] for y in (0, 2 * dy) for x in (0, 2 * dx)]
        patches = patchify(torch.cat([pixel_values, *shifted], dim=1), self.patch_size)
        if ids_keep is not None:
            patches = gather_patches(patches, ids_keep)
        return self.projection(self.norm(patches))


class ConvStem(nn.Module):
    """Blocks of 3×3 convolution, ReLU and strided pooling (Hassani et al. 2021, CCT's tokenizer).

    Each block halves the sides of the image that are still longer than the grid, so the grid is that of the patches.
    """

    def __init__(self, config: SeqViTConfig):
        super().__init__()
        halvings = [int(math.log2(side)) for side in as_pair(config.patch_size)]
        blocks = max(1, *halvings)
        self.strides = [(1 + (block < halvings[0]), 1 + (block < halvings[1])) for block in range(blocks)]
        between = config.stem_channels or config.hidden_size
        widths = [config.num_channels, *[between] * (blocks - 1), config.hidden_size]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False) for before, after in pairwise(widths)
        )

    def forward(
        self, pixel_values: torch.Tensor, visible_pixels: torch.Tensor | None, ids_keep: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(batch, channels, height, width)` -> `(batch, num_patches or num_kept, hidden)`."""
        features, visible = pixel_values, visible_pixels
        for convolution, stride in zip(self.convolutions, self.strides):
            features = nn.functional.relu(convolution(features if visible is None else features * visible))
            if visible is not None:
                # ReLU is never negative, so zeros outside an image are to its edge what padding is to a lone image.
                features, visible = features * visible, visible[..., :: stride[0], :: stride[1]]
            features = nn.functional.max_pool2d(features, kernel_size=3, stride=stride, padding=1)
        tokens = features.flatten(2).transpose(1, 2)
        return tokens if ids_keep is None else gather_patches(tokens, ids_keep)


STEMS = {"patch": PatchStem, "conv": ConvStem, "shifted": ShiftedPatchStem}


class SeqViTEmbeddings(nn.Module):
    """Patch embeddings with positions, behind class, distillation and register tokens.

    Args:
        use_mask_token: whether `bool_masked_pos` can be given.
        patch_dropout_rate: share of the patches left out while training.
    """

    def __init__(self, config: SeqViTConfig, use_mask_token: bool = False, patch_dropout_rate: float = 0.0):
        super().__init__()
        self.config = config
        self.patch_embeddings = STEMS[config.stem](config)
        rows, columns = config.grid

        def token(count: int, used: bool) -> nn.Parameter | None:
            return nn.Parameter(torch.zeros(1, count, config.hidden_size)) if used else None

        # The class token's own position is part of the token: a sum of two learned vectors is one.
        self.cls_token = token(1, config.use_cls_token)
        self.distillation_token = token(1, config.use_distillation_token)
        self.register_tokens = token(config.num_register_tokens, config.num_register_tokens > 0)
        self.mask_token = token(1, use_mask_token)
        self.position_embeddings = token(rows * columns, config.position_embedding_type == "learned")
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.patch_dropout_rate = patch_dropout_rate

    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        ids_keep: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `SeqViTModel.forward`.

        Returns:
            `(batch, num_prefix_tokens + num_kept, hidden)`, and which of these tokens are real, if not all are.
        """
        grid = self._checked_grid(pixel_values)
        batch, num_patches = pixel_values.shape[0], grid[0] * grid[1]
        _check_shape("bool_masked_pos", bool_masked_pos, (batch, num_patches))
        _check_shape("attention_mask", attention_mask, (batch, num_patches))
        real = None if attention_mask is None else attention_mask.bool()
        # Positions come first: a wrong size is an error before any work.
        positions = self._positions(grid, attention_mask, interpolate_pos_encoding)
        given = ids_keep
        if ids_keep is None and self.training and self.patch_dropout_rate > 0.0 and num_patches > 1:
            noise = torch.rand(batch, num_patches, device=pixel_values.device)
            left_out = random_patches(noise, self.patch_dropout_rate, real)
            ids_keep = kept_indices(~left_out if real is None else real & ~left_out)
        if ids_keep is not None:
            ids_keep, real = self._kept(ids_keep, real, batch, num_patches)
        visible = self._visible_pixels(attention_mask, bool_masked_pos, given, grid)
        patches = self.patch_embeddings(pixel_values, visible, ids_keep)
        if bool_masked_pos is not None:
            patches = self._masked(patches, bool_masked_pos, ids_keep)
        if positions is not None:
            if ids_keep is not None:
                positions = gather_patches(positions.expand(batch, -1, -1), ids_keep)
            patches = patches + positions.to(patches.dtype)
        prefix = [
            tokens.to(patches.dtype).expand(batch, -1, -1)
            for tokens in (self.cls_token, self.distillation_token, self.register_tokens)
            if tokens is not None
        ]
        embeddings = self.dropout(torch.cat([*prefix, patches], dim=1))
        if real is not None:
            real = nn.functional.pad(real, (self.config.num_prefix_tokens, 0), value=True)
        return embeddings, real

    def _checked_grid(self, pixel_values: torch.Tensor) -> Grid:
        if pixel_values.dim() != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)}: (batch, num_channels={self.config.num_channels}, "
                "height, width) is expected."
            )
        return patch_grid((pixel_values.shape[2], pixel_values.shape[3]), self.config.patch_size)

    def _kept(
        self, ids_keep: torch.Tensor, real: torch.Tensor | None, batch: int, num_patches: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Indices without -1, and which of them are real, if not all are."""
        if ids_keep.dim() != 2 or ids_keep.shape[0] != batch or not 0 < ids_keep.shape[1] <= num_patches:
            raise ValueError(
                f"ids_keep of shape {tuple(ids_keep.shape)}: ({batch}, n) with n from 1 to {num_patches} is expected."
            )
        if ids_keep.device.type == "cpu" and not torch.compiler.is_compiling() and ids_keep.max() >= num_patches:
            raise ValueError(f"ids_keep holds {ids_keep.max().item()}, outside [0, num_patches={num_patches}).")
        filling = ids_keep < 0
        ids_keep = ids_keep.masked_fill(filling, 0)
        if real is not None:
            return ids_keep, real.gather(1, ids_keep) & ~filling
        return ids_keep, ~filling if filling.any() else None

    def _masked(
        self, patches: torch.Tensor, bool_masked_pos: torch.Tensor, ids_keep: torch.Tensor | None
    ) -> torch.Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token: build the model with use_mask_token=True.")
        masked = bool_masked_pos.bool()
        if ids_keep is not None:
            masked = masked.gather(1, ids_keep)
        return torch.where(masked.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)

    def _visible_pixels(
        self,
        attention_mask: torch.Tensor | None,
        bool_masked_pos: torch.Tensor | None,
        ids_keep: torch.Tensor | None,
        grid: Grid,
    ) -> torch.Tensor | None:
        """`(batch, 1, height, width)` boolean, for the stems that look across the edges of patches: neither padding
        nor what is to be predicted may show there."""
        masks = [] if attention_mask is None else [attention_mask.bool()]
        if bool_masked_pos is not None:
            masks.append(~bool_masked_pos.bool())
        if ids_keep is not None:
            num_patches = grid[0] * grid[1]
            # Filling (-1) goes to a place of its own behind the patches, and is cut off again.
            places = ids_keep.masked_fill(ids_keep < 0, num_patches)
            kept = torch.zeros(places.shape[0], num_patches + 1, dtype=torch.bool, device=places.device)
            masks.append(kept.scatter(1, places, True)[:, :num_patches])
        if not masks or self.config.stem == "patch":
            return None
        height, width = as_pair(self.config.patch_size)
        cells = torch.stack(masks).all(0).unflatten(1, grid)
        return cells.repeat_interleave(height, 1).repeat_interleave(width, 2).unsqueeze(1)

    def _positions(
        self, grid: Grid, attention_mask: torch.Tensor | None, interpolate_pos_encoding: bool
    ) -> torch.Tensor | None:
        """`(1, num_patches, hidden)`, or `(batch, …)` when images of a padded batch have grids of their own."""
        if self.config.position_embedding_type == "none":
            return None
        grids = None if attention_mask is None else grids_of_mask(attention_mask, grid)
        trained = self.config.grid
        if not interpolate_pos_encoding:
            for own in grids or [grid]:
                if own != trained:
                    raise ValueError(
                        f"an image of {own[0]}×{own[1]} patches, but the positions are those of {trained[0]}×"
                        f"{trained[1]} (image_size={self.config.image_size}): resize the image, or pass "
                        "interpolate_pos_encoding=True."
                    )
        return positions_in_batch(self._table, grid, grids)

    def _table(self, grid: Grid) -> torch.Tensor:
        if self.position_embeddings is not None:
            return resize_positions(self.position_embeddings, self.config.grid, grid)
        table = sincos_positions(grid, self.config.hidden_size, self.config.grid)
        reference = next(self.patch_embeddings.parameters())
        return table.to(device=reference.device).unsqueeze(0)


def _check_shape(name: str, values: torch.Tensor | None, shape: tuple[int, int]) -> None:
    if values is not None and tuple(values.shape) != shape:
        raise ValueError(f"{name} of shape {tuple(values.shape)}: (batch, num_patches) = {shape} is expected.")


__all__ = ["STEMS", "SeqViTEmbeddings"]
