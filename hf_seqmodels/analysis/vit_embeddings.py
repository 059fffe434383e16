"""What SeqViT's embeddings have learned: similarity of positions, filters of the patches."""

from dataclasses import dataclass

import numpy as np
import torch

from hf_seqmodels.models.embeddings_vit import ConvStem, PatchStem, SeqViTEmbeddings
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.positions import sincos_positions

from .errors import NotInModelError


def position_similarity(model: SeqViTPreTrainedModel) -> np.ndarray:
    """Cosine similarity of every position embedding to every other (Dosovitskiy et al. 2020, figure 7 centre).

    Args:
        model: any SeqViT class, with learned or sin-cos positions.

    Returns:
        `(rows, columns, rows, columns)` float32: `[r, c]` is the map of the position in row r and column c.

    Raises:
        NotInModelError: the model has no position embeddings.
    """
    config = model.config
    if config.position_embedding_type == "none":
        raise NotInModelError("position_embedding_type='none': there are no positions; learned or sincos has them.")
    table = _embeddings(model).position_embeddings
    vectors = sincos_positions(config.grid, config.hidden_size) if table is None else table.detach()[0].cpu()
    vectors = torch.nn.functional.normalize(vectors.double(), dim=-1)
    return (vectors @ vectors.T).float().numpy().reshape(*config.grid, *config.grid)


def patch_filters(model: SeqViTPreTrainedModel) -> np.ndarray:
    """The filters that meet the pixels: of the patch embedding, or of a conv stem's first convolution.

    Returns:
        `(filters, height, width, channels)` float32; height and width are `config.patch_size`, or 3 for a convolution.

    Raises:
        NotInModelError: `stem="shifted"`, whose filters see five images at once.
    """
    stem = _embeddings(model).patch_embeddings
    if isinstance(stem, ConvStem):
        weights = next(stem.convolutions.parameters())
    elif isinstance(stem, PatchStem):
        weights = stem.projection.weight.unflatten(1, (model.config.num_channels, *stem.patch_size))
    else:
        raise NotInModelError(f"stem={model.config.stem!r} has no filters on the image alone; patch and conv have.")
    return weights.detach().float().cpu().permute(0, 2, 3, 1).numpy()


@dataclass(frozen=True)
class PrincipalFilters:
    """The main directions in which filters differ.

    Args:
        filters: `(n, height, width, channels)` float32, of norm 1 and orthogonal, the most important first; of the two
            signs, the one that makes the largest weight positive.
        variance_ratios: `(n,)` float32, each one's share of the variance.
    """

    filters: np.ndarray
    variance_ratios: np.ndarray


def principal_filters(model: SeqViTPreTrainedModel, count: int = 28) -> PrincipalFilters:
    """Principal components of the filters (Dosovitskiy et al. 2020, figure 7 left, which shows 28).

    Args:
        model: any SeqViT class whose stem has filters, see `patch_filters`.
        count: components to return, or as many as there are: no more than pixels of a patch, nor than filters.

    Raises:
        NotInModelError: see `patch_filters`.
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count={count} must be at least 1.")
    weights = patch_filters(model).astype(np.float64)
    flat = weights.reshape(len(weights), -1)
    _, singular_values, components = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, None]
    variances = singular_values**2
    return PrincipalFilters(
        filters=components[:count].reshape(-1, *weights.shape[1:]).astype(np.float32),
        variance_ratios=(variances[:count] / variances.sum()).astype(np.float32),
    )


def _embeddings(model: SeqViTPreTrainedModel) -> SeqViTEmbeddings:
    embeddings = model.base_model.embeddings
    assert isinstance(embeddings, SeqViTEmbeddings)
    return embeddings


__all__ = ["PrincipalFilters", "patch_filters", "position_similarity", "principal_filters"]
