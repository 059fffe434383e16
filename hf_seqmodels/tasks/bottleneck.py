"""The bottleneck of a fixed-size context, and its cure: encoder–decoders of one size learn to copy and to reverse."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedConfig

from hf_seqmodels.analysis import plots_bottleneck
from hf_seqmodels.analysis.bottleneck import BottleneckRun, LengthScore, markdown_table, write_results
from hf_seqmodels.data.copying import PAD, CopyingTask
from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.data.sampling import evaluation_batches
from hf_seqmodels.data.translation import IGNORE_INDEX, TranslationCollator
from hf_seqmodels.tasks.bottleneck_arguments import BottleneckArguments
from hf_seqmodels.tasks.bottleneck_models import build_model, matched_config
from hf_seqmodels.tasks.kept_runs import RESULT, SETTINGS, check_resume, engine_settings, train_in_turn, write_json
from hf_seqmodels.tasks.model_sizes import num_trained
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder

_DPI = 120

# Of each range of lengths: examples, those without a mistake, target tokens, right ones.
COUNTS = ("examples", "exact", "tokens", "right")

collate = TranslationCollator(PAD)


@dataclass(frozen=True)
class _Plan:
    """One run: what is trained on what, and where it lies."""

    task: CopyingTask
    config: PreTrainedConfig
    engine: EngineArguments
    args: BottleneckArguments

    @property
    def folder(self) -> Path:
        return Path(self.engine.output_dir)

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the run, for JSON."""
        names = ("epoch_examples", "eval_examples", "bucket_window", "bucket_width")
        return {
            **{f"task.{name}": value for name, value in vars(self.task).items()},
            **{name: getattr(self.args, name) for name in names},
            **engine_settings(self.engine),
            **{f"config.{name}": value for name, value in json.loads(self.config.to_json_string()).items()},
        }

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Shortest and longest of the lengths that are reported together."""
        starts = range(self.task.shortest, self.task.longest + 1, self.args.bucket_width)
        return [(start, min(start + self.args.bucket_width - 1, self.task.longest)) for start in starts]

    def examples(self, split: str, number: int) -> GeneratedExamples:
        return GeneratedExamples(self.task, number, self.engine.seed, split)


def main(args: BottleneckArguments, engine_args: EngineArguments) -> list[BottleneckRun] | None:
    """Trains every model on every task, one after the other, and reports on all of them.

    Each run has a folder in `output_dir` with checkpoints, model and result; one that is complete is read, not
    repeated, and one that was interrupted goes on.

    Returns:
        The runs, in the order of the table; `None` if a signal stopped them early.

    Raises:
        ValueError: an argument that cannot be used, or a folder with runs of other settings.
    """
    check_resume(engine_args)
    runs = train_in_turn(_plans(args, engine_args), _run)
    if runs is not None and PartialState().is_main_process:
        _report(runs, Path(engine_args.output_dir))
    return runs


def _plans(args: BottleneckArguments, engine_args: EngineArguments) -> list[_Plan]:
    plans = []
    for name in args.tasks:
        task = CopyingTask(name, args.shortest, args.longest, args.num_symbols)
        for model in args.models:
            engine = replace(
                engine_args,
                output_dir=str(Path(engine_args.output_dir) / f"{name}_{model}"),
                learning_rate=args.learning_rates.get(model, engine_args.learning_rate),
            )
            plans.append(_Plan(task, matched_config(args, model, task), engine, args))
    return plans


def _run(plan: _Plan, number: str) -> BottleneckRun | None:
    """Trains, or reads what was trained; `None` if a signal stopped it."""
    name, path = plan.folder.name, plan.folder / RESULT
    is_main = PartialState().is_main_process
    if path.is_file() and plan.engine.resume_from_checkpoint is not None:
        if is_main:
            print(f"{name} ({number}) is complete.")
        return BottleneckRun.from_dict(json.loads(path.read_text(encoding="utf-8")))
    resume_from = open_run_folder(plan.engine)
    torch.manual_seed(plan.engine.seed)
    model = build_model(plan.config)
    if is_main:
        write_json(plan.folder / SETTINGS, plan.settings)
        where = f"resuming from {resume_from.name}" if resume_from else "new"
        print(f"{name} ({number}): {num_trained(model):,} parameters, {plan.engine.max_steps} steps; {where}")
    engine = Engine(
        model,
        plan.engine,
        [
            Phase(
                plan.task.name,
                plan.engine.max_steps,
                plan.examples("train", plan.args.epoch_examples),
                collate,
                plan.engine.per_device_train_batch_size,
                bucket_window=plan.args.bucket_window,
            )
        ],
        count_items=count_items,
        evaluate=functools.partial(_evaluate, plan),
        resume_from=resume_from,
    )
    trained = engine.train()
    if trained.stopped_by is not None:
        return None
    run = _result(plan, trained, num_trained(model))
    if is_main:
        write_json(path, run.to_dict())
    return run


def count_items(batch: dict[str, Any]) -> dict[str, int]:
    """Targets of a batch."""
    return {"num_items_in_batch": int((batch["labels"] != IGNORE_INDEX).sum())}


def _evaluate(plan: _Plan, engine: Engine) -> dict[str, float]:
    """Greedy translations of held-out examples: counts by range of lengths, and shares over all."""
    accelerator = engine.accelerator
    model: Any = engine.model
    dataset = plan.examples("validation", plan.args.eval_examples)
    sums = torch.zeros(len(plan.ranges), len(COUNTS), dtype=torch.float64)
    batches = evaluation_batches(
        dataset, plan.engine.per_device_eval_batch_size, accelerator.num_processes, accelerator.process_index
    )
    for keys, counts in batches:
        batch = collate([dataset[key] for key in keys])
        labels = batch.pop("labels")
        inputs = {name: values.to(accelerator.device) for name, values in batch.items()}
        written = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=labels.shape[1])
        if counts:
            symbols = batch["attention_mask"].sum(1) - 1
            buckets = (symbols - plan.task.shortest) // plan.args.bucket_width
            sums.index_add_(0, buckets, score_written(written[:, 1:].cpu(), labels))
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
    examples, exact, tokens, right = sums.sum(0).tolist()
    metrics = {"exact_match": exact / examples, "token_accuracy": right / tokens}
    for (shortest, _), values in zip(plan.ranges, sums.tolist()):
        metrics |= {f"{name}_{shortest}": value for name, value in zip(COUNTS, values)}
    return metrics


def score_written(written: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`(batch, 4)`, each row's `COUNTS`. What comes after the end does not count."""
    written = torch.nn.functional.pad(written, (0, labels.shape[1] - written.shape[1]), value=PAD)
    there = labels != IGNORE_INDEX
    tokens, right = there.sum(1), ((written == labels) & there).sum(1)
    return torch.stack([torch.ones_like(tokens), right == tokens, tokens, right], dim=1).double()


def _result(plan: _Plan, trained: TrainResult, num_parameters: int) -> BottleneckRun:
    metrics = trained.metrics
    scores = []
    for shortest, longest in plan.ranges:
        examples, exact, tokens, right = (metrics[f"{name}_{shortest}"] for name in COUNTS)
        if examples:
            scores.append(LengthScore(shortest, longest, int(examples), exact / examples, right / tokens))
    return BottleneckRun(
        task=plan.task.name,
        model=plan.config.model_type,
        hidden_size=plan.config.hidden_size,
        num_parameters=num_parameters,
        exact_match=metrics["exact_match"],
        token_accuracy=metrics["token_accuracy"],
        scores=tuple(scores),
        history=trained.history,
    )


def _report(runs: list[BottleneckRun], folder: Path) -> None:
    write_results(runs, folder)
    print(f"\nExact match (token accuracy), %, by symbols of the source\n\n{markdown_table(runs)}")
    figure = plots_bottleneck.accuracy_by_length_figure(runs)
    figure.savefig(folder / "accuracy_by_length.png", dpi=_DPI, bbox_inches="tight")
    print(f"results.json, table.md and accuracy_by_length.png are in {folder}.")
