"""Arguments of the language models' training, apart from the engine's."""

from dataclasses import dataclass, field
from typing import Any

from hf_seqmodels.data.lm_tokenizers import TOKENIZATIONS

MODEL_TYPES = ("rnn", "lstm", "gru")
MODES = ("contiguous", "documents")


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}.")


@dataclass
class LMTextArguments:
    """Text (without --train_file or --dataset_name: CPython's language reference, which every Python carries)"""

    train_file: list[str] = field(
        default_factory=list, metadata={"help": "Text files, or .json, .jsonl, .csv, .parquet with a text column."}
    )
    validation_file: list[str] = field(
        default_factory=list, metadata={"help": "Files to evaluate on, in place of the end of the text."}
    )
    dataset_name: str | None = _option(None, "A dataset on the Hub, a local dataset folder, or one by save_to_disk.")
    dataset_config_name: str | None = _option(None, "The dataset's configuration.")
    text_column: str = _option("text", "Column that holds the text.")
    held_out: float = _option(0.1, "Share at the end of the text that is evaluated on, without validation_file.")
    tokenization: str = _option(
        "byte",
        "byte = the 256 bytes of UTF-8; subword = byte-level BPE; word = between spaces, <eos> at line ends.",
    )
    vocab_size: int = _option(8192, "Entries of the tokenizer that is trained, for subwords and words.")
    tokenizer_name: str | None = _option(None, "Use this tokenizer instead.")
    cache_dir: str | None = _option(None, "Where prepared tables are kept; by default the datasets library's folder.")

    def __post_init__(self) -> None:
        _choice("tokenization", self.tokenization, TOKENIZATIONS)
        if self.train_file and self.dataset_name:
            raise ValueError("train_file and dataset_name are both given; give one of the two.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out={self.held_out} must lie in (0, 1).")


@dataclass
class LMModelArguments:
    """Model"""

    model_type: str = _option("lstm", f"{', '.join(MODEL_TYPES)}.")
    config_overrides: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "Fields of RNNConfig, LSTMConfig or GRUConfig: sizes, dropouts, softmax, regularisation, …"},
    )
    model_name_or_path: str | None = _option(None, "Go on from this model, with its tokenizer.")

    def __post_init__(self) -> None:
        _choice("model_type", self.model_type, MODEL_TYPES)


@dataclass
class LMObjectiveArguments:
    """Objective"""

    mode: str = _option(
        "contiguous",
        "contiguous = the text as streams, the state carried from step to step; documents = each line of a text file, "
        "or row of a table, by itself, shuffled.",
    )
    bptt: int = _option(128, "Contiguous: tokens of a step in each stream; gradients reach back so far.")
    random_bptt: bool = _option(False, "Contiguous: draw each step's length around bptt (Merity et al. 2017).")
    max_length: int = _option(256, "Documents: longest example in tokens; longer documents lose their end.")
    token_budget: int | None = _option(
        None, "Documents: tokens of a micro-batch, in place of per_device_train_batch_size."
    )
    sample_length: int = _option(200, "Tokens to generate as a sample at the end; 0 = none.")

    def __post_init__(self) -> None:
        _choice("mode", self.mode, MODES)
        for name in ("bptt", "token_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.sample_length < 0:
            raise ValueError(f"sample_length={self.sample_length} must be at least 0.")
        if self.mode == "contiguous" and self.token_budget is not None:
            raise ValueError(f"token_budget={self.token_budget} goes with mode='documents', not 'contiguous'.")
        if self.mode == "documents" and self.random_bptt:
            raise ValueError("random_bptt=True goes with mode='contiguous', not 'documents'.")
