"""Arguments of BERT's pretraining, apart from the engine's."""

from dataclasses import dataclass, field
from typing import Any

from hf_seqmodels.data.layouts import FORMATS
from hf_seqmodels.data.masking import COUNTS, STRATEGIES
from hf_seqmodels.data.nsp import RULES
from hf_seqmodels.models.configuration_bert import PRESETS


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _choice(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}.")


@dataclass
class TextArguments:
    """Text (without --train_file or --dataset_name: CPython's language reference, which every Python carries)"""

    train_file: list[str] = field(
        default_factory=list, metadata={"help": "Text files, or .json, .jsonl, .csv, .parquet with a text column."}
    )
    validation_file: list[str] = field(
        default_factory=list, metadata={"help": "Files to evaluate on, in place of held-out documents."}
    )
    dataset_name: str | None = _option(None, "A dataset on the Hub, a local dataset folder, or one by save_to_disk.")
    dataset_config_name: str | None = _option(None, "The dataset's configuration.")
    text_column: str = _option("text", "Column that holds the text.")
    text_format: str = _option(
        "auto", "sentences = one a line, an empty line between documents; raw = prose, split here; auto decides."
    )
    streaming: bool = _option(False, "Read while training; memory holds one shard, the disk nothing.")
    held_out: float = _option(0.05, "Documents to evaluate on: a share, or a number (a number when streaming).")
    shard_documents: int = _option(10_000, "Documents in memory at a time.")
    preprocessing_num_workers: int | None = _option(None, "Processes that split and tokenise the text.")
    cache_dir: str | None = _option(None, "Where prepared text is kept; by default the datasets library's folder.")

    def __post_init__(self) -> None:
        _choice("text_format", self.text_format, FORMATS)
        if self.train_file and self.dataset_name:
            raise ValueError("train_file and dataset_name are both given; give one of the two.")


@dataclass
class ModelArguments:
    """Model and tokenizer"""

    model_size: str = _option("small", f"Preset of SeqBertConfig: {', '.join(PRESETS)}.")
    config_overrides: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Fields of SeqBertConfig that differ from the preset."}
    )
    model_name_or_path: str | None = _option(None, "Go on from this SeqBert or BERT checkpoint instead.")
    attn_implementation: str | None = _option(None, "eager, sdpa, flex_attention or flash_attention_2; default sdpa.")
    tokenizer_name: str | None = _option(
        None, "Use this tokenizer; by default a WordPiece one is trained on the text."
    )
    vocab_size: int = _option(8192, "Vocabulary of the tokenizer that is trained.")
    lowercase: bool = _option(True, "Whether that tokenizer folds case.")

    def __post_init__(self) -> None:
        _choice("model_size", self.model_size, PRESETS)


@dataclass
class ObjectiveArguments:
    """Objective"""

    nsp: str = _option(
        "google", "Sentence pairs: google = the original code's rule, balanced = exactly half random, none = MLM only."
    )
    max_seq_length: int = _option(128, "Longest example in tokens.")
    short_seq_prob: float = _option(0.1, "Share of documents that make shorter examples in a pass.")
    phases: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={
            "help": "Stretches of the training, each {share, max_seq_length, per_device_train_batch_size}; shares add "
            "up to 1. One by default."
        },
    )
    masking: str = _option("token", f"What is masked together: {', '.join(STRATEGIES)}.")
    mlm_probability: float = _option(0.15, "Share of tokens to predict.")
    mask_count: str = _option("exact", f"Number of tokens to predict in an example: {', '.join(COUNTS)}.")
    duplication_factor: int | None = _option(
        None, "Pairs and masks repeat after so many epochs (static masking); by default never."
    )
    packing: bool = _option(False, "Lay examples in one row without padding; batch × length becomes a token budget.")
    max_eval_batches: int | None = _option(None, "Evaluate on so many batches only.")

    def __post_init__(self) -> None:
        _choice("nsp", self.nsp, RULES)
        _choice("masking", self.masking, STRATEGIES)
        _choice("mask_count", self.mask_count, COUNTS)
        for phase in self.phases:
            unknown = set(phase) - {"share", "max_seq_length", "per_device_train_batch_size"}
            if unknown or "share" not in phase:
                raise ValueError(
                    f"phases: {phase} must have a share, and may have max_seq_length and per_device_train_batch_size."
                )
        total = sum(phase["share"] for phase in self.phases)
        if self.phases and abs(total - 1) > 1e-6:
            raise ValueError(f"phases: the shares add up to {total}, not to 1.")
