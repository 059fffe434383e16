"""SeqBert from and to transformers' BERT: the same weights under the same names, the same function.

`SeqBert….from_pretrained(<folder of a BERT checkpoint>)` needs none of this; it reads such a folder as it is. These
functions convert models in memory, and give `save_pretrained` something that programs without hf_seqmodels can load.
"""

from typing import Any

import transformers
from transformers import BertConfig, BertPreTrainedModel, PreTrainedModel

from hf_seqmodels.conversion.filling import filled_model
from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.modeling_bert import SeqBertPreTrainedModel
from hf_seqmodels.registry import ARCHITECTURES

# Each head by the part of its name that both libraries share: "ForMaskedLM" of SeqBertForMaskedLM and BertForMaskedLM.
_OURS = {
    model.__name__.removeprefix("SeqBert"): model
    for architecture in ARCHITECTURES
    if architecture.config is SeqBertConfig
    for model in architecture.models.values()
}

# Fields that say of a configuration which class it is and where it came from, or that only one side has.
_NOT_SHARED = {"model_type", "architectures", "auto_map", "transformers_version", "_name_or_path"}
_ONLY_OURS = {"sparse_prediction", "sparse_last_layer", "unpad_inputs"}
_ONLY_BERT = {"is_decoder", "add_cross_attention", "use_cache", "position_embedding_type"}

_DECODER_BIAS, _UNUSED_BIAS = "cls.predictions.decoder.bias", "cls.predictions.bias"


def config_from_transformers(config: BertConfig, **overrides: Any) -> SeqBertConfig:
    """Our configuration of the same architecture; `overrides` set fields that only ours has (`unpad_inputs`, …).

    Raises:
        ValueError: the configuration is of a decoder, or of relative positions, which SeqBert does not have.
    """
    if config.is_decoder or config.add_cross_attention:
        name = "is_decoder" if config.is_decoder else "add_cross_attention"
        raise ValueError(f"{name}=True: SeqBert is an encoder; a BERT decoder cannot be converted.")
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions != "absolute":
        raise ValueError(f"position_embedding_type={positions!r}: SeqBert has 'absolute' positions only.")
    ours = SeqBertConfig(**{**_shared_fields(config, _ONLY_BERT), **overrides})
    ours._attn_implementation = config._attn_implementation
    return ours


def config_to_transformers(config: SeqBertConfig) -> BertConfig:
    """transformers' configuration of the same architecture; the switches of our speed-ups have no place in it."""
    theirs = BertConfig(**_shared_fields(config, _ONLY_OURS))
    theirs._attn_implementation = config._attn_implementation
    return theirs


def from_transformers(model: BertPreTrainedModel, **config_overrides: Any) -> SeqBertPreTrainedModel:
    """Our model of the same head with a copy of the weights.

    Args:
        model: a `BertModel`, `BertForPreTraining`, `BertForMaskedLM`, … of transformers.
        config_overrides: fields of `SeqBertConfig` to set on the way.

    Returns:
        A model in the same mode (train or eval), dtype and place. Outputs differ only by the order of additions.

    Raises:
        ValueError: no SeqBert class has this head, or the model is a decoder.
    """
    name = type(model).__name__
    suffix = name.removeprefix("Bert")
    if not isinstance(model, BertPreTrainedModel) or suffix not in _OURS:
        known = ", ".join(f"Bert{suffix}" for suffix in _OURS)
        raise ValueError(f"model={name}: there is no SeqBert class with this head; can convert {known}.")
    return _copy(model, _OURS[suffix], config_from_transformers(model.config, **config_overrides))


def to_transformers(model: SeqBertPreTrainedModel) -> BertPreTrainedModel:
    """transformers' model of the same head with a copy of the weights; the reverse of `from_transformers`.

    Raises:
        ValueError: the model is no SeqBert.
    """
    name = type(model).__name__
    suffix = name.removeprefix("SeqBert")
    if not isinstance(model, SeqBertPreTrainedModel) or suffix not in _OURS:
        known = ", ".join(f"SeqBert{suffix}" for suffix in _OURS)
        raise ValueError(f"model={name} is not a SeqBert; can convert {known}.")
    return _copy(model, getattr(transformers, f"Bert{suffix}"), config_to_transformers(model.config))


def _copy(model: PreTrainedModel, model_class: Any, config: Any) -> Any:
    """`model_class(config)` with the pooler, weights, dtype, place and mode of `model`."""
    # A base model may come without its pooler; the heads decide for themselves.
    has_choice = model is model.base_model
    kwargs: dict[str, Any] = {"add_pooling_layer": model.pooler is not None} if has_choice else {}
    weights = dict(model.state_dict())
    if not config.tie_word_embeddings and _DECODER_BIAS in weights:
        # transformers' untied head has a second bias that nothing uses; ours has not.
        weights.pop(_UNUSED_BIAS, None)
        if not issubclass(model_class, SeqBertPreTrainedModel):
            weights[_UNUSED_BIAS] = weights[_DECODER_BIAS]
    like = next(iter(weights.values()))
    return filled_model(model_class, config, weights, like, **kwargs).train(model.training)


def _shared_fields(config: Any, left_out: set[str]) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in _NOT_SHARED | left_out}


__all__ = ["config_from_transformers", "config_to_transformers", "from_transformers", "to_transformers"]
