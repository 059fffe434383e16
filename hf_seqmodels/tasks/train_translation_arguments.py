"""Arguments of the translation models' training, apart from the engine's."""

from dataclasses import dataclass, field
from typing import Any

from hf_seqmodels.data.dates import DEFAULT_LOCALES
from hf_seqmodels.models.configuration_transformer import PRESETS
from hf_seqmodels.training.scheduled_sampling import SAMPLING_SCHEDULES, build_sampling_schedule

MODEL_TYPES = ("seq2seq", "attention_seq2seq", "vanilla_transformer")
TOKENIZATIONS = ("bpe", "character")
METRICS = ("bleu", "chrf", "exact_match", "loss")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}.")


@dataclass
class ParallelArguments:
    """Parallel text (without --train_file or --dataset_name: dates in many languages into ISO 8601)"""

    train_file: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Two text files whose lines belong together, source first; or one table: .tsv, .csv, .json, "
            ".jsonl, .parquet. Each may be packed (.gz)."
        },
    )
    validation_file: list[str] = field(
        default_factory=list, metadata={"help": "The same, to evaluate on; by default the end of the pairs."}
    )
    test_file: list[str] = field(default_factory=list, metadata={"help": "The same, for --test."})
    dataset_name: str | None = _option(None, "A dataset on the Hub, a local dataset folder, or one by save_to_disk.")
    dataset_config_name: str | None = _option(None, "The dataset's configuration.")
    validation_split: str = _option("validation", "The dataset's split to evaluate on.")
    test_split: str = _option("test", "The dataset's split for --test.")
    source_column: str | None = _option(
        None, "A table's or dataset's column, its number from 1, or a language of its column `translation`."
    )
    target_column: str | None = _option(None, "As source_column.")
    skip_empty: bool = _option(False, "Leave pairs out of which a side is empty.")
    held_out: float = _option(0.02, "Share at the end of the pairs that is evaluated on, without validation_file.")
    num_dates: int = _option(20000, "Dates to train on, where no data is named; 1,000 others for each evaluation.")
    date_locales: list[str] = field(
        default_factory=lambda: list(DEFAULT_LOCALES),
        metadata={"help": "How dates are written: CLDR's locales, such as en ko pt_BR."},
    )
    lowercase: bool = _option(False, "Fold case on both sides. BLEU is then that of lower-case text.")
    tokenization: str | None = _option(
        None, "bpe = byte-level, one vocabulary for both sides; character. Default: bpe, and character for dates."
    )
    vocab_size: int = _option(8000, "Entries of the BPE tokenizer that is trained.")
    tokenizer_name: str | None = _option(None, "Use this tokenizer instead.")
    max_source_length: int = _option(128, "Longest source in tokens.")
    max_target_length: int = _option(128, "Longest target in tokens, to train on and to generate.")
    truncate: bool = _option(False, "Cut longer sentences; otherwise they are an error.")

    def __post_init__(self) -> None:
        if self.tokenization is not None:
            _choice("tokenization", self.tokenization, TOKENIZATIONS)
        if self.train_file and self.dataset_name:
            raise ValueError("train_file and dataset_name are both given; give one of the two.")
        for name in ("validation_file", "test_file"):
            if getattr(self, name) and not self.train_file:
                raise ValueError(f"{name}={getattr(self, name)} goes with train_file, which is not given.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out={self.held_out} must lie in (0, 1).")
        if self.num_dates < 1:
            raise ValueError(f"num_dates={self.num_dates} must be at least 1.")

    @property
    def is_dates(self) -> bool:
        """Whether the embedded task is trained."""
        return not self.train_file and self.dataset_name is None


@dataclass
class TranslationModelArguments:
    """Model"""

    model_type: str = _option("vanilla_transformer", f"{', '.join(MODEL_TYPES)}.")
    preset: str | None = _option(None, f"Size of a vanilla_transformer: {', '.join(PRESETS)}.")
    config_overrides: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Fields of the model's configuration, over the preset's."}
    )
    model_name_or_path: str | None = _option(None, "Go on from this model, with its tokenizer.")

    def __post_init__(self) -> None:
        _choice("model_type", self.model_type, MODEL_TYPES)
        if self.preset is not None:
            _choice("preset", self.preset, tuple(PRESETS))
            if self.model_type != "vanilla_transformer":
                raise ValueError(f"preset={self.preset!r} goes with model_type='vanilla_transformer' only.")


@dataclass
class TranslationArguments:
    """Batches, translation and evaluation"""

    token_budget: int | None = _option(
        4096, "Tokens of a micro-batch, source, target and padding; none = per_device_train_batch_size counts."
    )
    bucket_window: int | None = _option(4096, "Pairs of similar length are put together among so many; none = never.")
    num_beams: int = _option(1, "Beams of the evaluations while training; 1 is greedy.")
    max_eval_sentences: int | None = _option(None, "Translate so many of the validation pairs only.")
    num_samples: int = _option(3, "Translations to show at each evaluation.")
    test: bool = _option(False, "Translate the test data with the final model; results.json tells how well.")
    test_num_beams: int = _option(5, "Beams of the final evaluations.")
    length_penalty: float = _option(1.0, "Exponent of the length by which a beam's score is divided.")
    average_checkpoints: int = _option(
        1, "The final model is the mean of the last so many checkpoints (Vaswani et al. 2017); 1 = no mean."
    )
    metric_for_best_model: str | None = _option(
        None, f"Keep the best model by {', '.join(METRICS)} in best/; without a mean, it is the final one."
    )
    early_stopping_patience: int = _option(0, "End training after so many evaluations without a better one; 0 = none.")
    scheduled_sampling: str | None = _option(
        None, f"Feed recurrent decoders their own words more and more: {', '.join(SAMPLING_SCHEDULES)}."
    )
    min_teacher_forcing: float = _option(0.5, "Lowest share of true words; with constant, the share.")
    sampling_decay_steps: float | None = _option(
        None, "linear: the step of the lowest share, by default max_steps; inverse_sigmoid: Bengio et al.'s k."
    )

    def __post_init__(self) -> None:
        for name in ("token_budget", "bucket_window", "num_beams", "max_eval_sentences", "test_num_beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.num_samples < 0:
            raise ValueError(f"num_samples={self.num_samples} must be at least 0.")
        if self.average_checkpoints < 1:
            raise ValueError(f"average_checkpoints={self.average_checkpoints} must be at least 1.")
        if self.metric_for_best_model is not None:
            _choice("metric_for_best_model", self.metric_for_best_model, METRICS)
        if self.early_stopping_patience and self.metric_for_best_model is None:
            raise ValueError(
                f"early_stopping_patience={self.early_stopping_patience} needs metric_for_best_model, one of "
                f"{', '.join(METRICS)}."
            )
        if self.scheduled_sampling == "inverse_sigmoid" and self.sampling_decay_steps is None:
            raise ValueError("scheduled_sampling='inverse_sigmoid' needs sampling_decay_steps, its k.")
        if self.scheduled_sampling is not None:
            build_sampling_schedule(
                self.scheduled_sampling, self.sampling_decay_steps or 2.0, self.min_teacher_forcing
            )
