"""The flags of scripts/finetune_text.py beside transformers' own TrainingArguments."""

from dataclasses import dataclass, field
from typing import Any, Literal

from hf_seqmodels.data.labelled import Columns


@dataclass
class FinetuneTextArguments:
    """Data and model to fine-tune."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "checkpoint to start from: a folder or a name on the Hub, of any architecture"}
    )
    model_type: str | None = field(
        default=None, metadata={"help": "train from scratch instead: an architecture such as seq_bert, lstm or bert"}
    )
    config_overrides: dict[str, Any] | None = field(
        default=None, metadata={"help": 'config fields to change, such as {"hidden_size": 128}'}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "folder or name of the tokenizer, if it isn't beside the model"}
    )
    tokenization: Literal["wordpiece", "word"] | None = field(
        default=None,
        metadata={
            "help": "for a model from scratch without --tokenizer_name, whose tokenizer the training data makes: of "
            "word pieces as BERT's (the default), or of words, which are what stands between spaces"
        },
    )
    vocab_size: int | None = field(
        default=None, metadata={"help": "entries of that tokenizer at most (default: 30000)"}
    )
    lowercase: bool = field(default=False, metadata={"help": "whether that tokenizer folds case"})
    min_frequency: int | None = field(
        default=None,
        metadata={"help": "words rarer than this in the training data become [UNK]; for words only (default: 2)"},
    )
    task: Literal["classification", "tagging"] = field(
        default="classification", metadata={"help": "one label per text (or pair), or one per token"}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "csv, tsv, json(l), parquet, CoNLL, or lines of 'label text'"}
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "to choose the best model by; without it, a share of the training data serves"}
    )
    test_file: str | None = field(default=None, metadata={"help": "for the final result"})
    dataset_name: str | None = field(
        default=None, metadata={"help": "instead of files: a dataset's folder or its name on the Hub"}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "which configuration of that dataset"})
    embedded: bool = field(
        default=False,
        metadata={"help": "instead of files: does a docstring of Python's standard library describe a class?"},
    )
    file_format: Literal["auto", "csv", "tsv", "json", "parquet", "two_column", "conll"] = field(
        default="auto", metadata={"help": "format of the files; auto goes by their suffix"}
    )
    encoding: str = field(default="utf-8", metadata={"help": "encoding of text files, such as latin-1"})
    text_column: str | None = field(
        default=None, metadata={"help": "column with the text (default: text; tagging: tokens)"}
    )
    pair_column: str | None = field(default=None, metadata={"help": "column with the second text of a pair"})
    label_column: str | None = field(
        default=None, metadata={"help": "column with the label (default: label; tagging: tags)"}
    )
    validation_share: float = field(
        default=0.1, metadata={"help": "share of the training data held out if there is no validation data"}
    )
    max_length: int = field(default=128, metadata={"help": "longest input in word pieces; the rest is cut off"})

    def __post_init__(self) -> None:
        sources = {"--train_file": self.train_file, "--dataset_name": self.dataset_name, "--embedded": self.embedded}
        given = [flag for flag, value in sources.items() if value]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(sources)}; got {' and '.join(given) or 'none'}.")
        if self.train_file is None and (self.validation_file or self.test_file):
            raise ValueError(f"--validation_file and --test_file go with --train_file, not with {given[0]}.")
        if (self.model_name_or_path is None) == (self.model_type is None):
            raise ValueError("give either --model_name_or_path (a checkpoint) or --model_type (from scratch).")
        self._check_tokenizer()
        if self.task == "tagging" and (self.pair_column or self.embedded):
            raise ValueError("--task tagging takes neither --pair_column nor --embedded.")
        if self.max_length < 3:
            raise ValueError(f"max_length={self.max_length} must be at least 3: [CLS], a word piece, [SEP].")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share={self.validation_share} must lie between 0 and 1.")

    def _check_tokenizer(self) -> None:
        names = ("tokenization", "vocab_size", "lowercase", "min_frequency")
        given = ["--" + name for name in names if getattr(self, name)]
        if given and not self.trains_tokenizer:
            has_one = "--tokenizer_name" if self.tokenizer_name is not None else "--model_name_or_path"
            raise ValueError(f"{' and '.join(given)}: no tokenizer is trained, {has_one} has one.")
        if self.min_frequency is not None and self.tokenization != "word":
            raise ValueError(f"min_frequency={self.min_frequency} goes with --tokenization word.")

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the training data makes the tokenizer."""
        return self.model_type is not None and self.tokenizer_name is None

    @property
    def columns(self) -> Columns:
        """The task and the names of its columns, with the task's defaults."""
        text, label = ("tokens", "tags") if self.task == "tagging" else ("text", "label")
        return Columns(self.task, self.text_column or text, self.label_column or label, self.pair_column)
