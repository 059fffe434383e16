"""Training of translation models: tokenizer, data, training, final model, translations of the test data."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hf_seqmodels.data.dates import date_pairs
from hf_seqmodels.data.parallel import ParallelSource, load_parallel
from hf_seqmodels.data.translation import IGNORE_INDEX, TranslationCollator, TranslationDataset
from hf_seqmodels.data.translation_tokenizers import train_characters, train_joint_bpe
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.tasks.model_cards import CardArguments, DataSource, TrainingCard
from hf_seqmodels.tasks.train_translation_arguments import (
    MODEL_TYPES,
    ParallelArguments,
    TranslationArguments,
    TranslationModelArguments,
)
from hf_seqmodels.tasks.translation_evaluation import (
    Decoding,
    EvaluationSet,
    bleu_by_source_length,
    translation_scores,
)
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder
from hf_seqmodels.training.averaging import copy_weights, save_average
from hf_seqmodels.training.checkpoint import list_checkpoints
from hf_seqmodels.training.early_stopping import BEST, EarlyStopping
from hf_seqmodels.training.scheduled_sampling import build_sampling_schedule

RESULTS = "results.json"
NUM_EVALUATION_DATES = 1000
# Not the run's: runs of different seeds are compared on the same dates.
DATES_SEED = 0


def main(
    data: ParallelArguments,
    model_args: TranslationModelArguments,
    translation: TranslationArguments,
    args: EngineArguments,
    card_args: CardArguments | None = None,
) -> TrainResult:
    """Trains an encoder–decoder; model, tokenizer, card, checkpoints and `results.json` are in `args.output_dir`.

    Raises:
        ValueError: an argument, a file or a checkpoint that cannot be used; before any training.
    """
    check_final_model(translation, args)
    resume_from = open_run_folder(args)
    dates = f"dates in {', '.join(data.date_locales)} and as ISO 8601" if data.is_dates else ""
    languages = sorted({locale.split("_")[0] for locale in data.date_locales})
    source = DataSource.of(data.train_file, data.dataset_name, data.dataset_config_name, dates, languages)
    card = TrainingCard("train_translation", (data, model_args, translation, args), source, card_args, args.output_dir)
    state = PartialState()
    splits = read_pairs(data, translation.test)
    with state.main_process_first():  # the others find the tokenizer on the disk
        tokenizer = build_tokenizer(splits["train"], data, model_args, Path(args.output_dir))
    sets = {name: evaluation_set(pairs, tokenizer, data) for name, pairs in splits.items()}
    model = build_model(model_args, tokenizer, args.seed)
    phase = Phase(
        name="translation",
        steps=args.max_steps,
        dataset=sets["train"].dataset,
        collate=TranslationCollator(model.config.pad_token_id),
        batch_size=args.per_device_train_batch_size,
        token_budget=translation.token_budget,
        bucket_window=translation.bucket_window,
    )
    metric = translation.metric_for_best_model
    engine = Engine(
        model,
        args,
        [phase],
        count_items=count_targets,
        evaluate=lambda engine: evaluate(engine, sets["validation"], tokenizer, data, translation),
        resume_from=resume_from,
        processing_class=tokenizer,
        count_units=count_both_sides,
        before_step=_sampling(model, translation, args.max_steps),
        early_stopping=None
        if metric is None
        else EarlyStopping(metric, translation.early_stopping_patience, greater_is_better=metric != "loss"),
        finish=lambda engine: finish(engine, sets, tokenizer, data, translation, args, card),
    )
    if state.is_main_process:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        where = f"resuming from {resume_from}" if resume_from else f"new run in {args.output_dir}"
        pairs = ", ".join(f"{len(pairs)} {name}" for name, pairs in splits.items())
        print(f"{type(model).__name__}, {parameters / 1e6:.2f}M parameters, {args.max_steps} steps, pairs: {pairs}")
        print(where, flush=True)
    card.begin(engine.state.step)
    return engine.train()


def check_final_model(translation: TranslationArguments, args: EngineArguments) -> None:
    """Raises:
    ValueError: checkpoints that are to be averaged are not written or not kept, or weights are averaged twice; or
        there is no evaluation to choose the best model by.
    """
    count = translation.average_checkpoints
    if count > 1:
        written = math.ceil(args.max_steps / args.save_steps) if args.save_steps else 1
        if written < count or (args.save_total_limit is not None and args.save_total_limit < count):
            raise ValueError(
                f"average_checkpoints={count}: {written} checkpoint(s) are written (max_steps={args.max_steps}, "
                f"save_steps={args.save_steps}) and save_total_limit={args.save_total_limit} are kept; at least "
                f"{count} are needed of both."
            )
        if args.ema_decay:
            raise ValueError(f"average_checkpoints={count} and ema_decay={args.ema_decay} average twice; choose one.")
    if translation.metric_for_best_model is not None and not args.eval_steps:
        raise ValueError(
            f"metric_for_best_model={translation.metric_for_best_model!r} needs evaluations while training: set "
            "eval_steps."
        )


def read_pairs(data: ParallelArguments, test: bool) -> dict[str, Dataset]:
    """Pairs by split: train, validation and, if asked for, test.

    Raises:
        ValueError: a bad file or column, no test data, or too few pairs to hold some out.
    """
    if data.is_dates:
        return _date_pairs(data, test)
    sources = {"train": _source(data, data.train_file, "train")}
    if data.validation_file or data.dataset_name:
        sources["validation"] = _source(data, data.validation_file, data.validation_split)
    if test:
        if data.train_file and not data.test_file:
            raise ValueError("test=True needs test_file beside train_file.")
        sources["test"] = _source(data, data.test_file, data.test_split)
    splits = {name: _folded(load_parallel(source), data.lowercase) for name, source in sources.items()}
    if "validation" not in splits:
        pairs = splits["train"]
        first = len(pairs) - round(data.held_out * len(pairs))
        if not 0 < first < len(pairs):
            raise ValueError(f"held_out={data.held_out} of {len(pairs)} pairs leaves none to train or to evaluate on.")
        splits["train"] = pairs.select(range(first))
        splits["validation"] = pairs.select(range(first, len(pairs)))
    return splits


def _date_pairs(data: ParallelArguments, test: bool) -> dict[str, Dataset]:
    splits = {"train": data.num_dates, "validation": NUM_EVALUATION_DATES, "test": NUM_EVALUATION_DATES}
    return {
        name: date_pairs(count, DATES_SEED, data.date_locales, name).select_columns(["source", "target"])
        for name, count in splits.items()
        if test or name != "test"
    }


def _source(data: ParallelArguments, files: list[str], split: str) -> ParallelSource:
    return ParallelSource(
        files=tuple(files),
        dataset_name=data.dataset_name,
        dataset_config=data.dataset_config_name,
        split=split,
        source_column=data.source_column,
        target_column=data.target_column,
        skip_empty=data.skip_empty,
    )


def _folded(pairs: Dataset, lowercase: bool) -> Dataset:
    """Here and not in metrics and tokenizer only, so that what is shown, learnt and measured is the same text."""
    if not lowercase:
        return pairs
    return Dataset.from_dict({name: [text.lower() for text in pairs[name]] for name in ("source", "target")})


def build_tokenizer(
    pairs: Dataset, data: ParallelArguments, model_args: TranslationModelArguments, output_dir: Path
) -> PreTrainedTokenizerFast:
    """The named tokenizer, that of the run so far, or a new one, made from the pairs to train on.

    Raises:
        ValueError: it is not a fast one, or lacks a special token that the models need.
    """
    named = data.tokenizer_name or model_args.model_name_or_path
    if named is None and (output_dir / "tokenizer.json").is_file():
        named = str(output_dir)
    if named is None:
        texts = [text for name in ("source", "target") for text in pairs[name]]
        if (data.tokenization or ("character" if data.is_dates else "bpe")) == "character":
            tokenizer = train_characters(texts)
        else:
            tokenizer = train_joint_bpe(texts, data.vocab_size, data.lowercase)
        tokenizer.save_pretrained(output_dir)
        return tokenizer
    loaded = AutoTokenizer.from_pretrained(named)
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer_name={named!r} is a {type(loaded).__name__}; a fast tokenizer is needed.")
    for name in ("pad_token", "eos_token"):
        if getattr(loaded, name) is None:
            raise ValueError(f"tokenizer_name={named!r} has no {name}, which translation models need.")
    return loaded


def evaluation_set(pairs: Dataset, tokenizer: PreTrainedTokenizerFast, data: ParallelArguments) -> EvaluationSet:
    """Pairs as tokens and as texts."""
    dataset = TranslationDataset(pairs, tokenizer, data.max_source_length, data.max_target_length, data.truncate)
    return EvaluationSet(dataset, list(pairs["source"]), list(pairs["target"]))


def build_model(
    model_args: TranslationModelArguments, tokenizer: PreTrainedTokenizerFast, seed: int
) -> PreTrainedModel:
    """A new model, or one to go on from, that begins, ends and pads texts as the tokenizer does.

    Raises:
        ValueError: the named model is of another type, or its vocabulary is too small.
    """
    named = model_args.model_name_or_path
    torch.manual_seed(seed)
    if named is not None:
        config = AutoConfig.from_pretrained(named, **model_args.config_overrides)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(
                f"model_name_or_path={named!r} is a {config.model_type}; it must be one of {', '.join(MODEL_TYPES)}."
            )
        model = AutoModelForSeq2SeqLM.from_pretrained(named, config=config, dtype=torch.float32)
    else:
        start = tokenizer.pad_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        fields: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": start,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": start,
            **model_args.config_overrides,
        }
        if model_args.preset is not None:
            config = VanillaTransformerConfig.preset(model_args.preset, **fields)
        else:
            config = AutoConfig.for_model(model_args.model_type, **fields)
        model = AutoModelForSeq2SeqLM.from_config(config)
    if config.vocab_size < len(tokenizer):
        raise ValueError(
            f"The model's vocab_size={config.vocab_size} is below the tokenizer's {len(tokenizer)} entries."
        )
    return model


def count_targets(batch: dict[str, Any]) -> dict[str, int]:
    """The loss's denominator: target tokens."""
    return {"num_items_in_batch": int((batch["labels"] != IGNORE_INDEX).sum())}


def count_both_sides(batch: dict[str, Any]) -> int:
    """Real tokens of sources and targets."""
    return int(batch["attention_mask"].sum()) + count_targets(batch)["num_items_in_batch"]


def _sampling(
    model: PreTrainedModel, translation: TranslationArguments, max_steps: int
) -> Callable[[int], None] | None:
    """Sets the share of true words before each step.

    Raises:
        ValueError: the model has no such share.
    """
    if translation.scheduled_sampling is None:
        return None
    if not hasattr(model, "teacher_forcing_ratio"):
        raise ValueError(
            f"scheduled_sampling={translation.scheduled_sampling!r} goes with recurrent decoders; "
            f"{type(model).__name__} sees the whole target at once."
        )
    ratio = build_sampling_schedule(
        translation.scheduled_sampling, translation.sampling_decay_steps or max_steps, translation.min_teacher_forcing
    )

    def before_step(step: int) -> None:
        model.teacher_forcing_ratio = ratio(step)  # type: ignore[assignment]

    return before_step


def evaluate(
    engine: Engine,
    validation: EvaluationSet,
    tokenizer: PreTrainedTokenizerFast,
    data: ParallelArguments,
    translation: TranslationArguments,
) -> dict[str, float]:
    """Loss of all validation pairs, scores of the translations of some; shows a few."""
    accelerator, batch_size = engine.accelerator, engine.args.per_device_eval_batch_size
    loss = validation.loss(engine.model, engine.model.config.pad_token_id, batch_size, accelerator)
    decoding = Decoding(translation.num_beams, batch_size, data.max_target_length, translation.length_penalty)
    predictions = validation.translations(
        engine.model, tokenizer, decoding, accelerator, translation.max_eval_sentences
    )
    for source, reference, prediction in list(zip(validation.sources, validation.references, predictions))[
        : translation.num_samples
    ]:
        engine.reporter.say(f"  source:      {source}\n  reference:   {reference}\n  translation: {prediction}")
    scores = translation_scores(predictions, validation.references[: len(predictions)])
    return {"loss": loss, **{name: scores[name] for name in ("bleu", "chrf", "exact_match")}}


def finish(
    engine: Engine,
    sets: dict[str, EvaluationSet],
    tokenizer: PreTrainedTokenizerFast,
    data: ParallelArguments,
    translation: TranslationArguments,
    args: EngineArguments,
    card: TrainingCard,
) -> None:
    """Chooses the final model, evaluates it as it lies on the disk, and writes `results.json` and the model card.

    It is the mean of the last checkpoints if there is to be one, else the best, else the last.
    """
    folder, accelerator = Path(args.output_dir), engine.accelerator
    chosen = "last"
    if translation.average_checkpoints > 1:
        folders = list_checkpoints(folder)[-translation.average_checkpoints :]
        chosen = f"mean of {', '.join(path.name for path in folders)}"
        if accelerator.is_main_process:
            save_average(folders, folder)
    elif translation.metric_for_best_model is not None:
        chosen = f"best {translation.metric_for_best_model}"
        if accelerator.is_main_process:
            copy_weights(folder / BEST, folder)
    accelerator.wait_for_everyone()
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).to(accelerator.device).eval()
    decoding = Decoding(
        translation.test_num_beams,
        args.per_device_eval_batch_size,
        data.max_target_length,
        translation.length_penalty,
    )
    results: dict[str, Any] = {"model": chosen, "step": engine.state.step, "num_beams": decoding.num_beams}
    results["text"] = "lower-cased" if data.lowercase else "as given"
    for name in [name for name in ("validation", "test") if name in sets]:
        loss = sets[name].loss(model, model.config.pad_token_id, decoding.batch_size, accelerator)
        predictions = sets[name].translations(model, tokenizer, decoding, accelerator)
        results[name] = {
            "loss": loss,
            **translation_scores(predictions, sets[name].references),
            "by_source_length": bleu_by_source_length(sets[name].sources, predictions, sets[name].references),
        }
        if accelerator.is_main_process:
            (folder / f"{name}_translations.txt").write_text("\n".join(predictions) + "\n", encoding="utf-8")
    if accelerator.is_main_process:
        (folder / RESULTS).write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(json.dumps(results, indent=1), flush=True)
        measured = {name: results[name] for name in sets if name in results}
        signatures = measured["validation"]["signatures"]
        note = (
            f"The model is the {chosen}; {decoding.num_beams} beam(s), length penalty {decoding.length_penalty}; text "
            f"{results['text']}. BLEU `{signatures['bleu']}`, chrF `{signatures['chrf']}`."
        )
        card.write(model, measured, engine.state.step, note=note)
    accelerator.wait_for_everyone()
