"""Training of recurrent language models: tokenizer, data, training, evaluation, saved model, sample."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import PartialState
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hf_seqmodels.data.contiguous import ContiguousText, collate_chunks
from hf_seqmodels.data.corpora import TextSource
from hf_seqmodels.data.language_modeling import (
    TextDocuments,
    collate_documents,
    kept_characters,
    predicted_characters,
    read_documents,
    read_text,
    split_documents,
    split_text,
)
from hf_seqmodels.data.lm_tokenizers import tokenize_texts, train_lm_tokenizer
from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.tasks.lm_evaluation import count_items, evaluate_contiguous, evaluate_documents
from hf_seqmodels.tasks.model_cards import EMBEDDED_TEXT, CardArguments, DataSource, TrainingCard
from hf_seqmodels.tasks.train_lm_arguments import (
    MODEL_TYPES,
    LMModelArguments,
    LMObjectiveArguments,
    LMTextArguments,
)
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder, rng

logger = logging.getLogger(__name__)

Evaluate: TypeAlias = Callable[[Engine], dict[str, float]]

_PROMPT_TOKENS = 16


@dataclass(frozen=True)
class Task:
    """What a run trains and evaluates on, and what its sample begins with."""

    phase: Phase
    evaluate: Evaluate
    prompt: list[int]


def main(
    text: LMTextArguments,
    model_args: LMModelArguments,
    objective: LMObjectiveArguments,
    args: EngineArguments,
    card_args: CardArguments | None = None,
) -> TrainResult:
    """Trains an RNN, LSTM or GRU language model and leaves model, tokenizer, card, checkpoints in `args.output_dir`.

    Raises:
        ValueError: an argument, a file or a checkpoint that cannot be used; before any training.
    """
    resume_from = open_run_folder(args)
    data = DataSource.of(text.train_file, text.dataset_name, text.dataset_config_name, *EMBEDDED_TEXT)
    card = TrainingCard("train_lm", (text, model_args, objective, args), data, card_args, args.output_dir)
    state = PartialState()
    training, held_out = read_corpus(text, objective)
    with state.main_process_first():  # the others find the tokenizer on the disk
        tokenizer = build_tokenizer(training, text, model_args, objective, Path(args.output_dir))
    make = _contiguous_task if objective.mode == "contiguous" else _document_task
    task = make(training, held_out, tokenizer, objective, args)
    model = build_model(model_args, tokenizer, args)
    if model.config.learn_initial_state and objective.mode == "contiguous" and state.num_processes > 1:
        raise ValueError(
            f"learn_initial_state=True does not go with {state.num_processes} processes on contiguous text: most "
            "steps go on from a carried state and give it no gradient, for which DDP would wait. Use one process, or "
            "False."
        )
    engine = Engine(
        model,
        args,
        [task.phase],
        count_items=count_items,
        evaluate=task.evaluate,
        resume_from=resume_from,
        processing_class=tokenizer,
        flops_per_unit=flops_per_token(model),
        finish=card.after_engine,
    )
    if state.is_main_process:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        where = f"resuming from {resume_from}" if resume_from else f"new run in {args.output_dir}"
        print(f"{type(model).__name__}, {parameters / 1e6:.2f}M parameters, {args.max_steps} steps; {where}")
    card.begin(engine.state.step)
    result = engine.train()
    if result.stopped_by is None and objective.sample_length and state.is_main_process:
        print(sample(args.output_dir, task.prompt, objective.sample_length, args.seed))
    return result


def read_corpus(text: LMTextArguments, objective: LMObjectiveArguments) -> tuple[list[str], list[str]]:
    """Texts to train and to evaluate on: one each in contiguous mode, else documents.

    Raises:
        ValueError: no text, or a bad file.
    """
    source = TextSource(
        files=tuple(text.train_file),
        dataset_name=text.dataset_name,
        dataset_config=text.dataset_config_name,
        text_column=text.text_column,
        cache_dir=text.cache_dir,
    )
    validation = TextSource(files=tuple(text.validation_file), text_column=text.text_column, cache_dir=text.cache_dir)
    if objective.mode == "documents":
        documents = read_documents(source)
        if text.validation_file:
            return documents, read_documents(validation)
        return split_documents(documents, text.held_out)
    whole = read_text(source)
    first, second = (whole, read_text(validation)) if text.validation_file else split_text(whole, text.held_out)
    return [first], [second]


def build_tokenizer(
    texts: list[str],
    text: LMTextArguments,
    model_args: LMModelArguments,
    objective: LMObjectiveArguments,
    output_dir: Path,
) -> PreTrainedTokenizerFast:
    """The named tokenizer, that of the run so far, or a new one, made from the texts to train on.

    Raises:
        ValueError: it is not a fast one, or marks no end of text.
    """
    named = text.tokenizer_name or model_args.model_name_or_path
    if named is None and (output_dir / "tokenizer.json").is_file():
        named = str(output_dir)
    if named is None:
        tokenizer = train_lm_tokenizer(texts, text.tokenization, text.vocab_size, bos=objective.mode == "documents")
        tokenizer.save_pretrained(output_dir)
        return tokenizer
    loaded = AutoTokenizer.from_pretrained(named)
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer_name={named!r} is a {type(loaded).__name__}; a fast tokenizer is needed.")
    if loaded.eos_token_id is None:
        raise ValueError(f"tokenizer_name={named!r} has no eos_token: a language model needs a mark of the end.")
    return loaded


def _bos(tokenizer: PreTrainedTokenizerFast) -> int:
    """What a document begins with: as in GPT-2, the end of another, if there is no mark of its own."""
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def _pad(tokenizer: PreTrainedTokenizerFast) -> int:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _contiguous_task(
    training: list[str],
    held_out: list[str],
    tokenizer: PreTrainedTokenizerFast,
    objective: LMObjectiveArguments,
    args: EngineArguments,
) -> Task:
    tokens, evaluated = (next(tokenize_texts(texts, tokenizer)) for texts in (training, held_out))
    if len(evaluated) < 2:
        raise ValueError(f"The text to evaluate on has {len(evaluated)} token(s): at least 2 are needed.")
    streams = args.total_batch_size(PartialState().num_processes)
    dataset = ContiguousText(tokens, streams, objective.bptt, args.seed, objective.random_bptt)
    logger.info("%d streams of %d tokens; %d at the end are left out.", streams, dataset.length, dataset.num_dropped)
    phase = Phase(
        name="contiguous",
        steps=args.max_steps,
        dataset=dataset,
        collate=collate_chunks,
        batch_size=args.per_device_train_batch_size,
        carries=RecurrentCache,
    )
    evaluate = functools.partial(
        evaluate_contiguous,
        tokens=evaluated,
        characters=predicted_characters(held_out[0], tokenizer),
        num_streams=args.per_device_eval_batch_size,
        chunk=objective.bptt,
    )
    return Task(phase, evaluate, evaluated[:_PROMPT_TOKENS].tolist())


def _document_task(
    training: list[str],
    held_out: list[str],
    tokenizer: PreTrainedTokenizerFast,
    objective: LMObjectiveArguments,
    args: EngineArguments,
) -> Task:
    bos, eos = _bos(tokenizer), tokenizer.eos_token_id
    datasets = []
    for name, texts in (("train", training), ("evaluate", held_out)):
        documents = list(tokenize_texts(texts, tokenizer))
        dataset = TextDocuments(documents, bos, eos, objective.max_length)
        if dataset.num_cut:
            logger.warning(
                "Of %d tokens to %s on, %d are cut off by max_length=%d.",
                sum(map(len, documents)),
                name,
                dataset.num_cut,
                objective.max_length,
            )
        datasets.append(dataset)
    collate = functools.partial(collate_documents, pad_token_id=_pad(tokenizer))
    phase = Phase(
        name="documents",
        steps=args.max_steps,
        dataset=datasets[0],
        collate=collate,
        batch_size=args.per_device_train_batch_size,
        token_budget=objective.token_budget,
    )
    evaluate = functools.partial(
        evaluate_documents,
        dataset=datasets[1],
        collate=collate,
        characters=kept_characters(held_out, datasets[1].kept, tokenizer),
        batch_size=args.per_device_eval_batch_size,
    )
    return Task(phase, evaluate, [bos])


def build_model(
    model_args: LMModelArguments, tokenizer: PreTrainedTokenizerFast, args: EngineArguments
) -> PreTrainedModel:
    """A new model, or one to go on from, that begins, ends and pads texts as the tokenizer does.

    Raises:
        ValueError: the named model is no recurrent one, or its vocabulary is too small.
    """
    specials = {
        "pad_token_id": _pad(tokenizer),
        "bos_token_id": _bos(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
    }
    named = model_args.model_name_or_path
    torch.manual_seed(args.seed)
    if named is not None:
        config = AutoConfig.from_pretrained(named, **specials, **model_args.config_overrides)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(
                f"model_name_or_path={named!r} is a {config.model_type}; it must be one of {', '.join(MODEL_TYPES)}."
            )
        model = AutoModelForCausalLM.from_pretrained(named, config=config, dtype=torch.float32)
    else:
        sizes: dict[str, Any] = {"vocab_size": len(tokenizer), **specials, **model_args.config_overrides}
        config = AutoConfig.for_model(model_args.model_type, **sizes)
        model = AutoModelForCausalLM.from_config(config)
    _check_vocabulary(config, tokenizer)
    for name, value in specials.items():
        setattr(model.generation_config, name, value)
    return model


def _check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    if config.vocab_size < len(tokenizer):
        raise ValueError(
            f"The model's vocab_size={config.vocab_size} is below the tokenizer's {len(tokenizer)} entries."
        )


def flops_per_token(model: PreTrainedModel) -> float:
    """Of forward and backward: 6 for each weight of a matrix product (PyTorch's counter sees no fused recurrence).

    An untied input table is only looked up. Of an adaptive softmax, all clusters are counted: an upper bound.
    """
    embeddings: Any = getattr(model, model.base_model_prefix).embed_tokens
    table = 0 if model.config.tie_word_embeddings else embeddings.weight.numel()
    return 6.0 * (sum(p.numel() for p in model.parameters() if p.dim() > 1) - table)


@torch.no_grad()
def sample(model_folder: str, prompt: list[int], length: int, seed: int) -> str:
    """A text that the model in a folder continues a prompt with, drawn from its distribution; the prompt included."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    with rng.preserved():
        torch.manual_seed(seed)
        ids = torch.tensor([prompt])
        generated = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=True, top_k=0
        )
    return tokenizer.decode(generated[0], skip_special_tokens=False)
