"""Encoder–decoders of about the same size for copying and reversing."""

import bisect
import copy
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from hf_seqmodels.data.copying import BOS, EOS, PAD, CopyingTask
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig, Seq2SeqConfig
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_seq2seq import (
    AttentionSeq2SeqForConditionalGeneration,
    Seq2SeqForConditionalGeneration,
)
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration
from hf_seqmodels.tasks.bottleneck_arguments import BottleneckArguments
from hf_seqmodels.tasks.long_range_models import num_trained

_CLASSES: dict[str, tuple[Any, Any]] = {
    config.model_type: (config, model)
    for config, model in (
        (Seq2SeqConfig, Seq2SeqForConditionalGeneration),
        (AttentionSeq2SeqConfig, AttentionSeq2SeqForConditionalGeneration),
        (VanillaTransformerConfig, VanillaTransformerForConditionalGeneration),
    )
}
# The encoder's two directions share the units.
_DIRECTIONS = 2
_LARGEST = 1024


def matched_config(args: BottleneckArguments, model: str, task: CopyingTask) -> PreTrainedConfig:
    """The configuration whose number of trained parameters is nearest to `args.parameter_budget`.

    Raises:
        ValueError: even the smallest model has more than twice the budget, or an override is refused.
    """
    multiple = args.transformer_heads if model == "vanilla_transformer" else _DIRECTIONS

    def config_of(multiples: int) -> PreTrainedConfig:
        return _config(args, model, task, multiples * multiple)

    def size_of(multiples: int) -> int:
        with torch.device("meta"):
            return num_trained(build_model(config_of(multiples)))

    # Sizes grow with the width, so the nearest is the first that reaches the budget, or the one before.
    reaching = bisect.bisect_left(range(1, _LARGEST), args.parameter_budget, key=size_of) + 1
    sizes = {multiples: size_of(multiples) for multiples in (max(reaching - 1, 1), reaching)}
    nearest = min(sizes, key=lambda multiples: abs(sizes[multiples] - args.parameter_budget))
    if sizes[nearest] > 2 * args.parameter_budget:
        raise ValueError(
            f"parameter_budget={args.parameter_budget} is too small: {model} has at least {sizes[nearest]} parameters."
        )
    return config_of(nearest)


def build_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A new model."""
    # Saving a model writes into its configuration.
    return _CLASSES[config.model_type][1](copy.deepcopy(config))


def _config(args: BottleneckArguments, model: str, task: CopyingTask, hidden_size: int) -> PreTrainedConfig:
    fields: dict[str, Any] = {
        "vocab_size": task.vocab_size,
        "hidden_size": hidden_size,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": BOS,
    }
    if model == "vanilla_transformer":
        fields["d_model"] = fields.pop("hidden_size")
        # Examples never end, so there is nothing to be learnt by heart.
        fields |= {"dropout": 0.0, "max_position_embeddings": task.longest + 2}
        for side in ("encoder", "decoder"):
            fields[f"{side}_layers"] = args.transformer_layers
            fields[f"{side}_attention_heads"] = args.transformer_heads
            fields[f"{side}_ffn_dim"] = 4 * hidden_size
    else:
        fields["num_hidden_layers"] = args.num_hidden_layers
    return _CLASSES[model][0](**{**fields, **args.config_overrides.get(model, {})})
