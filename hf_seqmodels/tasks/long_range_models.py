"""Models of about the same size for the long-range problems."""

import copy
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_seqmodels.data.long_range import LongRangeProblem
from hf_seqmodels.tasks.long_range_arguments import LongRangeArguments
from hf_seqmodels.tasks.model_sizes import fitting_width

_INPUT_NUMBERS = 2


def matched_config(args: LongRangeArguments, model: str, problem: LongRangeProblem) -> PreTrainedConfig:
    """The configuration whose number of trained parameters is nearest to `args.parameter_budget`.

    Raises:
        ValueError: even the smallest model has more than twice the budget, or an override is refused.
    """
    multiple = args.seq_bert_heads if model == "seq_bert" else 1
    what = f"{model} on length {problem.length}"

    def config_of(width: int) -> PreTrainedConfig:
        return _config(args, model, problem, width)

    return config_of(
        fitting_width(lambda width: build_model(config_of(width), problem), args.parameter_budget, multiple, what)
    )


def build_model(config: PreTrainedConfig, problem: LongRangeProblem) -> PreTrainedModel:
    """A new model: a regression of a sequence for adding, a tagger of steps for copying and recall."""
    config = copy.deepcopy(config)  # saving a model writes into its own
    if problem.num_recalled:
        return AutoModelForTokenClassification.from_config(config)
    model = AutoModelForSequenceClassification.from_config(config)
    # The numbers come as embeddings, so the table has no use.
    model.get_input_embeddings().requires_grad_(False)
    return model


def _config(args: LongRangeArguments, model: str, problem: LongRangeProblem, hidden_size: int) -> PreTrainedConfig:
    fields: dict[str, Any] = {"hidden_size": hidden_size, "pad_token_id": None}
    fields |= {"vocab_size": problem.vocab_size, "num_labels": problem.num_labels}
    if not problem.num_recalled:
        fields["problem_type"] = "regression"
    if model == "seq_bert":
        fields |= {
            "num_hidden_layers": args.seq_bert_layers,
            "num_attention_heads": args.seq_bert_heads,
            "intermediate_size": 4 * hidden_size,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": problem.num_steps,
            "type_vocab_size": 1,
            # For so small a width the published deviation of 0.02 starts too near zero.
            "initializer_range": hidden_size**-0.5,
        }
    else:
        fields |= {
            "num_hidden_layers": args.num_hidden_layers,
            "embedding_size": problem.vocab_size if problem.num_recalled else _INPUT_NUMBERS,
            "pooling": "last",
        }
    if args.chrono_initialization and model in ("lstm", "gru"):
        fields["chrono_max_length"] = problem.num_steps
    return AutoConfig.for_model(model, **{**fields, **args.config_overrides.get(model, {})})
