"""The SeqViT encoder (Dosovitskiy et al. 2020): one forward for classifiers, masked models and backbones."""

import copy
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import bidirectional_mask, choose_kernel, eager_attention_forward
from .configuration_vit import SeqViTConfig
from .embeddings_vit import ConvStem, PatchStem, SeqViTEmbeddings, ShiftedPatchStem
from .layers import Dropout, DropPath, FeedForward, LayerScale
from .patches import patch_grid
from .pooling import build_pooler
from .positions import resize_positions
from .saving import SavesOwnNames

# What a pretrained checkpoint has and a classifier does not need; its absence is no news to anybody.
PRETRAINING_ONLY = [r"^decoder\.", r"mask_token$"]

# Tables, tokens and temperatures, which weight decay must leave alone (Touvron et al. 2021, DeiT).
_UNDECAYED = (
    "position_embeddings",
    "cls_token",
    "distillation_token",
    "register_tokens",
    "mask_token",
    "probe",
    "temperature",
)


class LayerSizes(NamedTuple):
    """Width, heads and feed-forward width of a layer: the encoder's, or those of a decoder."""

    hidden: int
    heads: int
    intermediate: int


class SeqViTAttention(nn.Module):
    """Multi-head self-attention with one product for queries, keys and values, through the attention interface."""

    is_causal = False

    def __init__(self, config: SeqViTConfig, sizes: LayerSizes):
        super().__init__()
        self.config = config
        self.head_dim = sizes.hidden // sizes.heads
        self.scaling = self.head_dim**-0.5
        self.qkv = nn.Linear(sizes.hidden, 3 * sizes.hidden, bias=config.qkv_bias)
        self.proj = nn.Linear(sizes.hidden, sizes.hidden)
        self.dropout_rate = config.attention_probs_dropout_prob
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if config.use_qk_norm:
            self.q_norm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)
            self.k_norm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps)
        self.temperature: nn.Parameter | None = None
        if config.use_locality_attention:
            # Lee et al. 2021, section 3.2: the softmax's temperature is learned.
            self.temperature = nn.Parameter(torch.full((sizes.heads, 1, 1), self.scaling))
            self.initial_temperature = self.scaling
            self.scaling = 1.0

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: Any = None, num_queries: int | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of the first `num_queries` tokens (all by default) to all.

        Args:
            hidden_states: `(batch, seq_len, hidden)`.
            attention_mask: as `visibility` made it.

        Returns:
            `(batch, num_queries, hidden)`, and the weights `(batch, heads, num_queries, seq_len)` if the kernel gives
            them.
        """
        query, key, value = self._project(hidden_states, num_queries)
        query, key = self.q_norm(query), self.k_norm(key)
        if self.temperature is not None:
            query = query * self.temperature
        implementation = "eager" if kwargs.get("output_attentions") else self.config._attn_implementation
        interface = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        dropout = self.dropout_rate if self.training else 0.0
        kernel = choose_kernel(implementation, interface, query, key, dropout)
        context, weights = kernel(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return self.proj(context.flatten(2)), weights

    def _project(self, hidden_states: torch.Tensor, num_queries: int | None) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values `(batch, heads, tokens, head_dim)`."""
        if num_queries is None or type(self.qkv) is not nn.Linear:
            # What has taken the layer's place (LoRA, int8) is more than its weight, and has to be called.
            query, key, value = (
                self.qkv(hidden_states).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
            )
            return query[:, :, :num_queries], key, value
        # The same layer in two pieces, so that no query is computed in vain.
        hidden, weight, bias = hidden_states.shape[-1], self.qkv.weight, self.qkv.bias
        biases = (None, None) if bias is None else (bias[:hidden], bias[hidden:])
        query = nn.functional.linear(hidden_states[:, :num_queries], weight[:hidden], biases[0])
        key_value = nn.functional.linear(hidden_states, weight[hidden:], biases[1])
        key, value = key_value.unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        return query.unflatten(-1, (-1, self.head_dim)).transpose(1, 2), key, value


class SeqViTLayer(GradientCheckpointingLayer):
    """One pre-LN layer (Dosovitskiy et al. 2020, equations 2 and 3)."""

    def __init__(self, config: SeqViTConfig, sizes: LayerSizes, drop_path_rate: float = 0.0):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(sizes.hidden, eps=config.layer_norm_eps)
        self.attention = SeqViTAttention(config, sizes)
        self.layernorm_after = nn.LayerNorm(sizes.hidden, eps=config.layer_norm_eps)
        self.mlp = FeedForward(sizes.hidden, sizes.intermediate, config.hidden_act)
        gain = config.layer_scale_init_value
        self.attention_scale, self.mlp_scale = (
            nn.Identity() if gain is None else LayerScale(sizes.hidden, gain) for _ in range(2)
        )
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: Any = None, num_queries: int | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """`(batch, seq_len, hidden)` -> `(batch, num_queries, hidden)`; the queries are all tokens by default."""
        attended, _ = self.attention(self.layernorm_before(hidden_states), attention_mask, num_queries, **kwargs)
        residual = hidden_states if num_queries is None else hidden_states[:, :num_queries]
        hidden_states = residual + self.drop_path(self.attention_scale(self.dropout(attended)))
        transformed = self.mlp(self.layernorm_after(hidden_states))
        return hidden_states + self.drop_path(self.mlp_scale(self.dropout(transformed)))


def visibility(
    config: SeqViTConfig,
    keys: torch.Tensor,
    real_tokens: torch.Tensor | None,
    num_queries: int | None = None,
    dense: bool = False,
) -> Any:
    """What each query may see, in the form that the attention implementation takes.

    Args:
        keys: `(batch, seq_len, hidden)`.
        real_tokens: `(batch, seq_len)` boolean; `None` if all are.
        num_queries: the first so many tokens ask; all by default.
        dense: for the eager kernel.

    Raises:
        ValueError: locality attention with a kernel that takes no mask of its form.
    """
    queries = keys if num_queries is None else keys[:, :num_queries]
    if not config.use_locality_attention:
        if real_tokens is None:
            return None
        return bidirectional_mask(config, queries, keys, real_tokens, dense=dense)
    if config._attn_implementation not in ("eager", "sdpa"):
        raise ValueError(
            f"use_locality_attention=True with attn_implementation={config._attn_implementation!r}: "
            "choose eager or sdpa."
        )
    hidden = torch.eye(queries.shape[1], keys.shape[1], dtype=torch.bool, device=keys.device)[None, None]
    if real_tokens is not None:
        hidden = hidden | ~real_tokens[:, None, None, :]
    # Not minus infinity: a token that is alone then still sees itself.
    return torch.zeros_like(hidden, dtype=keys.dtype).masked_fill(hidden, torch.finfo(keys.dtype).min)


class SeqViTPreTrainedModel(SavesOwnNames):
    """What all SeqViT classes share: names, switches, initialisation, resizing of positions."""

    config: SeqViTConfig
    base_model_prefix = "vit"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["SeqViTEmbeddings", "SeqViTLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SeqViTLayer, "attentions": SeqViTAttention}
    _input_embed_layer = "patch_embeddings"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        deviation = self.config.initializer_range
        if isinstance(module, SeqViTEmbeddings):
            for tokens in (
                module.cls_token,
                module.distillation_token,
                module.register_tokens,
                module.position_embeddings,
                module.mask_token,
            ):
                if tokens is not None:
                    init.trunc_normal_(tokens, std=deviation)
        elif isinstance(module, PatchStem | ShiftedPatchStem):
            # LeCun's: the pixels are not normalised to the width, so the general deviation would not do.
            init.trunc_normal_(module.projection.weight, std=module.projection.in_features**-0.5)
        elif isinstance(module, ConvStem):
            for weights in module.convolutions.parameters():
                init.kaiming_normal_(weights, nonlinearity="relu")
        elif isinstance(module, LayerScale):
            init.constant_(module.scale, module.value)
        elif isinstance(module, SeqViTAttention) and module.temperature is not None:
            init.constant_(module.temperature, module.initial_temperature)
        elif isinstance(probe := getattr(module, "probe", None), nn.Parameter):
            init.trunc_normal_(probe, std=deviation)

    def no_weight_decay(self) -> set[str]:
        """Names of the position tables and tokens (timm's convention); biases and norms are for the optimiser."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in _UNDECAYED}

    def layer_depths(self) -> dict[str, int]:
        """Each parameter's depth for layer-wise learning rates (Bao et al. 2021, BEiT): 0 for the embeddings, 1 … for
        the encoder's layers, and one more than the last for what follows."""
        last = self.config.num_hidden_layers + 1
        depths = {}
        for name, _ in self.named_parameters():
            part, _, rest = name.removeprefix("vit.").partition(".")
            if part == "layers":
                depths[name] = 1 + int(rest.partition(".")[0])
            else:
                depths[name] = 0 if part == "embeddings" else last
        return depths

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """As transformers', and learned positions are resized to `image_size`, if that differs from the checkpoint's.

        Give `image_size=…` (or a whole `config`) beside the checkpoint's name.
        """
        wanted = kwargs.pop("image_size", config.image_size if isinstance(config, PreTrainedConfig) else None)
        if wanted is not None and pretrained_model_name_or_path is not None:
            hub_arguments = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}
            trained = SeqViTConfig.from_pretrained(pretrained_model_name_or_path, **hub_arguments).image_size
            if config is None:
                kwargs["image_size"] = trained
            else:
                config = copy.deepcopy(config)  # the caller's own stays as it is
                config.image_size = trained
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, config=config, **kwargs)
        if wanted is not None:
            model = loaded[0] if isinstance(loaded, tuple) else loaded
            model.resize_positions(wanted)
        return loaded

    def resize_positions(self, image_size: Any) -> None:
        """Makes the model one for images of `image_size`: learned positions are resized, the configuration updated.

        Raises:
            ValueError: the size is not divisible by the patches.
        """
        embeddings = self.base_model.embeddings
        assert isinstance(embeddings, SeqViTEmbeddings)
        grid, new_grid = self.config.grid, patch_grid(image_size, self.config.patch_size)
        self.config.image_size = image_size if isinstance(image_size, int) else list(image_size)
        table = embeddings.position_embeddings
        if table is not None and new_grid != grid:
            with torch.no_grad():
                resized = resize_positions(table, grid, new_grid)
            embeddings.position_embeddings = nn.Parameter(resized.clone(), requires_grad=table.requires_grad)


_HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "token",
    "revision",
    "subfolder",
    "code_revision",
)


class SeqViTModel(SeqViTPreTrainedModel):
    """The encoder, with or without the pooler.

    Args:
        add_pooling_layer: whether `pooler_output` is computed, as `config.pooling` says.
        use_mask_token: whether masked patches have a learned embedding.
    """

    _keys_to_ignore_on_load_unexpected = PRETRAINING_ONLY

    def __init__(self, config: SeqViTConfig, add_pooling_layer: bool = True, use_mask_token: bool = False):
        super().__init__(config)
        sizes = LayerSizes(config.hidden_size, config.num_attention_heads, config.intermediate_size)
        depth = config.num_hidden_layers
        # Leaving out patches is for classifiers: what predicts every patch needs them all.
        patch_dropout_rate = config.patch_dropout_rate if add_pooling_layer else 0.0
        self.embeddings = SeqViTEmbeddings(config, use_mask_token, patch_dropout_rate)
        self.layers = nn.ModuleList(
            SeqViTLayer(config, sizes, config.drop_path_rate * number / max(depth - 1, 1)) for number in range(depth)
        )
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = build_pooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        ids_keep: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_output_tokens: int | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        r"""Encodes images.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, normalised.
            bool_masked_pos: `(batch, num_patches)`, true where the mask token takes a patch's place.
            ids_keep: `(batch, num_kept)` indices of the patches to encode; the others are left out. -1 fills up images
                that keep fewer.
            attention_mask: `(batch, num_patches)`, 0 on padding: images of several sizes in one batch, each in the top
                left corner. Positions are those of each image's own grid.
            interpolate_pos_encoding: resize the positions to images of another size than `config.image_size`.
            num_output_tokens: the last layer is computed for the first so many tokens only.

        Returns:
            `last_hidden_state` `(batch, num_prefix_tokens + num_kept, hidden)`: class, distillation and register
            tokens (those that there are), then patches, row by row; after the final LayerNorm. `hidden_states` are
            those before it. `pooler_output` `(batch, hidden)`.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        pixel_values = pixel_values.to(self.layernorm.weight.dtype)
        hidden_states, real_tokens = self.embeddings(
            pixel_values, bool_masked_pos, ids_keep, attention_mask, interpolate_pos_encoding
        )
        dense = bool(kwargs.get("output_attentions", self.config.output_attentions))
        mask = visibility(self.config, hidden_states, real_tokens, dense=dense)
        *layers, last = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        if num_output_tokens is not None:
            mask = visibility(self.config, hidden_states, real_tokens, num_output_tokens, dense)
        unnormalised = last(hidden_states, mask, num_output_tokens, **kwargs)
        hidden_states = self.layernorm(unnormalised)
        pooled = None
        if self.pooler is not None and self.config.norm_after_pooling:
            pooled = self.layernorm(self.pooler(unnormalised, real_tokens))
        elif self.pooler is not None:
            pooled = self.pooler(hidden_states, real_tokens)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


__all__ = ["PRETRAINING_ONLY", "LayerSizes", "SeqViTLayer", "SeqViTModel", "SeqViTPreTrainedModel", "visibility"]
