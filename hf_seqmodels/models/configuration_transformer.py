"""Configuration of the original Transformer (Vaswani et al. 2017, "Attention Is All You Need")."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN

from .saving import CarriesCode

# Vaswani et al. 2017, table 3: layers, width, heads, feed-forward width, dropout; and a small one for small corpora.
PRESETS = {
    "base": (6, 512, 8, 2048, 0.1),
    "big": (6, 1024, 16, 4096, 0.3),
    "small": (3, 256, 4, 1024, 0.3),
}

POSITIONS = ("sinusoidal", "learned")

# What a MarianMT checkpoint says of itself and must not carry over to ours.
_MARIAN_ONLY_KEYS = (
    "model_type",
    "architectures",
    "auto_map",
    "transformers_version",
    "is_decoder",
    "static_position",
)


@strict
class VanillaTransformerConfig(CarriesCode):
    r"""Configuration of the VanillaTransformer models.

    The fields are those of transformers' `MarianConfig`; a MarianMT checkpoint's `config.json` is accepted as it is.

    Args:
        vocab_size (`int`): of source and target together.
        d_model (`int`): width; also called `hidden_size`.
        normalize_before (`bool`): pre-LN: the norm inside the residual branch, and one at the end of the stack (Xiong
            et al. 2020); else post-LN, as published.
        position_embedding_type (`str`): `sinusoidal` (section 3.5) or `learned`.
        scale_embedding (`bool`): embeddings times √d_model (section 3.4).
        share_encoder_decoder_embeddings (`bool`): source and target have one table; with `tie_word_embeddings` the
            output layer has it, too (Press & Wolf 2017, three-way).
        label_smoothing (`float`): of the targets, while training (section 5.4).
        sparse_prediction (`bool`): while training on labels, run the output layer only where there is one; `logits` is
            `(num_targets, vocab_size)` then. Like the next, it changes the speed, never the result.
        unpad_inputs (`bool`): run everything but the attention itself on real tokens only, unless hidden states or
            attentions are asked for.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field of the wrong type or outside its range.
    """

    model_type = "vanilla_transformer"
    keys_to_ignore_at_inference = ["past_key_values", "encoder_last_hidden_state"]
    attribute_map = {
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
    }

    vocab_size: int = 8000
    d_model: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    activation_function: str = "relu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    normalize_before: bool = False
    position_embedding_type: str = "sinusoidal"
    max_position_embeddings: int = 1024
    scale_embedding: bool = True
    share_encoder_decoder_embeddings: bool = True
    init_std: float = 0.02
    label_smoothing: float | int = 0.0
    sparse_prediction: bool = True
    unpad_inputs: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "VanillaTransformerConfig":
        """A published size: base or big (Vaswani et al. 2017, table 3); or small, for small corpora.

        Raises:
            ValueError: `name` is not one of the presets.
        """
        if name not in PRESETS:
            raise ValueError(f"preset={name!r} is not known; choose one of {', '.join(PRESETS)}.")
        layers, width, heads, ffn, dropout = PRESETS[name]
        sizes: dict[str, Any] = {"d_model": width, "dropout": dropout}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": layers, f"{side}_attention_heads": heads, f"{side}_ffn_dim": ffn}
        return cls(**{**sizes, **overrides})

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict, dict]:
        """Reads `config.json`; that of a MarianMT model is taken as ours, since the fields are the same.

        Raises:
            ValueError: the checkpoint has two vocabularies, which VanillaTransformer does not have.
        """
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if config_dict.get("model_type") == "marian":
            vocab, target_vocab = config_dict.get("vocab_size"), config_dict.get("decoder_vocab_size")
            if target_vocab not in (None, vocab):
                raise ValueError(
                    f"decoder_vocab_size={target_vocab} is not vocab_size={vocab}: one vocabulary is needed."
                )
            config_dict = {key: value for key, value in config_dict.items() if key not in _MARIAN_ONLY_KEYS}
        return config_dict, kwargs

    def validate_sizes(self) -> None:
        """Every size is positive, and the heads divide the width."""
        for name in (
            "vocab_size",
            "d_model",
            "encoder_layers",
            "decoder_layers",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "max_position_embeddings",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(f"d_model={self.d_model} is not divisible by {name}={getattr(self, name)}.")
        if self.position_embedding_type == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model={self.d_model} must be even for sinusoidal positions.")

    def validate_rates(self) -> None:
        """Dropout rates and label smoothing lie in [0, 1)."""
        for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
        if self.init_std < 0:
            raise ValueError(f"init_std={self.init_std} must not be negative.")

    def validate_names(self) -> None:
        """Activation and positions are known ones; special tokens are in the vocabulary."""
        if self.activation_function not in ACT2FN:
            raise ValueError(f"activation_function={self.activation_function!r} is not known to transformers.")
        if self.position_embedding_type not in POSITIONS:
            raise ValueError(
                f"position_embedding_type={self.position_embedding_type!r} is not known; choose one of "
                f"{', '.join(POSITIONS)}."
            )
        for name in ("pad_token_id", "decoder_start_token_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                raise ValueError(f"{name}={value} must lie in [0, vocab_size={self.vocab_size}).")
        if self.share_encoder_decoder_embeddings and not self.tie_word_embeddings:
            raise ValueError(
                "share_encoder_decoder_embeddings=True needs tie_word_embeddings=True, which ties all tables or none."
            )


__all__ = ["VanillaTransformerConfig"]
