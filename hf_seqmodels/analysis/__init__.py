"""Looks into trained models: functions that return arrays. `hf_seqmodels.analysis.plots` (extra [plot]) draws them."""

from .errors import NotInModelError
from .vit_attention import attention_distance, attention_maps, attention_rollout
from .vit_embeddings import PrincipalFilters, patch_filters, position_similarity, principal_filters
from .vit_reconstruction import Reconstruction, reconstruct

__all__ = [
    "NotInModelError",
    "PrincipalFilters",
    "Reconstruction",
    "attention_distance",
    "attention_maps",
    "attention_rollout",
    "patch_filters",
    "position_similarity",
    "principal_filters",
    "reconstruct",
]
