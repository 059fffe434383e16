"""Arguments of the long-range comparison, apart from the engine's."""

from dataclasses import dataclass, field
from typing import Any, Literal

MODELS = ("rnn", "lstm", "gru", "seq_bert")
SHORTEST = 4

# What the engine's flags begin with here, where its own defaults are for pretraining.
ENGINE_DEFAULTS: dict[str, Any] = {
    "max_steps": 2500,
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 250,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "wsd",
    "warmup_steps": 100.0,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-8,
    "logging_steps": 50,
    "save_total_limit": 1,
    "resume_from_checkpoint": "auto",
}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class LongRangeArguments:
    """Problem and models

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    problem: Literal["adding", "copy", "recall"] = _option(
        "adding",
        "adding: the sum of two marked numbers; copy: ten symbols, repeated after a pause; recall: the value that "
        "went with a key before the pause.",
    )
    lengths: list[int] = field(
        default_factory=lambda: [200],
        metadata={"help": "Lengths T of the problem; every model is trained anew on each."},
    )
    models: list[str] = field(
        default_factory=lambda: list(MODELS),
        metadata={"help": f"Of {', '.join(MODELS)}; seq_bert is the attention model and sees both directions."},
    )
    num_seeds: int = _option(1, "Runs of every model on every length, with the seeds seed, seed + 1, …")
    parameter_budget: int = _option(
        67_700, "Hidden sizes are chosen so that every model has about so many parameters; an LSTM of 128 units."
    )
    num_hidden_layers: int = _option(1, "Layers of the recurrent models.")
    seq_bert_layers: int = _option(2, "Layers of seq_bert.")
    seq_bert_heads: int = _option(4, "Heads of seq_bert.")
    chrono_initialization: bool = _option(
        True, "LSTM and GRU begin with memories up to the length of the input (Tallec & Ollivier 2018)."
    )
    config_overrides: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata={"help": "By model: fields of its configuration, such as {lstm: {forget_gate_bias: 3}}."},
    )
    learning_rates: dict[str, float] = field(
        default_factory=dict, metadata={"help": "By model: its learning_rate, where it differs."}
    )
    epoch_examples: int = _option(10_000, "Examples of an epoch; the next epoch has new ones.")
    eval_examples: int = _option(1000, "Held-out examples.")
    gradient_examples: int = _option(16, "Held-out examples that gradients are averaged over.")

    def __post_init__(self) -> None:
        for name in ("lengths", "models"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}={values} must name at least one, and none twice.")
        for given, what in (
            (self.models, "models"),
            (self.config_overrides, "config_overrides"),
            (self.learning_rates, "learning_rates"),
        ):
            unknown = [name for name in given if name not in MODELS]
            if unknown:
                raise ValueError(f"{what}: {unknown[0]!r} is not known; choose from {', '.join(MODELS)}.")
        if min(self.lengths) < SHORTEST:
            raise ValueError(f"lengths={self.lengths} must be at least {SHORTEST}.")
        for name in (
            "num_seeds",
            "parameter_budget",
            "num_hidden_layers",
            "seq_bert_layers",
            "seq_bert_heads",
            "epoch_examples",
            "eval_examples",
            "gradient_examples",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for model, fields in self.config_overrides.items():
            if "hidden_size" in fields:
                raise ValueError(f"config_overrides: hidden_size of {model} follows from parameter_budget; set that.")
        for model, rate in self.learning_rates.items():
            if rate <= 0:
                raise ValueError(f"learning_rates: {rate} of {model} must be above 0.")
