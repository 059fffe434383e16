"""VanillaTransformer to CTranslate2, a library for fast inference (https://opennmt.net/CTranslate2).

Needs the extra [ctranslate2]. The folder that is written is what `ctranslate2.Translator` loads. It takes sources as
lists of tokens with their end, `tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])`, and returns targets
without it.

`translate_batch(sources, beam_size=n, min_decoding_length=0, max_decoding_length=m)` gives what `generate(num_beams=n,
early_stopping=True, max_new_tokens=m)` gives: CTranslate2 ends a search as soon as n translations are complete
(`patience` makes it wait), and its own default for the shortest translation is one token.
"""

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

try:
    from ctranslate2.converters import Converter
    from ctranslate2.converters.transformers import _SUPPORTED_ACTIVATIONS, BartLoader
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES
except ModuleNotFoundError as error:
    raise ImportError(
        "hf_seqmodels.conversion.ctranslate2 needs the extra: pip install 'hf_seqmodels[ctranslate2]'."
    ) from error


def to_ctranslate2(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    output_dir: str | PathLike[str],
    quantization: str | None = None,
) -> Path:
    """Writes a model of CTranslate2: post- or pre-LN, sinusoidal or learned positions.

    Args:
        model: what to convert; it is not changed.
        tokenizer: its tokens are the vocabulary, so translations are tokens of it.
        output_dir: a new folder.
        quantization: of the weights: `int8`, `float16`, …; `None` keeps their type.

    Returns:
        `output_dir`.

    Raises:
        ValueError: `output_dir` exists already, or the model, its vocabulary or the quantization is not one that
            CTranslate2 can have.
    """
    folder = Path(output_dir)
    if folder.exists():
        raise ValueError(f"output_dir={str(folder)!r} exists already; choose a new folder.")
    if quantization is not None and quantization not in ACCEPTED_MODEL_TYPES:
        raise ValueError(
            f"quantization={quantization!r} is not known; choose one of {', '.join(ACCEPTED_MODEL_TYPES)}."
        )
    if not isinstance(model, VanillaTransformerForConditionalGeneration):
        raise ValueError(f"model={type(model).__name__}: can convert VanillaTransformerForConditionalGeneration only.")
    _check_config(model.config)
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens, but the model vocab_size={model.config.vocab_size}."
        )
    _Converter(model, tokenizer).convert(str(folder), quantization=quantization)
    return folder


def convert_folder(
    folder: str | PathLike[str], output_dir: str | PathLike[str], quantization: str | None = None
) -> Path:
    """As `to_ctranslate2`, of a folder with a VanillaTransformer and its tokenizer.

    Raises:
        ValueError: `folder` is none with a model, or as `to_ctranslate2`.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"folder={str(folder)!r} has no config.json.")
    model: Any = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    return to_ctranslate2(model, AutoTokenizer.from_pretrained(folder), output_dir, quantization)


def _check_config(config: VanillaTransformerConfig) -> None:
    if config.activation_function not in _SUPPORTED_ACTIVATIONS:
        raise ValueError(
            f"activation_function={config.activation_function!r}: CTranslate2 has "
            f"{', '.join(sorted(_SUPPORTED_ACTIVATIONS))}."
        )
    if config.decoder_start_token_id is None:
        raise ValueError("decoder_start_token_id=None: a translation has to begin with some token.")


class _Converter(Converter):
    def __init__(self, model: VanillaTransformerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def _load(self) -> Any:
        return _Loader()(self.model, self.tokenizer)


class _Loader(BartLoader):
    """CTranslate2's own reading of Bart's layers, which ours are named as; what surrounds them differs."""

    def get_model_spec(self, model: VanillaTransformerForConditionalGeneration) -> Any:
        config = model.config
        options = {
            "pre_norm": config.normalize_before,
            "activation": _SUPPORTED_ACTIVATIONS[config.activation_function],
        }
        spec = TransformerSpec(
            TransformerEncoderSpec(config.encoder_layers, config.encoder_attention_heads, **options),
            TransformerDecoderSpec(config.decoder_layers, config.decoder_attention_heads, **options),
        )
        self.set_encoder(spec.encoder, model.model.encoder)
        self.set_decoder(spec.decoder, model.model.decoder)
        self.set_linear(spec.decoder.projection, model.lm_head)
        if model.final_logits_bias.any():
            spec.decoder.projection.bias = model.final_logits_bias[0]
        return spec

    def set_common_layers(self, spec: Any, module: Any) -> None:
        # Bart always has the first norm, and ours names the last one without having it.
        spec.scale_embeddings = module.embed_scale
        self.set_position_encodings(spec.position_encodings, module.embed_positions)
        embeddings = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
        self.set_embeddings(embeddings, module.embed_tokens)
        if module.layer_norm is not None:
            self.set_layer_norm(spec.layer_norm, module.layer_norm)

    def get_vocabulary(self, model: VanillaTransformerForConditionalGeneration, tokenizer: Any) -> list[str]:
        # A table may have rows that no token uses.
        tokens = super().get_vocabulary(model, tokenizer)
        return [*tokens, *(f"<unused {index}>" for index in range(len(tokens), model.config.vocab_size))]


__all__ = ["convert_folder", "to_ctranslate2"]
