"""VanillaTransformer from and to transformers' MarianMT: the same weights under the same names, the same function.

`VanillaTransformerForConditionalGeneration.from_pretrained(<folder of a MarianMT checkpoint>)` needs none of this; it
reads such a folder as it is. These functions convert models in memory, and give `save_pretrained` something that
programs without hf_seqmodels can load.
"""

import copy
from typing import Any

from transformers import MarianConfig, MarianMTModel, PreTrainedModel

from hf_seqmodels.conversion.filling import Weights, filled_model
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

# Fields that say of a configuration which class it is and where it came from, or that only one side has.
_NOT_SHARED = {"model_type", "architectures", "auto_map", "transformers_version", "_name_or_path"}
_ONLY_OURS = {"normalize_before", "position_embedding_type", "label_smoothing", "sparse_prediction", "unpad_inputs"}
_ONLY_MARIAN = {"decoder_vocab_size", "encoder_layerdrop", "decoder_layerdrop", "is_decoder", "static_position"}

# Sinusoids: a weight in Marian's state, computed in ours.
_POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")


def config_from_transformers(config: MarianConfig, **overrides: Any) -> VanillaTransformerConfig:
    """Our configuration of the same architecture; `overrides` set fields that only ours has (`label_smoothing`, …).

    Raises:
        ValueError: the configuration has two vocabularies, or drops whole layers while training, neither of which
            VanillaTransformer does.
    """
    if config.decoder_vocab_size not in (None, config.vocab_size):
        raise ValueError(
            f"decoder_vocab_size={config.decoder_vocab_size} is not vocab_size={config.vocab_size}: "
            "VanillaTransformer has one vocabulary for source and target."
        )
    for name in ("encoder_layerdrop", "decoder_layerdrop"):
        if getattr(config, name):
            raise ValueError(f"{name}={getattr(config, name)}: VanillaTransformer drops no layers; set it to 0.")
    ours = VanillaTransformerConfig(**{**_shared_fields(config, _ONLY_MARIAN), **overrides})
    ours._attn_implementation = config._attn_implementation
    return ours


def config_to_transformers(config: VanillaTransformerConfig) -> MarianConfig:
    """transformers' configuration of the same architecture; label smoothing and our speed-ups have no place in it.

    Raises:
        ValueError: the norms come first, positions are learned, or there is no start or padding token.
    """
    if config.normalize_before:
        raise ValueError("normalize_before=True: MarianMT is post-LN, so a pre-LN model cannot be converted.")
    if config.position_embedding_type != "sinusoidal":
        raise ValueError(
            f"position_embedding_type={config.position_embedding_type!r}: MarianMT has 'sinusoidal' positions only."
        )
    for name in ("decoder_start_token_id", "pad_token_id"):
        if getattr(config, name) is None:
            raise ValueError(f"{name}=None: MarianMT needs a token id in [0, vocab_size={config.vocab_size}).")
    theirs = MarianConfig(**_shared_fields(config, _ONLY_OURS))
    theirs._attn_implementation = config._attn_implementation
    return theirs


def from_transformers(model: MarianMTModel, **config_overrides: Any) -> VanillaTransformerForConditionalGeneration:
    """Our model with a copy of the weights and of the generation configuration.

    Args:
        model: a `MarianMTModel` of transformers.
        config_overrides: fields of `VanillaTransformerConfig` to set on the way.

    Returns:
        A model in the same mode (train or eval), dtype and place. Outputs differ only by the order of additions, and
        where padding comes first: ours counts positions from the first real token, Marian from the padding.

    Raises:
        ValueError: the model is no MarianMT, or of an architecture that VanillaTransformer does not have.
    """
    if not isinstance(model, MarianMTModel):
        raise ValueError(f"model={type(model).__name__}: can convert MarianMTModel only.")
    config = config_from_transformers(model.config, **config_overrides)
    weights = {name: weight for name, weight in model.state_dict().items() if name not in _POSITIONS}
    return _copy(model, VanillaTransformerForConditionalGeneration, config, weights)


def to_transformers(model: VanillaTransformerForConditionalGeneration) -> MarianMTModel:
    """transformers' model with a copy of the weights and of the generation configuration.

    Raises:
        ValueError: the model is no VanillaTransformer with a language-modelling head, or of an architecture that
            MarianMT does not have.
    """
    if not isinstance(model, VanillaTransformerForConditionalGeneration):
        name = type(model).__name__
        raise ValueError(f"model={name}: can convert VanillaTransformerForConditionalGeneration only.")
    config = config_to_transformers(model.config)
    positions = {name: model.get_buffer(name) for name in _POSITIONS}
    return _copy(model, MarianMTModel, config, {**model.state_dict(), **positions})


def _copy(model: PreTrainedModel, model_class: Any, config: Any, weights: Weights) -> Any:
    """`model_class(config)` with these weights, and the dtype, place, mode and way to generate of `model`."""
    like = next(iter(weights.values()))
    copied = filled_model(model_class, config, weights, like).train(model.training)
    copied.generation_config = copy.deepcopy(model.generation_config)
    return copied


def _shared_fields(config: Any, left_out: set[str]) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _NOT_SHARED | left_out}


__all__ = ["config_from_transformers", "config_to_transformers", "from_transformers", "to_transformers"]
