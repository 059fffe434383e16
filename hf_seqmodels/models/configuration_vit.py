"""Configuration of SeqViT (Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words")."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin

from .patches import as_pair, patch_grid
from .saving import CarriesCode

# Width, layers and heads; the feed-forward is 4 × width. mu, S: Steiner et al. 2021 and big_vision; Ti: Touvron et al.
# 2021 (DeiT); B, L, H: Dosovitskiy et al. 2020, table 1.
PRESETS = {
    "mu": (32, 1, 2),
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}


@strict
class SeqViTConfig(BackboneConfigMixin, CarriesCode):
    r"""Configuration of the SeqViT models; fields have the names and meanings of transformers' `ViTConfig`.

    Args:
        image_size, patch_size (`int` or pair):
            Pixels, (height, width). Patches must cut the image without remainder.
        pooling (`str`, *optional*, defaults to `"cls"`):
            What a classifier sees: the class token; the `"mean"` of the patches; `"map"`, attention of a learned probe
            (Zhai et al. 2022, "Scaling Vision Transformers", section 3.2; Lee et al. 2019); or `"seq"`, a learned
            weighted mean (Hassani et al. 2021, "Escaping the Big Data Paradigm", SeqPool).
        norm_after_pooling (`bool`, *optional*, defaults to `False`): With `pooling="mean"`, the final LayerNorm
            follows the mean in place of preceding it (He et al. 2021, "Masked Autoencoders", appendix A.1; timm's
            fc_norm).
        use_cls_token (`bool`, *optional*, defaults to `True`): Whether there is a class token.
        position_embedding_type (`str`, *optional*, defaults to `"learned"`):
            `"learned"`, `"sincos"` (fixed, two-dimensional: He et al. 2021, "Masked Autoencoders", appendix A.1) or
            `"none"`.
        stem (`str`, *optional*, defaults to `"patch"`):
            `"patch"`, a linear layer on each patch; `"conv"`, log2(patch_size) blocks of 3×3 convolution, ReLU and
            2×2-strided pooling (Hassani et al. 2021, CCT); `"shifted"`, patches with four shifted copies of the image
            (Lee et al. 2021, "Vision Transformer for Small-Size Datasets", SPT).
        stem_channels (`int`, *optional*): Channels between the blocks of the conv stem; `hidden_size` by default.
        num_register_tokens (`int`, *optional*, defaults to 0): Darcet et al. 2023, "Vision Transformers Need
            Registers".
        use_distillation_token (`bool`, *optional*, defaults to `False`): Touvron et al. 2021, "DeiT", section 3.
        layer_scale_init_value (`float`, *optional*): Gain of the residual branches (Touvron et al. 2021, "Going
            deeper with Image Transformers"); no gain by default.
        drop_path_rate (`float`, *optional*, defaults to 0): Stochastic depth at the last layer, rising from 0 at the
            first (Huang et al. 2016).
        patch_dropout_rate (`float`, *optional*, defaults to 0): Share of patches left out while training (Liu et al.
            2022, "PatchDropout").
        use_qk_norm (`bool`, *optional*, defaults to `False`): LayerNorm of queries and keys (Dehghani et al. 2023,
            "Scaling Vision Transformers to 22 Billion Parameters").
        use_locality_attention (`bool`, *optional*, defaults to `False`): Learned temperature, and no token attends to
            itself (Lee et al. 2021, LSA).
        pre_logits_size (`int`, *optional*): Width of a tanh layer before the classifier (Dosovitskiy et al. 2020,
            section 3.1); none by default.
        zero_init_head (`bool`, *optional*, defaults to `False`): The classifier starts at zero (the same, section
            3.2).
        label_smoothing (`float`, *optional*, defaults to 0): Szegedy et al. 2016; while training, hard labels only.
        mask_ratio (`float`, *optional*, defaults to 0.75): Share of patches to predict, where a masked model is given
            no `bool_masked_pos`.
        norm_pix_loss (`bool`, *optional*, defaults to `False`): MAE predicts each patch's pixels normalised by the
            patch's own mean and variance (He et al. 2021, section 3).
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size:
            MAE's decoder.
        colour_bits (`int`, *optional*, defaults to 3): Bits per channel of the mean colour that
            `SeqViTForMaskedPatchPrediction` predicts (Dosovitskiy et al. 2020, appendix B.1.2).

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field of the wrong type or outside its range.
    """

    model_type = "seq_vit"
    keys_to_ignore_at_inference = ["mask", "cls_logits", "distillation_logits"]

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float | int = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    pooling: Literal["cls", "mean", "map", "seq"] = "cls"
    norm_after_pooling: bool = False
    use_cls_token: bool = True
    position_embedding_type: Literal["learned", "sincos", "none"] = "learned"
    stem: Literal["patch", "conv", "shifted"] = "patch"
    stem_channels: int | None = None
    num_register_tokens: int = 0
    use_distillation_token: bool = False
    layer_scale_init_value: float | int | None = None
    drop_path_rate: float | int = 0.0
    patch_dropout_rate: float | int = 0.0
    use_qk_norm: bool = False
    use_locality_attention: bool = False
    pre_logits_size: int | None = None
    zero_init_head: bool = False
    label_smoothing: float | int = 0.0
    mask_ratio: float = 0.75
    norm_pix_loss: bool = False
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    colour_bits: int = 3
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # JSON has no tuples: pairs are always lists, so that a configuration comes back equal.
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            if not isinstance(value, int):
                setattr(self, name, list(value))
        kwargs.pop("stage_names", None)  # of a file; it may be loaded with another number of layers
        self.stage_names = ["stem", *(f"stage{number}" for number in range(1, self.num_hidden_layers + 1))]
        self.set_output_features_output_indices(
            out_indices=kwargs.pop("out_indices", None), out_features=kwargs.pop("out_features", None)
        )
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As transformers', without the default output stage: it would be wrong for another number of layers."""
        values = super().to_dict()
        if values.get("out_features") == self.stage_names[-1:]:
            del values["out_features"], values["out_indices"]
        return values

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "SeqViTConfig":
        """A published size with its patch size, such as "Ti/4" or "S/16": mu, Ti, S, B, L or H.

        MAE's decoder has half the width and two layers.

        Raises:
            ValueError: `name` has not that form, or the size is not one of the presets.
        """
        size, _, patch = name.partition("/")
        if size not in PRESETS or not patch.isdecimal():
            raise ValueError(
                f"preset={name!r} is not known; give one of {', '.join(PRESETS)}, a slash and the patch size: 'S/16'."
            )
        hidden, layers, heads = PRESETS[size]
        sizes = {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
            "patch_size": int(patch),
            "decoder_hidden_size": hidden // 2,
            "decoder_num_hidden_layers": 2,
            "decoder_num_attention_heads": heads,
            "decoder_intermediate_size": 2 * hidden,
        }
        return cls(**{**sizes, **overrides})

    @property
    def grid(self) -> tuple[int, int]:
        """Patches `(rows, columns)` of an image of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class token, distillation token, registers."""
        return int(self.use_cls_token) + int(self.use_distillation_token) + self.num_register_tokens

    @property
    def pixels_per_patch(self) -> int:
        """Values of one patch over all channels."""
        height, width = as_pair(self.patch_size)
        return height * width * self.num_channels

    def validate_sizes(self) -> None:
        """Every size is positive, the heads divide the width, the patches divide the image."""
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "num_channels",
            "decoder_hidden_size",
            "decoder_num_hidden_layers",
            "decoder_num_attention_heads",
            "decoder_intermediate_size",
            "colour_bits",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("stem_channels", "pre_logits_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or None.")
        if self.num_register_tokens < 0:
            raise ValueError(f"num_register_tokens={self.num_register_tokens} must not be negative.")
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("decoder_hidden_size", "decoder_num_attention_heads"),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width}={getattr(self, width)} is not divisible by {heads}={getattr(self, heads)}.")
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            sides = [value, value] if isinstance(value, int) else list(value)
            if len(sides) != 2 or min(sides) < 1:
                raise ValueError(f"{name}={value} must be a positive number or a (height, width) pair of them.")
        patch_grid(self.image_size, self.patch_size)

    def validate_options(self) -> None:
        """Options that need each other go together."""
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act={self.hidden_act!r} is not known; choose one of {', '.join(sorted(ACT2FN))}."
            )
        if self.pooling == "cls" and not self.use_cls_token:
            raise ValueError("pooling='cls' needs use_cls_token=True.")
        if self.norm_after_pooling and self.pooling != "mean":
            raise ValueError(f"norm_after_pooling=True goes with pooling='mean', not with {self.pooling!r}.")
        if self.use_distillation_token and self.pooling != "cls":
            raise ValueError(f"use_distillation_token=True goes with pooling='cls', not with {self.pooling!r}.")
        if self.position_embedding_type == "sincos" and self.hidden_size % 4:
            raise ValueError(f"position_embedding_type='sincos' needs hidden_size={self.hidden_size} divisible by 4.")
        if self.decoder_hidden_size % 4:
            raise ValueError(f"decoder_hidden_size={self.decoder_hidden_size} must be divisible by 4 (sin-cos).")
        if self.stem == "conv" and any(side & (side - 1) for side in as_pair(self.patch_size)):
            raise ValueError(f"stem='conv' halves the image: patch_size={self.patch_size} must be a power of two.")
        if self.norm_pix_loss and self.pixels_per_patch < 2:
            raise ValueError("norm_pix_loss=True needs patches of more than one value: one value has no variance.")

    def validate_rates(self) -> None:
        """Rates lie in their ranges; the scales of initialisation and normalisation make sense."""
        for name in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "drop_path_rate",
            "patch_dropout_rate",
            "label_smoothing",
        ):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio} must lie in (0, 1).")
        if self.layer_norm_eps <= 0:
            raise ValueError(f"layer_norm_eps={self.layer_norm_eps} must be positive.")
        if self.initializer_range < 0:
            raise ValueError(f"initializer_range={self.initializer_range} must not be negative.")


__all__ = ["SeqViTConfig"]
