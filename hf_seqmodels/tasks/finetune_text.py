"""Fine-tuning on text by transformers' Trainer: classes of sentences or pairs, tags of tokens."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.data.docstrings import embedded_classification
from hf_seqmodels.data.labelled_splits import LabelledSplits, from_dataset_dict, from_datasets, from_files
from hf_seqmodels.data.labels import encode_tags, encode_texts
from hf_seqmodels.data.tokenizers import train_wordpiece, train_words
from hf_seqmodels.models.losses import token_cross_entropy

from .arguments import parse
from .finetune_text_arguments import FinetuneTextArguments
from .model_cards import EMBEDDED_DOCSTRINGS, CardArguments, DataSource, TrainingCard
from .text_metrics import argmax_logits, classification_metrics, tagging_metrics, viterbi_tags
from .trainer_runs import DEFAULTS, checkpoint_to_resume, keep_parameter_names, push, train_and_evaluate

DESCRIPTION = "Fine-tunes a model on labelled text: classes of sentences or sentence pairs, or tags of tokens."
EPILOG = """examples:
  a BERT on files with lines of 'label text':
    python scripts/finetune_text.py --model_name_or_path out/bert --output_dir out/sst2 \\
        --train_file stsa.binary.train --validation_file stsa.binary.dev --test_file stsa.binary.test
  named entities in CoNLL columns:
    python scripts/finetune_text.py --model_name_or_path out/bert --output_dir out/ner --task tagging \\
        --train_file wnut17train.conll --validation_file emerging.dev.conll
  the same by an LSTM with a CRF, from scratch on words:
    python scripts/finetune_text.py --model_type lstm --tokenization word --task tagging --output_dir out/crf \\
        --config_overrides '{"bidirectional": true, "use_crf": true}' \\
        --train_file wnut17train.conll --validation_file emerging.dev.conll
"""


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the program.

    Args:
        argv: its arguments; None is the process's own.

    Returns:
        The final metrics, named `eval_…` (and `test_…` with test data); also in `all_results.json`.

    Raises:
        SystemExit: bad arguments.
        PushError: the trained model is saved, but could not be pushed.
        ValueError: bad data, an output folder with something in it; the message names the culprit.
    """
    arguments, training, card_arguments = parse(
        (FinetuneTextArguments, TrainingArguments, CardArguments),
        argv,
        DESCRIPTION,
        EPILOG,
        {**DEFAULTS, "output_dir": "out/finetune_text"},
    )
    checkpoint = checkpoint_to_resume(training)
    source = DataSource.of(
        [arguments.train_file], arguments.dataset_name, arguments.dataset_config_name, *EMBEDDED_DOCSTRINGS
    )
    card = TrainingCard("finetune_text", (arguments,), source, card_arguments, str(training.output_dir), argv)
    splits = _load_splits(arguments).with_validation(arguments.validation_share, training.seed)
    transformers.set_seed(training.seed)
    tokenizer, model = load_model(arguments, splits)
    is_tagging = arguments.task == "tagging"
    has_crf = is_tagging and getattr(model.config, "use_crf", False)
    if has_crf and training.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor={training.label_smoothing_factor} does not go with use_crf=True, whose loss is "
            "of whole sequences; leave it at 0."
        )
    datasets = {split: _encode(arguments, splits, split, tokenizer) for split in splits.datasets}
    if training.metric_for_best_model in (None, "loss"):
        training.metric_for_best_model = "f1" if is_tagging else "accuracy"
        training.greater_is_better = True
    collate = DataCollatorForTokenClassification if is_tagging else DataCollatorWithPadding
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"],
        data_collator=collate(tokenizer),
        processing_class=tokenizer,
        compute_metrics=tagging_metrics(splits.names) if is_tagging else classification_metrics,
        preprocess_logits_for_metrics=viterbi_tags if has_crf else argmax_logits,
        # A CRF's own loss honours num_items_in_batch, and needs more than its logits.
        compute_loss_func=None if has_crf else partial(exact_loss, label_smoothing=training.label_smoothing_factor),
    )
    results = train_and_evaluate(trainer, card, checkpoint, datasets.get("test"))
    if trainer.is_world_process_zero():
        _print_results(results, splits, training)
    push(trainer)
    return results


def exact_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy over a step's labels, however they fall into micro-batches; Trainer calls it.

    transformers' own heads ignore `num_items_in_batch` and get gradients K times too large with K accumulation steps
    (transformers#47688). Evaluation (no `num_items_in_batch`) takes the plain mean, without smoothing.
    """
    smoothing = label_smoothing if num_items_in_batch is not None else 0.0
    return token_cross_entropy(outputs["logits"], labels, num_items_in_batch, label_smoothing=smoothing)


def load_model(
    arguments: FinetuneTextArguments, splits: LabelledSplits
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model with a head for the data's labels, from a checkpoint or from scratch.

    Raises:
        ValueError: the folder doesn't exist, the tokenizer can't align tags, or `max_length` exceeds the model's.
    """
    for flag in ("model_name_or_path", "tokenizer_name"):
        path = getattr(arguments, flag)
        if path is not None and path.startswith(("/", "./", "../", "~")) and not Path(path).is_dir():
            raise ValueError(f"{flag}={path!r}: there is no such folder.")
    if arguments.trains_tokenizer:
        tokenizer = train_tokenizer(arguments, splits.datasets["train"])
    else:
        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer_name or arguments.model_name_or_path)
    if arguments.task == "tagging" and not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} doesn't say which word a piece is of; tagging needs that.")
    names = splits.names
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    overrides = {**(arguments.config_overrides or {}), **labels}
    is_tagging = arguments.task == "tagging"
    auto_class: Any = AutoModelForTokenClassification if is_tagging else AutoModelForSequenceClassification
    if arguments.model_type is not None:
        sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        config = AutoConfig.for_model(arguments.model_type, **{**sizes, **overrides})
    else:
        config = AutoConfig.from_pretrained(str(arguments.model_name_or_path), **overrides)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and arguments.max_length > longest:
        raise ValueError(f"max_length={arguments.max_length} exceeds the model's max_position_embeddings={longest}.")
    if arguments.model_type is not None:
        model = auto_class.from_config(config)
    else:
        # A head of another task, with other labels, is replaced by a new one.
        model = auto_class.from_pretrained(
            arguments.model_name_or_path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    return tokenizer, keep_parameter_names(model)


def train_tokenizer(arguments: FinetuneTextArguments, train: Dataset) -> PreTrainedTokenizerBase:
    """The tokenizer that the arguments ask for, of the training data's words alone.

    Raises:
        ValueError: `vocab_size` cannot hold what must be in it, or no word is frequent enough.
    """
    texts = [
        text if isinstance(text, str) else " ".join(text)
        for column in ("text", "pair")
        if column in train.column_names
        for text in train[column]
    ]
    vocab_size = 30_000 if arguments.vocab_size is None else arguments.vocab_size
    shared: dict[str, Any] = {"lowercase": arguments.lowercase, "model_max_length": arguments.max_length}
    if arguments.tokenization != "word":
        return train_wordpiece(texts, vocab_size, **shared)
    min_frequency = 2 if arguments.min_frequency is None else arguments.min_frequency
    return train_words(texts, vocab_size, min_frequency=min_frequency, **shared)


def _load_splits(arguments: FinetuneTextArguments) -> LabelledSplits:
    if arguments.embedded:
        return from_dataset_dict(embedded_classification(), arguments.columns, "the embedded docstrings")
    if arguments.dataset_name is not None:
        return from_datasets(arguments.dataset_name, arguments.dataset_config_name, arguments.columns)
    paths = {
        "train": arguments.train_file,
        "validation": arguments.validation_file,
        "test": arguments.test_file,
    }
    return from_files(paths, arguments.columns, arguments.file_format, arguments.encoding)


def _encode(
    arguments: FinetuneTextArguments, splits: LabelledSplits, split: str, tokenizer: PreTrainedTokenizerBase
) -> Dataset:
    inputs = (splits.datasets[split], tokenizer, splits.names, splits.sources[split], arguments.max_length)
    if arguments.task == "classification":
        return encode_texts(*inputs)
    dataset, lost = encode_tags(*inputs)
    if lost:
        print(f"{splits.sources[split]}: {lost} words lie beyond --max_length {arguments.max_length} and don't count.")
    return dataset


def _print_results(results: dict[str, float], splits: LabelledSplits, training: TrainingArguments) -> None:
    """A table with one row per split, and where everything is."""
    prefixes = {"validation": "eval_", "test": "test_"}
    skipped = ("loss", "runtime", "samples_per_second", "steps_per_second")
    columns = [key[5:] for key in results if key.startswith("eval_") and key[5:] not in skipped]
    print(f"\n{'split':<12}{'examples':>10}" + "".join(f"{column:>22}" for column in columns))
    for split, prefix in prefixes.items():
        if split in splits.datasets:
            numbers = "".join(f"{results[prefix + column]:>22.4f}" for column in columns)
            print(f"{split:<12}{len(splits.datasets[split]):>10}{numbers}")
    if "matthews_correlation" in columns:
        labels = Counter(map(str, splits.datasets["validation"]["label"]))
        share = labels.most_common(1)[0][1] / labels.total()
        print(f"Always guessing the most frequent label has accuracy {share:.4f} in validation.")
    print(f"\nLabels: {', '.join(splits.names)}\nModel, tokenizer and all_results.json: {training.output_dir}")
