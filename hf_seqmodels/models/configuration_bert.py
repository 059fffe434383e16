"""Configuration of SeqBert (Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers")."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN

from .saving import CarriesCode

# Sizes released with Turc et al. 2019, "Well-Read Students Learn Better" (tiny … medium), and Devlin et al. 2018
# (base, large): layers, hidden size. Heads are hidden / 64 and the feed-forward is 4 × hidden throughout.
PRESETS = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}

# What a transformers BERT checkpoint says of itself and must not carry over to ours.
_BERT_ONLY_KEYS = ("model_type", "architectures", "auto_map", "transformers_version", "position_embedding_type")


@strict
class SeqBertConfig(CarriesCode):
    r"""Configuration of the SeqBert models.

    The fields are those of transformers' `BertConfig`; a BERT checkpoint's `config.json` is accepted as it is. Three
    more switch how the same function is computed; they change speed and memory, never the result:

    Args:
        sparse_prediction (`bool`, *optional*, defaults to `True`):
            While training with labels, run the vocabulary head only where `labels != -100`. `prediction_logits`
            (`logits` in `SeqBertForMaskedLM`) then has the shape `(num_masked, vocab_size)`.
        sparse_last_layer (`bool`, *optional*, defaults to `True`):
            While training with `sparse_prediction`, compute the last layer only for masked positions and [CLS], unless
            hidden states or attentions are asked for.
        unpad_inputs (`bool`, *optional*, defaults to `False`):
            Drop the padding of a batch and run its rows as one packed row (block-diagonal attention); outputs come
            back padded, with zeros on padding.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field of the wrong type or outside its range.
    """

    model_type = "seq_bert"
    keys_to_ignore_at_inference = ["mlm_loss", "nsp_loss"]

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float | int = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    sparse_prediction: bool = True
    sparse_last_layer: bool = True
    unpad_inputs: bool = False

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "SeqBertConfig":
        """A published size: tiny, mini, small, medium (Turc et al. 2019), base or large (Devlin et al. 2018).

        Raises:
            ValueError: `name` is not one of the presets.
        """
        if name not in PRESETS:
            raise ValueError(f"preset={name!r} is not known; choose one of {', '.join(PRESETS)}.")
        layers, hidden = PRESETS[name]
        sizes = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
        return cls(**{**sizes, **overrides})

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict, dict]:
        """Reads `config.json`; that of a transformers BERT is taken as ours, since the fields are the same.

        Raises:
            ValueError: the checkpoint is a BERT decoder or has relative positions, which SeqBert does not have.
        """
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if config_dict.get("model_type") == "bert":
            if config_dict.get("is_decoder"):
                raise ValueError("is_decoder=True: SeqBert is an encoder; a BERT decoder checkpoint cannot be loaded.")
            positions = config_dict.get("position_embedding_type", "absolute")
            if positions != "absolute":
                raise ValueError(f"position_embedding_type={positions!r}: SeqBert has 'absolute' positions only.")
            config_dict = {key: value for key, value in config_dict.items() if key not in _BERT_ONLY_KEYS}
        return config_dict, kwargs

    def validate_sizes(self) -> None:
        """Every size is positive, and the heads divide the hidden size."""
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by num_attention_heads={self.num_attention_heads}."
            )

    def validate_rates(self) -> None:
        """Dropout rates lie in [0, 1); the scales of initialisation and normalisation make sense."""
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1).")
        if self.layer_norm_eps <= 0:
            raise ValueError(f"layer_norm_eps={self.layer_norm_eps} must be positive.")
        if self.initializer_range < 0:
            raise ValueError(f"initializer_range={self.initializer_range} must not be negative.")

    def validate_names(self) -> None:
        """The activation is one that transformers knows, and the padding id is in the vocabulary."""
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act={self.hidden_act!r} is not known; choose one of {', '.join(sorted(ACT2FN))}."
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} must lie in [0, vocab_size={self.vocab_size}).")


__all__ = ["SeqBertConfig"]
