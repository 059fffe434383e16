"""SeqViT from and to transformers' ViT and ViTMAE (and from timm's checkpoints): the same function, other names.

Where the libraries differ: transformers has three layers for queries, keys and values, ours is one; its patches go
through a convolution, ours through a linear layer of the same weights; the class token there has a position of its
own, which is added to the token here; and ViTMAE flattens the pixels of a patch with the channels last.
"""

from os import PathLike
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from hf_seqmodels.conversion.filling import Weights, filled_model
from hf_seqmodels.conversion.vit_timm import load_timm
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit import SeqViTModel, SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling
from hf_seqmodels.models.patches import as_pair, patch_grid
from hf_seqmodels.models.positions import sincos_positions

_OURS: dict[type[PreTrainedModel], type[SeqViTPreTrainedModel]] = {
    ViTModel: SeqViTModel,
    ViTForImageClassification: SeqViTForImageClassification,
    ViTForMaskedImageModeling: SeqViTForMaskedImageModeling,
    ViTMAEForPreTraining: SeqViTForPreTraining,
}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
# Their own code cuts the image into as many rows as columns, of square patches.
_SQUARE_ONLY = (ViTForMaskedImageModeling, ViTMAEForPreTraining)

# Fields that say of a configuration which class it is and where it came from.
_NOT_SHARED = {"model_type", "architectures", "auto_map", "transformers_version", "_name_or_path"}

# What an option of ours must be for transformers' classes to compute the same.
_PLAIN = {
    "use_cls_token": True,
    "stem": "patch",
    "num_register_tokens": 0,
    "use_distillation_token": False,
    "layer_scale_init_value": None,
    "use_qk_norm": False,
    "use_locality_attention": False,
}

# (transformers', ours) in parts of names.
_RENAMED = (
    (".attention.o_proj.", ".attention.proj."),
    ("decoder.decoder_layers.", "decoder.layers."),
    ("decoder.decoder_embed.", "decoder.embed."),
    ("decoder.decoder_norm.", "decoder.layernorm."),
    ("decoder.decoder_pred.", "decoder.predict."),
    ("decoder.0.weight", "decoder.weight"),
    ("decoder.0.bias", "decoder.bias"),
)
_DECODER_TABLE, _PREDICTION = "decoder.decoder_pos_embed", "decoder.decoder_pred."
_STEM = "embeddings.patch_embeddings.projection.weight"

# Fixed tables of checkpoints were computed in float32, whose angles reach some ten radians.
_TABLE_TOLERANCE = 1e-5


def from_transformers(model: PreTrainedModel | str | PathLike[str], **config_overrides: Any) -> SeqViTPreTrainedModel:
    """Our model of the same head with a copy of the weights.

    A ViTMAE's position table becomes `position_embedding_type="sincos"` where it is that table, and a learned one
    otherwise. `mask_token`s are kept, `config.encoder_stride` is not.

    Args:
        model: a `ViTModel` without pooler, `ViTForImageClassification`, `ViTForMaskedImageModeling` or
            `ViTMAEForPreTraining` of transformers; or a folder in which one was saved.
        config_overrides: fields of `SeqViTConfig` to set on the way, such as `drop_path_rate`.

    Returns:
        A model in the same mode (train or eval), dtype and place. Outputs differ only by the order of additions.

    Raises:
        ValueError: there is no SeqViT class for this one; a part of the model has no place in ours (the tanh pooler of
            `ViTModel`, decoder positions that are not sin-cos); an override needs other weights; a folder lacks
            weights.
        huggingface_hub.errors.StrictDataclassError: `SeqViTConfig` refuses a field, as image sizes that the patches
            do not divide.
    """
    if isinstance(model, str | PathLike):
        model = _read_folder(model)
    if type(model) not in _OURS:
        known = ", ".join(theirs.__name__ for theirs in _OURS)
        raise ValueError(f"model={type(model).__name__}: there is no SeqViT class for it; can convert {known}.")
    _check_source(model)
    config, weights, prefix = model.config, model.state_dict(), _prefix(model)
    grid = patch_grid(config.image_size, config.patch_size)
    is_sincos = _is_sincos(weights[f"{prefix}embeddings.position_embeddings"][:, 1:], grid)
    fields = _fields(config, SeqViTConfig)
    if isinstance(model, ViTMAEForPreTraining):
        _check_decoder_table(weights[_DECODER_TABLE], grid)
        fields["position_embedding_type"] = "sincos" if is_sincos else "learned"
    ours = SeqViTConfig(**{**fields, **config_overrides})
    possible = ("learned", "sincos") if is_sincos else ("learned",)
    if ours.position_embedding_type not in possible:
        raise ValueError(
            f"position_embedding_type={ours.position_embedding_type!r}: the positions of this model can only be "
            f"{' or '.join(possible)}."
        )
    ours._attn_implementation = config._attn_implementation
    weights = _to_our_weights(weights, prefix, ours)
    return filled_model(
        _OURS[type(model)], ours, weights, next(model.parameters()), **_base_model_options(model)
    ).train(model.training)


def to_transformers(model: SeqViTPreTrainedModel) -> PreTrainedModel:
    """transformers' model of the same head with a copy of the weights; the reverse of `from_transformers`.

    `SeqViTModel` becomes a `ViTModel` without pooler. The class token's position is zero, being part of the token.
    Sin-cos positions become a table, which a ViT goes on to train and a ViTMAE does not. Options for training alone
    (`drop_path_rate`, `patch_dropout_rate`, `label_smoothing`) are left out.

    Raises:
        ValueError: transformers has no such class, or its class lacks an option that the model uses, which is named.
    """
    config = model.config
    if type(model) not in _THEIRS:
        known = ", ".join(ours.__name__ for ours in _THEIRS)
        raise ValueError(f"model={type(model).__name__}: transformers has no such ViT; can convert {known}.")
    theirs = _THEIRS[type(model)]
    _check_options(model, theirs)
    config_class = ViTMAEConfig if theirs is ViTMAEForPreTraining else ViTConfig
    fields = _fields(config, config_class)
    for name in ("image_size", "patch_size"):
        # Squares as one number: much of their code takes no pair.
        height, width = as_pair(getattr(config, name))
        fields[name] = height if height == width else [height, width]
    if config_class is ViTConfig and isinstance(fields["patch_size"], int):
        fields["encoder_stride"] = fields["patch_size"]
    their_config = config_class(**fields)
    their_config._attn_implementation = config._attn_implementation
    weights = _to_their_weights(model.state_dict(), _prefix(model), config)
    if theirs is ViTMAEForPreTraining:
        weights[_DECODER_TABLE] = _with_class_position(
            sincos_positions(config.grid, config.decoder_hidden_size).unsqueeze(0)
        )
    return filled_model(theirs, their_config, weights, next(model.parameters()), **_base_model_options(model)).train(
        model.training
    )


def _read_folder(folder: str | PathLike[str]) -> PreTrainedModel:
    names = AutoConfig.from_pretrained(folder).architectures or []
    known = {theirs.__name__ for theirs in _OURS}
    if len(names) != 1 or names[0] not in known:
        raise ValueError(f"architectures={names} of {folder}: can convert {', '.join(sorted(known))}.")
    model, report = getattr(transformers, names[0]).from_pretrained(folder, output_loading_info=True)
    if report["missing_keys"]:
        raise ValueError(f"{folder} lacks weights of {names[0]}: {', '.join(sorted(report['missing_keys']))}.")
    return model


def _check_source(model: PreTrainedModel) -> None:
    """Raises ValueError, if SeqViT has no place for a part of transformers' `model`."""
    config = model.config
    if isinstance(model, ViTModel) and model.pooler is not None:
        raise ValueError(
            "model.pooler: SeqViTModel has no tanh layer behind the class token; if it is not needed, convert "
            "ViTModel.from_pretrained(…, add_pooling_layer=False)."
        )
    if isinstance(model, ViTForImageClassification):
        _require_classes(config)
    if isinstance(model, ViTForMaskedImageModeling) and as_pair(config.patch_size) != as_pair(config.encoder_stride):
        raise ValueError(f"encoder_stride={config.encoder_stride} must equal patch_size={config.patch_size}.")
    if getattr(config, "head_dim", None) not in (None, config.hidden_size // config.num_attention_heads):
        raise ValueError(f"head_dim={config.head_dim}: SeqViT has hidden_size / num_attention_heads only.")


def _check_options(model: SeqViTPreTrainedModel, theirs: type[PreTrainedModel]) -> None:
    """Raises ValueError, if `theirs` cannot compute what `model` does."""
    config = model.config
    needed: dict[str, Any] = dict(_PLAIN)
    # Fields that matter only to those models that have such a part.
    if isinstance(model.base_model, SeqViTModel) and model.base_model.pooler is not None:
        needed["pooling"] = "cls"
    if isinstance(model, SeqViTForImageClassification):
        needed["pre_logits_size"] = None
        _require_classes(config)
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}={getattr(config, name)!r}: {theirs.__name__} can be converted to with {value!r} only."
            )
    if config.position_embedding_type == "none":
        raise ValueError(f"position_embedding_type='none': {theirs.__name__} always has positions.")
    for name in ("image_size", "patch_size"):
        height, width = as_pair(getattr(config, name))
        if theirs in _SQUARE_ONLY and height != width:
            raise ValueError(f"{name}={getattr(config, name)}: {theirs.__name__} works on squares only.")


def _require_classes(config: Any) -> None:
    if not config.num_labels:
        raise ValueError("num_labels=0: a classifier needs classes; convert the base model.")


def _check_decoder_table(table: torch.Tensor, grid: tuple[int, int]) -> None:
    if not table.any():
        raise ValueError(
            "decoder.decoder_pos_embed is all zero: transformers leaves the position tables of a ViTMAE empty that is "
            "built from a configuration, and its decoder then predicts the same for every masked patch. SeqViT "
            "computes its decoder's positions, so it cannot do the same: start from "
            "SeqViTForPreTraining(SeqViTConfig(…)), or fill the tables first."
        )
    if table[:, :1].any() or not _is_sincos(table[:, 1:], grid):
        raise ValueError(
            "decoder.decoder_pos_embed is not the sin-cos table of He et al. 2021 (appendix A.1), the only one that "
            "SeqViT's decoder has."
        )


def _is_sincos(table: torch.Tensor, grid: tuple[int, int]) -> bool:
    """Whether `(1, rows * columns, dim)` is the sin-cos table, as precisely as its dtype can tell."""
    if table.shape[-1] % 4 or table.shape[1] != grid[0] * grid[1]:
        return False
    tolerance = max(_TABLE_TOLERANCE, torch.finfo(table.dtype).eps)
    expected = sincos_positions(grid, table.shape[-1]).to(table)
    return torch.allclose(table[0], expected, rtol=0.0, atol=tolerance)


def _to_our_weights(theirs: Weights, prefix: str, config: SeqViTConfig) -> Weights:
    positions, class_token = f"{prefix}embeddings.position_embeddings", f"{prefix}embeddings.cls_token"
    weights = {}
    for name, weight in theirs.items():
        if name == class_token:
            weight = weight + theirs[positions][:, :1]
        elif name == positions:
            if config.position_embedding_type != "learned":
                continue
            weight = weight[:, 1:]
        elif name == _DECODER_TABLE or ".k_proj." in name or ".v_proj." in name:
            continue
        elif ".q_proj." in name:
            weight = torch.cat([theirs[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
            name = name.replace(".q_proj.", ".qkv.")
        elif name.startswith(_PREDICTION):
            # Rows for (pixel, channel) there, for (channel, pixel) here.
            weight = weight.unflatten(0, (-1, config.num_channels)).transpose(0, 1).flatten(0, 1)
        elif weight.dim() == 4:
            weight = weight.flatten(1)
        for their_part, our_part in _RENAMED:
            name = name.replace(their_part, our_part)
        weights[name] = weight
    return weights


def _to_their_weights(ours: Weights, prefix: str, config: SeqViTConfig) -> Weights:
    positions = f"{prefix}embeddings.position_embeddings"
    table = ours.get(positions)
    if table is None:
        table = sincos_positions(config.grid, config.hidden_size).unsqueeze(0)
    weights = {positions: _with_class_position(table)}
    for name, weight in ours.items():
        if name == positions:
            continue
        for their_part, our_part in _RENAMED:
            name = name.replace(our_part, their_part)
        if ".qkv." in name:
            for part, piece in zip("qkv", weight.chunk(3)):
                weights[name.replace(".qkv.", f".{part}_proj.")] = piece
            continue
        if name.startswith(_PREDICTION):
            weight = weight.unflatten(0, (config.num_channels, -1)).transpose(0, 1).flatten(0, 1)
        elif name == f"{prefix}{_STEM}":
            weight = weight.unflatten(1, (config.num_channels, *as_pair(config.patch_size)))
        elif name == "decoder.0.weight":
            weight = weight[:, :, None, None]
        weights[name] = weight
    return weights


def _with_class_position(table: torch.Tensor) -> torch.Tensor:
    """`(1, num_patches, dim)` -> `(1, 1 + num_patches, dim)`, zero for the class token."""
    return nn.functional.pad(table, (0, 0, 1, 0))


def _prefix(model: PreTrainedModel) -> str:
    return "" if model is model.base_model else f"{model.base_model_prefix}."


def _base_model_options(model: Any) -> dict[str, Any]:
    """Arguments of a base model's class beside the configuration; heads decide them for themselves."""
    if model is not model.base_model:
        return {}
    return {"add_pooling_layer": False, "use_mask_token": model.embeddings.mask_token is not None}


def _fields(config: PreTrainedConfig, target: type[PreTrainedConfig]) -> dict[str, Any]:
    """The fields of a configuration without those that `target` does not have."""
    left_out = _NOT_SHARED | (set(type(config)().to_dict()) - set(target().to_dict()))
    return {name: value for name, value in config.to_dict().items() if name not in left_out}


__all__ = ["from_transformers", "load_timm", "to_transformers"]
