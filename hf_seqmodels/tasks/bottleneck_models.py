"""Encoder–decoders of about the same size for copying and reversing."""

import copy
from typing import Any

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
from hf_seqmodels.tasks.model_sizes import fitting_width

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


def matched_config(args: BottleneckArguments, model: str, task: CopyingTask) -> PreTrainedConfig:
    """The configuration whose number of trained parameters is nearest to `args.parameter_budget`.

    Raises:
        ValueError: even the smallest model has more than twice the budget, or an override is refused.
    """
    multiple = args.transformer_heads if model == "vanilla_transformer" else _DIRECTIONS

    def config_of(width: int) -> PreTrainedConfig:
        return _config(args, model, task, width)

    return config_of(
        fitting_width(lambda width: build_model(config_of(width)), args.parameter_budget, multiple, model)
    )


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
