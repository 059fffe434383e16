"""SeqViT from checkpoints of timm's VisionTransformer (R. Wightman, "PyTorch Image Models"), without timm itself."""

import re
from collections.abc import Mapping
from math import isqrt
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hf_seqmodels.conversion.filling import Weights, filled_model
from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.patches import Size, patch_grid

# timm's names -> ours; the tokens stand in the order of the sequence.
_TOKENS = {"cls_token": "cls_token", "dist_token": "distillation_token", "reg_token": "register_tokens"}
_RENAMED = (
    *((rf"^{theirs}$", f"vit.embeddings.{ours}") for theirs, ours in _TOKENS.items()),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"vit.layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"vit.layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.", r"vit.layers.\1.attention."),
    (r"^blocks\.(\d+)\.mlp\.", r"vit.layers.\1.mlp."),
    (r"^blocks\.(\d+)\.ls1\.gamma$", r"vit.layers.\1.attention_scale.scale"),
    (r"^blocks\.(\d+)\.ls2\.gamma$", r"vit.layers.\1.mlp_scale.scale"),
    (r"^norm\.", "vit.layernorm."),
    (r"^attn_pool\.latent$", "vit.pooler.probe"),
    (r"^attn_pool\.q\.", "vit.pooler.query."),
    (r"^attn_pool\.kv\.", "vit.pooler.key_value."),
    (r"^attn_pool\.", "vit.pooler."),
    (r"^head\.", "classifier."),
    (r"^head_dist\.", "distillation_classifier."),
)
_STEM, _QKV, _FEED_FORWARD = "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"
_HEADS = ("classifier.", "distillation_classifier.")

# Training scripts save the weights beside other things, under one of these names.
_WRAPPERS = ("state_dict", "model")

# Every published timm model of these sizes has heads of this width.
_HEAD_DIM = 64

# A checkpoint tells the gains, not what they began with; the value of timm's DINOv2 and of most DeiT-III models.
_LAYER_SCALE = 1e-5


def load_timm(
    source: Mapping[str, Any] | str | PathLike[str],
    num_attention_heads: int | None = None,
    image_size: Size | None = None,
    **config_overrides: Any,
) -> SeqViTForImageClassification:
    """A classifier with the weights of a timm VisionTransformer (ViT, DeiT with or without distillation, DINOv2 …).

    The configuration is inferred from the shapes, as far as they tell; LayerNorm's epsilon is timm's 1e-6 and the
    activation the exact GELU, unless overridden. Positions of class, distillation and register tokens are added to
    the tokens.

    Args:
        source: a state dict, or the path of a `.safetensors`, `.pth`, `.pt` or `.bin` file that holds one, also under
            the key "model" or "state_dict".
        num_attention_heads: by default from the width of the query norm, where there is one, or one for every 64
            features.
        image_size: pixels that the checkpoint's positions are for; by default a square. For images of another size,
            call the model's `resize_positions` afterwards.
        config_overrides: fields of `SeqViTConfig`. Shapes do not tell a mean of the patches from the class token: give
            `pooling="mean"` for a timm model with `global_pool="avg", fc_norm=False`. A checkpoint without a head
            needs `num_labels`, and its head starts fresh.

    Returns:
        A model in eval mode, in the dtype of the checkpoint.

    Raises:
        ValueError: no checkpoint of a VisionTransformer, or one with parts that SeqViT lacks (`norm_pre`, gated
            feed-forwards, …); heads or image size that cannot be inferred.
    """
    weights = _read(source)
    missing = [name for name in (_STEM, _QKV, _FEED_FORWARD) if name not in weights]
    if missing or weights[_STEM].dim() != 4:
        raise ValueError(f"source is no timm VisionTransformer: {', '.join(missing or [_STEM])} is not as expected.")
    norm_after_pooling = "fc_norm.weight" in weights
    if norm_after_pooling:  # timm's default for global_pool="avg"
        weights = {name.replace("fc_norm.", "norm."): weight for name, weight in weights.items()}
    hidden, channels, *patch = weights[_STEM].shape
    headless = "head.weight" not in weights
    if headless and not config_overrides.keys() & {"num_labels", "id2label"}:
        raise ValueError("head.weight is not in source: give num_labels=… for a new classifier.")
    image_size = _fold_positions(weights, (patch[0], patch[1]), image_size)
    inferred: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": len({name.split(".")[1] for name in weights if name.startswith("blocks.")}),
        "num_attention_heads": num_attention_heads or _heads(weights, hidden),
        "intermediate_size": len(weights[_FEED_FORWARD]),
        "image_size": image_size,
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "num_channels": channels,
        "qkv_bias": "blocks.0.attn.qkv.bias" in weights,
        "pooling": _pooling(weights, norm_after_pooling),
        "norm_after_pooling": norm_after_pooling,
        "use_cls_token": "cls_token" in weights,
        "position_embedding_type": "learned" if "pos_embed" in weights else "none",
        "num_register_tokens": weights["reg_token"].shape[1] if "reg_token" in weights else 0,
        "use_distillation_token": "dist_token" in weights,
        "layer_scale_init_value": _LAYER_SCALE if "blocks.0.ls1.gamma" in weights else None,
        "use_qk_norm": "blocks.0.attn.q_norm.weight" in weights,
    }
    if not headless:
        inferred["num_labels"] = len(weights["head.weight"])
    config = SeqViTConfig(**{**inferred, **config_overrides})
    like, weights[_STEM] = weights[_STEM], weights[_STEM].flatten(1)  # a convolution there, a linear layer here
    weights = {_our_name(name): weight for name, weight in weights.items()}
    return filled_model(SeqViTForImageClassification, config, weights, like, fresh=_HEADS if headless else ())


def _pooling(weights: Weights, norm_after_pooling: bool) -> str:
    if "attn_pool.latent" in weights:
        return "map"
    return "cls" if "cls_token" in weights and not norm_after_pooling else "mean"


def _read(source: Mapping[str, Any] | str | PathLike[str]) -> Weights:
    if isinstance(source, Mapping):
        weights: Mapping[str, Any] = source
    elif (suffix := Path(source).suffix) == ".safetensors":
        weights = load_file(source)
    elif suffix in (".pth", ".pt", ".bin"):
        weights = torch.load(source, map_location="cpu", weights_only=True)
    else:
        raise ValueError(f"source={str(source)!r} must end in .safetensors, .pth, .pt or .bin.")
    for wrapper in _WRAPPERS:
        if isinstance(weights.get(wrapper), Mapping):
            weights = weights[wrapper]
    return dict(weights)


def _fold_positions(weights: Weights, patch_size: tuple[int, int], image_size: Size | None) -> Size:
    """Adds positions of the tokens before the patches to these tokens, and returns the size of the images.

    `weights["pos_embed"]` becomes that of the patches alone.
    """
    tokens = [name for name in _TOKENS if name in weights]
    prefix = sum(weights[name].shape[1] for name in tokens)
    if "pos_embed" not in weights:
        if image_size is None:
            raise ValueError("image_size: the checkpoint has no positions that would tell it; give it.")
        return image_size
    table = weights["pos_embed"]
    count = table.shape[1]
    # Positions are of all tokens, or of the patches alone (timm's no_embed_class).
    if image_size is None:
        fitting = [embedded for embedded in {prefix, 0} if count > embedded and _is_square(count - embedded)]
    else:
        rows, columns = patch_grid(image_size, patch_size)
        fitting = [embedded for embedded in {prefix, 0} if count - embedded == rows * columns]
    if len(fitting) != 1:
        raise ValueError(
            f"image_size={image_size}: {count} positions, of {prefix} tokens and the patches or of the patches alone, "
            f"{'fit no' if not fitting else 'may be of more than one'} grid of patches of {patch_size[0]}×"
            f"{patch_size[1]} pixels{' that is as high as wide' if image_size is None else ''}: give the image_size "
            "that the checkpoint was trained with."
        )
    of_tokens, weights["pos_embed"] = table.tensor_split([fitting[0]], dim=1)
    if fitting[0]:
        for name, positions in zip(tokens, of_tokens.split([weights[name].shape[1] for name in tokens], dim=1)):
            weights[name] = weights[name] + positions
    if image_size is not None:
        return image_size
    side = isqrt(count - fitting[0])
    height, width = side * patch_size[0], side * patch_size[1]
    return height if height == width else (height, width)


def _is_square(count: int) -> bool:
    return isqrt(count) ** 2 == count


def _heads(weights: Weights, hidden: int) -> int:
    norm = weights.get("blocks.0.attn.q_norm.weight")
    head_dim = _HEAD_DIM if norm is None else len(norm)
    if hidden % head_dim:
        raise ValueError(
            f"num_attention_heads: width {hidden} is no multiple of {head_dim}; say how many heads it has."
        )
    return hidden // head_dim


def _our_name(name: str) -> str:
    for pattern, ours in _RENAMED:
        name, found = re.subn(pattern, ours, name)
        if found:
            return name
    return name


__all__ = ["load_timm"]
