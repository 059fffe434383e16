"""Looks into trained models: functions that return arrays. The modules `plots…` (extra [plot]) draw them."""

from .alignment import AttentionMap, attention_map, share_within
from .bottleneck import BottleneckRun, LengthScore
from .errors import NotInModelError
from .gradient_flow import GradientFlow, gradient_flow
from .long_range import LongRangeRun, LongRangeSummary, summarise
from .source_gradient_flow import source_gradient_flow
from .vit_attention import attention_distance, attention_maps, attention_rollout
from .vit_embeddings import PrincipalFilters, patch_filters, position_similarity, principal_filters
from .vit_reconstruction import Reconstruction, reconstruct

__all__ = [
    "AttentionMap",
    "BottleneckRun",
    "GradientFlow",
    "LengthScore",
    "LongRangeRun",
    "LongRangeSummary",
    "NotInModelError",
    "PrincipalFilters",
    "Reconstruction",
    "attention_distance",
    "attention_map",
    "attention_maps",
    "attention_rollout",
    "gradient_flow",
    "patch_filters",
    "position_similarity",
    "principal_filters",
    "reconstruct",
    "share_within",
    "source_gradient_flow",
    "summarise",
]
