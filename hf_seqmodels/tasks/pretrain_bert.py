"""BERT's pretraining on text: tokenizer, sentence pairs, masks, training, evaluation, saved model."""

import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_seqmodels.data.corpora import Documents, TextSource, load_documents, split_documents
from hf_seqmodels.data.masking import MaskingRule
from hf_seqmodels.data.packing import PackedCollator, PaddedCollator
from hf_seqmodels.data.pretraining import BertPretrainingDataset
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.shards import ArrowShards, DocumentShards, StreamShards
from hf_seqmodels.data.tokenization import tokenize_documents
from hf_seqmodels.data.tokenizers import SentencesOf, train_wordpiece
from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.models.modeling_bert_pretraining import SeqBertForMaskedLM, SeqBertForPreTraining
from hf_seqmodels.tasks.bert_evaluation import evaluate_pretraining
from hf_seqmodels.tasks.model_cards import EMBEDDED_TEXT, CardArguments, DataSource, TrainingCard
from hf_seqmodels.tasks.pretrain_bert_arguments import ModelArguments, ObjectiveArguments, TextArguments
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder
from hf_seqmodels.training.flops import count_flops

logger = logging.getLogger(__name__)

# A stream's tokenizer is trained on its first documents.
_TOKENIZER_DOCUMENTS = 50_000
_FLOPS_EXAMPLES = 4

BertForPretraining = SeqBertForPreTraining | SeqBertForMaskedLM


@dataclass(frozen=True)
class Corpus:
    """Tokenised text."""

    tokenizer: PreTrainedTokenizerFast
    train: DocumentShards
    evaluation: DocumentShards


def main(
    text: TextArguments,
    model_args: ModelArguments,
    objective: ObjectiveArguments,
    args: EngineArguments,
    card_args: CardArguments | None = None,
) -> TrainResult:
    """Pretrains SeqBert and leaves model, tokenizer, model card and checkpoints in `args.output_dir`.

    Raises:
        ValueError: an argument, a file or a checkpoint that cannot be used; before any training.
    """
    resume_from = open_run_folder(args)
    data = DataSource.of(text.train_file, text.dataset_name, text.dataset_config_name, *EMBEDDED_TEXT)
    card = TrainingCard("pretrain_bert", (text, model_args, objective, args), data, card_args, args.output_dir)
    state = PartialState()
    with state.main_process_first():  # the others find tokenizer and tokens on the disk
        corpus = prepare_corpus(text, model_args, objective, args)
    phases = build_phases(corpus, objective, args)
    model = build_model(model_args, objective, args, corpus.tokenizer, phases)
    evaluation = _dataset(corpus.evaluation, corpus.tokenizer, objective, args, _longest(objective))
    collate = _collator(corpus.tokenizer, objective)
    first_batch = phases[0].collate([phases[0].dataset[Key(0, 0, index)] for index in _first_indices(phases[0])])
    flops = count_flops(model, first_batch) / first_batch["input_ids"].numel()
    engine = Engine(
        model,
        args,
        phases,
        count_items=count_items,
        evaluate=functools.partial(
            evaluate_pretraining,
            dataset=evaluation,
            collate=collate,
            batch_size=args.per_device_eval_batch_size,
            max_batches=objective.max_eval_batches,
        ),
        resume_from=resume_from,
        processing_class=corpus.tokenizer,
        flops_per_unit=flops,
        finish=card.after_engine,
    )
    if state.is_main_process:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        where = f"resuming from {resume_from}" if resume_from else f"new run in {args.output_dir}"
        print(f"{type(model).__name__}, {parameters / 1e6:.1f}M parameters, {args.max_steps} steps; {where}")
    card.begin(engine.state.step)
    return engine.train()


def prepare_corpus(
    text: TextArguments, model_args: ModelArguments, objective: ObjectiveArguments, args: EngineArguments
) -> Corpus:
    """Reads and splits the text, trains or loads the tokenizer, tokenises.

    Raises:
        ValueError: no text, a bad file, or a vocabulary that is too small.
    """
    source = TextSource(
        files=tuple(text.train_file),
        dataset_name=text.dataset_name,
        dataset_config=text.dataset_config_name,
        text_column=text.text_column,
        format=text.text_format,
        streaming=text.streaming,
        cache_dir=text.cache_dir,
    )
    documents = load_documents(source, text.preprocessing_num_workers)
    held_out: Documents
    if text.validation_file:
        held_out = load_documents(
            TextSource(files=tuple(text.validation_file), text_column=text.text_column, format=text.text_format)
        )
    else:
        documents, held_out = split_documents(documents, text.held_out, args.seed)
    tokenizer = _tokenizer(documents, model_args, objective, Path(args.output_dir))
    return Corpus(tokenizer, _shards(documents, tokenizer, text), _shards(held_out, tokenizer, text))


def _tokenizer(
    documents: Documents, model_args: ModelArguments, objective: ObjectiveArguments, output_dir: Path
) -> PreTrainedTokenizerFast:
    """The named tokenizer, that of the run so far, or a new one trained on the documents."""
    named = model_args.tokenizer_name or model_args.model_name_or_path
    if named is None and (output_dir / "tokenizer.json").is_file():
        named = str(output_dir)
    if named is not None:
        loaded = AutoTokenizer.from_pretrained(named)
        if not isinstance(loaded, PreTrainedTokenizerFast):
            raise ValueError(f"tokenizer_name={named!r} is a {type(loaded).__name__}; a fast tokenizer is needed.")
        return loaded
    sample = documents.take(_TOKENIZER_DOCUMENTS) if isinstance(documents, IterableDataset) else documents
    tokenizer = train_wordpiece(
        SentencesOf(sample),
        model_args.vocab_size,
        lowercase=model_args.lowercase,
        model_max_length=_longest(objective),
    )
    tokenizer.save_pretrained(output_dir)
    return tokenizer


def _shards(documents: Documents, tokenizer: PreTrainedTokenizerFast, text: TextArguments) -> DocumentShards:
    if isinstance(documents, Dataset):
        tokens = tokenize_documents(
            documents, tokenizer, num_proc=text.preprocessing_num_workers, cache_dir=text.cache_dir
        )
        return ArrowShards(tokens, text.shard_documents)
    return StreamShards(documents, tokenizer, text.shard_documents)


def _longest(objective: ObjectiveArguments) -> int:
    return max(phase.get("max_seq_length", objective.max_seq_length) for phase in objective.phases or [{}])


def _dataset(
    shards: DocumentShards,
    tokenizer: PreTrainedTokenizerFast,
    objective: ObjectiveArguments,
    args: EngineArguments,
    max_length: int,
) -> BertPretrainingDataset:
    return BertPretrainingDataset(
        shards,
        tokenizer,
        max_length=max_length,
        seed=args.seed,
        nsp=objective.nsp,
        short_seq_prob=objective.short_seq_prob,
        masking=MaskingRule(objective.masking, objective.mlm_probability, objective.mask_count),
        duplication_factor=objective.duplication_factor,
    )


def _collator(tokenizer: PreTrainedTokenizerFast, objective: ObjectiveArguments) -> PackedCollator | PaddedCollator:
    return PackedCollator() if objective.packing else PaddedCollator(tokenizer.pad_token_id)


def build_phases(corpus: Corpus, objective: ObjectiveArguments, args: EngineArguments) -> list[Phase]:
    """The stretches of the training; the last one takes what rounding leaves."""
    settings = objective.phases or [{"share": 1.0}]
    phases: list[Phase] = []
    for number, setting in enumerate(settings):
        length = setting.get("max_seq_length", objective.max_seq_length)
        batch_size = setting.get("per_device_train_batch_size", args.per_device_train_batch_size)
        done = sum(phase.steps for phase in phases)
        last = number + 1 == len(settings)
        phases.append(
            Phase(
                name=f"{number + 1} (length {length})",
                steps=args.max_steps - done if last else math.floor(setting["share"] * args.max_steps),
                dataset=_dataset(corpus.train, corpus.tokenizer, objective, args, length),
                collate=_collator(corpus.tokenizer, objective),
                batch_size=batch_size,
                token_budget=batch_size * length if objective.packing else None,
            )
        )
    return phases


def _first_indices(phase: Phase) -> range:
    """A few examples tell the FLOPs of a token as well as a batch does, and large models need not wait for one."""
    return range(min(_FLOPS_EXAMPLES, phase.batch_size, len(phase.dataset.example_lengths(0, 0))))


def build_model(
    model_args: ModelArguments,
    objective: ObjectiveArguments,
    args: EngineArguments,
    tokenizer: PreTrainedTokenizerFast,
    phases: list[Phase],
) -> BertForPretraining:
    """A new model, or one to go on from; without sentence pairs it is a plain masked language model.

    Raises:
        ValueError: the model has too few positions or too small a vocabulary.
    """
    model_class = SeqBertForMaskedLM if objective.nsp == "none" else SeqBertForPreTraining
    torch.manual_seed(args.seed)
    if model_args.model_name_or_path is not None:
        model = model_class.from_pretrained(
            model_args.model_name_or_path,
            attn_implementation=model_args.attn_implementation,
            dtype=torch.float32,
            **model_args.config_overrides,
        )
    else:
        sizes = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": max(512, _longest(objective)),
            **model_args.config_overrides,
        }
        config = SeqBertConfig.preset(model_args.model_size, **sizes)
        if model_args.attn_implementation is not None:
            config._attn_implementation = model_args.attn_implementation
        model = model_class(config)
    if model.config.max_position_embeddings < _longest(objective):
        raise ValueError(
            f"max_seq_length={_longest(objective)} is longer than the model's max_position_embeddings="
            f"{model.config.max_position_embeddings}."
        )
    if model.config.vocab_size < len(tokenizer):
        raise ValueError(
            f"The model's vocab_size={model.config.vocab_size} is below the tokenizer's {len(tokenizer)} entries."
        )
    return model


def count_items(batch: dict[str, Any]) -> dict[str, int]:
    """The denominators of the losses: masked tokens, and pairs."""
    counts = {"num_items_in_batch": int((batch["labels"] != IGNORE_INDEX).sum())}
    if "next_sentence_label" in batch:
        counts["num_pairs_in_batch"] = len(batch["next_sentence_label"])
    return counts
