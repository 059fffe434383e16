"""Where SeqViT looks: attention maps, attention rollout and attention distance.

Images may have another size than `config.image_size`: positions are then resized, as `interpolate_pos_encoding=True`
does. A pretraining model is looked at with every patch visible. Images run one by one, so that the weights of many
never lie in memory together.
"""

from collections.abc import Callable

import numpy as np
import torch

from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.patches import as_pair, patch_grid

from .evaluating import evaluating


def attention_rollout(model: SeqViTPreTrainedModel, pixel_values: torch.Tensor) -> np.ndarray:
    """Which patches reach the model's output, over all layers (Abnar & Zuidema 2020, section 3, attention rollout).

    The heads' mean weights, plus the identity for the residual connection, are normalised and multiplied through the
    layers. The row shown is the class token's; the mean over the patches' rows if the model does not pool by its
    class token. Of the row, the patches' part is normalised again.

    Args:
        model: any SeqViT class.
        pixel_values: `(batch, num_channels, height, width)`, normalised.

    Returns:
        `(batch, rows, columns)` float32; each image's map sums to 1, or is 0 if no patch reaches the output.

    Raises:
        ValueError: images of a shape that the model does not take.
    """

    def rollout(weights: torch.Tensor) -> torch.Tensor:
        joint = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
        for layer in weights.mean(1):
            with_residual = layer + torch.eye(len(layer), dtype=layer.dtype, device=layer.device)
            joint = with_residual / with_residual.sum(-1, keepdim=True) @ joint
        seen = _seen_patches(joint, model.config)
        return seen / seen.sum().clamp(min=torch.finfo(seen.dtype).tiny)

    return _on_grid(_per_image(model, pixel_values, rollout), pixel_values, model.config)


def attention_maps(model: SeqViTPreTrainedModel, pixel_values: torch.Tensor) -> np.ndarray:
    """How strongly each head looks at each patch: the class token's weights.

    If the model does not pool by its class token, they are the mean weights of all patches' queries. What a map lacks
    of a sum of 1 goes to class, distillation and register tokens.

    Args:
        model: any SeqViT class.
        pixel_values: `(batch, num_channels, height, width)`, normalised.

    Returns:
        `(batch, layers, heads, rows, columns)` float32.

    Raises:
        ValueError: images of a shape that the model does not take.
    """
    maps = _per_image(model, pixel_values, lambda weights: _seen_patches(weights, model.config))
    return _on_grid(maps, pixel_values, model.config)


def attention_distance(model: SeqViTPreTrainedModel, pixel_values: torch.Tensor) -> np.ndarray:
    """How far each head looks, its counterpart of a receptive field (Dosovitskiy et al. 2020, figure 7 right).

    The mean distance between the centres of the asking and the attended patch, over all such pairs of all images,
    weighted by attention. Class, distillation and register tokens have no place and are left out.

    Args:
        model: any SeqViT class.
        pixel_values: `(batch, num_channels, height, width)`, normalised; the paper takes 128 images.

    Returns:
        `(layers, heads)` float32, in pixels; NaN for a head that gives no patch any weight.

    Raises:
        ValueError: images of a shape that the model does not take.
    """
    first = model.config.num_prefix_tokens

    def totals(weights: torch.Tensor) -> torch.Tensor:
        weights = weights[..., first:, first:]
        distances = _patch_distances(_grid(pixel_values, model.config), as_pair(model.config.patch_size))
        return torch.stack([(weights * distances.to(weights)).sum((-2, -1)), weights.sum((-2, -1))])

    weighted, weight = _per_image(model, pixel_values, totals).sum(0)
    return (weighted / weight).float().numpy()


def _per_image(
    model: SeqViTPreTrainedModel, pixel_values: torch.Tensor, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """`reduce` of every image's weights `(layers, heads, tokens, tokens)` in float64, stacked."""
    if pixel_values.dim() != 4 or not len(pixel_values):
        raise ValueError(
            f"pixel_values of shape {tuple(pixel_values.shape)}: (batch, num_channels={model.config.num_channels}, "
            "height, width) with at least one image is expected."
        )
    reduced = []
    with evaluating(model):
        for image in pixel_values.to(model.device).split(1):
            outputs = model.base_model(image, interpolate_pos_encoding=True, output_attentions=True)
            reduced.append(reduce(torch.cat(outputs.attentions).double()).cpu())
    return torch.stack(reduced)


def _seen_patches(weights: torch.Tensor, config: SeqViTConfig) -> torch.Tensor:
    """`(…, tokens, tokens)` -> `(…, patches)`: the row of what is pooled, its part over the patches."""
    first = config.num_prefix_tokens
    row = weights[..., 0, :] if config.pooling == "cls" else weights[..., first:, :].mean(-2)
    return row[..., first:]


def _grid(pixel_values: torch.Tensor, config: SeqViTConfig) -> tuple[int, int]:
    return patch_grid((pixel_values.shape[-2], pixel_values.shape[-1]), config.patch_size)


def _on_grid(maps: torch.Tensor, pixel_values: torch.Tensor, config: SeqViTConfig) -> np.ndarray:
    """`(…, patches)` -> `(…, rows, columns)` float32."""
    return maps.unflatten(-1, _grid(pixel_values, config)).float().numpy()


def _patch_distances(grid: tuple[int, int], patch_size: tuple[int, int]) -> torch.Tensor:
    """`(patches, patches)` float64, pixels between the centres."""
    sides = [torch.arange(count, dtype=torch.float64) * side for count, side in zip(grid, patch_size)]
    centres = torch.cartesian_prod(*sides)
    return (centres[:, None] - centres).square().sum(-1).sqrt()


__all__ = ["attention_distance", "attention_maps", "attention_rollout"]
