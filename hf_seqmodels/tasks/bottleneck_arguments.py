"""Arguments of the comparison of encoder–decoders on copying and reversing, apart from the engine's."""

from dataclasses import dataclass, field
from typing import Any

from hf_seqmodels.data.copying import TASKS

MODELS = ("seq2seq", "attention_seq2seq", "vanilla_transformer")

# What the engine's flags begin with here, where its own defaults are for pretraining.
ENGINE_DEFAULTS: dict[str, Any] = {
    "max_steps": 2500,
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 100,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "wsd",
    "warmup_steps": 200.0,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-8,
    "logging_steps": 50,
    "save_total_limit": 1,
    "resume_from_checkpoint": "auto",
}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class BottleneckArguments:
    """Tasks and models

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    tasks: list[str] = field(
        default_factory=lambda: list(TASKS), metadata={"help": f"Of {', '.join(TASKS)}; each model learns each anew."}
    )
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": f"Of {', '.join(MODELS)}."})
    shortest: int = _option(5, "Symbols of the shortest source.")
    longest: int = _option(60, "Symbols of the longest source.")
    num_symbols: int = _option(24, "Different symbols.")
    bucket_width: int = _option(8, "Lengths that are reported together.")
    parameter_budget: int = _option(
        250_000, "Hidden sizes are chosen so that every model has about so many parameters."
    )
    num_hidden_layers: int = _option(1, "Layers of the recurrent encoders and decoders.")
    transformer_layers: int = _option(2, "Layers of the Transformer's encoder and decoder.")
    transformer_heads: int = _option(4, "Heads of the Transformer, an even number.")
    config_overrides: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata={"help": "By model: fields of its configuration, such as {seq2seq: {feed_context: true}}."},
    )
    learning_rates: dict[str, float] = field(
        default_factory=dict, metadata={"help": "By model: its learning_rate, where it differs."}
    )
    epoch_examples: int = _option(10_000, "Examples of an epoch; the next epoch has new ones.")
    eval_examples: int = _option(1000, "Held-out examples.")
    bucket_window: int = _option(1000, "Examples among which those of similar length make a batch.")

    def __post_init__(self) -> None:
        for name, known in (("tasks", TASKS), ("models", MODELS)):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}={values} must name at least one, and none twice.")
            _check_known(name, values, known)
        for name in ("config_overrides", "learning_rates"):
            _check_known(name, getattr(self, name), MODELS)
        for name in (
            "bucket_width",
            "parameter_budget",
            "num_hidden_layers",
            "transformer_layers",
            "transformer_heads",
            "epoch_examples",
            "eval_examples",
            "bucket_window",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for model, fields in self.config_overrides.items():
            sizes = sorted({"hidden_size", "d_model"} & set(fields))
            if sizes:
                raise ValueError(f"config_overrides: {sizes[0]} of {model} follows from parameter_budget; set that.")
        for model, rate in self.learning_rates.items():
            if rate <= 0:
                raise ValueError(f"learning_rates: {rate} of {model} must be above 0.")


def _check_known(name: str, values: Any, known: tuple[str, ...]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        raise ValueError(f"{name}: {unknown[0]!r} is not known; choose from {', '.join(known)}.")
