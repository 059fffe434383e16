"""How far back RNN, LSTM, GRU and attention remember: trained side by side on problems that need it, and measured."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import PreTrainedConfig

from hf_seqmodels.analysis import GradientFlow, LongRangeRun, gradient_flow, plots_long_range
from hf_seqmodels.analysis.long_range import markdown_table, write_results
from hf_seqmodels.data.generated import GeneratedExamples
from hf_seqmodels.data.long_range import PROBLEMS, LongRangeProblem, collate
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import evaluation_batches
from hf_seqmodels.models.losses import IGNORE_INDEX
from hf_seqmodels.tasks.kept_runs import RESULT, SETTINGS, check_resume, engine_settings, train_in_turn, write_json
from hf_seqmodels.tasks.long_range_arguments import LongRangeArguments
from hf_seqmodels.tasks.long_range_models import build_model, matched_config
from hf_seqmodels.tasks.model_sizes import num_trained
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder

_DPI = 120

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Plan:
    """One run: what is trained on what, and where it lies."""

    problem: LongRangeProblem
    config: PreTrainedConfig
    engine: EngineArguments
    epoch_examples: int
    eval_examples: int
    gradient_examples: int

    @property
    def folder(self) -> Path:
        return Path(self.engine.output_dir)

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the run, for JSON."""
        return {
            "problem": self.problem.name,
            "length": self.problem.length,
            "epoch_examples": self.epoch_examples,
            "eval_examples": self.eval_examples,
            "gradient_examples": self.gradient_examples,
            **engine_settings(self.engine),
            **{f"config.{name}": value for name, value in json.loads(self.config.to_json_string()).items()},
        }

    def examples(self, split: str, number: int) -> GeneratedExamples:
        return GeneratedExamples(self.problem, number, self.engine.seed, split)

    def collate(self, examples: list[dict[str, Any]]) -> Batch:
        # The recurrent models read the two numbers as they are; attention reads them among zeros.
        return collate(examples, getattr(self.config, "embedding_size", None) or self.config.hidden_size)


def main(args: LongRangeArguments, engine_args: EngineArguments) -> list[LongRangeRun] | None:
    """Trains every model on every length with every seed, one after the other, and reports on all of them.

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


def _plans(args: LongRangeArguments, engine_args: EngineArguments) -> list[_Plan]:
    plans = []
    for length in args.lengths:
        problem = PROBLEMS[args.problem](length)
        for model in args.models:
            config = matched_config(args, model, problem)
            for seed in range(engine_args.seed, engine_args.seed + args.num_seeds):
                name = f"{args.problem}_{length}_{model}_seed{seed}"
                engine = replace(
                    engine_args,
                    output_dir=str(Path(engine_args.output_dir) / name),
                    seed=seed,
                    learning_rate=args.learning_rates.get(model, engine_args.learning_rate),
                )
                plans.append(
                    _Plan(problem, config, engine, args.epoch_examples, args.eval_examples, args.gradient_examples)
                )
    return plans


def _run(plan: _Plan, number: str) -> LongRangeRun | None:
    """Trains, or reads what was trained; `None` if a signal stopped it."""
    name, path = plan.folder.name, plan.folder / RESULT
    is_main = PartialState().is_main_process
    if path.is_file() and plan.engine.resume_from_checkpoint is not None:
        if is_main:
            print(f"{name} ({number}) is complete.")
        return LongRangeRun.from_dict(json.loads(path.read_text(encoding="utf-8")))
    resume_from = open_run_folder(plan.engine)
    torch.manual_seed(plan.engine.seed)
    model = build_model(plan.config, plan.problem)
    # The engine trains this very model, so what it is before is measured on its like.
    torch.manual_seed(plan.engine.seed)
    new_model = build_model(plan.config, plan.problem)
    if is_main:
        write_json(plan.folder / SETTINGS, plan.settings)
        where = f"resuming from {resume_from.name}" if resume_from else "new"
        print(f"{name} ({number}): {num_trained(model):,} parameters, {plan.engine.max_steps} steps; {where}")
    engine = Engine(
        model,
        plan.engine,
        [
            Phase(
                plan.problem.name,
                plan.engine.max_steps,
                plan.examples("train", plan.epoch_examples),
                plan.collate,
                plan.engine.per_device_train_batch_size,
            )
        ],
        count_items=_count_items,
        evaluate=functools.partial(_evaluate, plan),
        resume_from=resume_from,
        unit="steps",
        count_units=_count_steps,
    )
    trained = engine.train()
    if trained.stopped_by is not None:
        return None
    run = _result(plan, trained, new_model, engine.model)
    if is_main:
        write_json(path, run.to_dict())
    return run


def _count_items(batch: dict[str, Any]) -> dict[str, int]:
    return {"num_items_in_batch": int((batch["labels"] != IGNORE_INDEX).sum())}


def _count_steps(batch: dict[str, Any]) -> int:
    """Steps of the sequences, over the batch."""
    inputs = batch["input_ids"] if "input_ids" in batch else batch["inputs_embeds"][..., 0]
    return inputs.numel()


def _evaluate(plan: _Plan, engine: Engine) -> dict[str, float]:
    """Sums over all processes, then divides."""
    accelerator = engine.accelerator
    dataset = plan.examples("validation", plan.eval_examples)
    sums = torch.zeros(4, dtype=torch.float64)
    batches = evaluation_batches(
        dataset, plan.engine.per_device_eval_batch_size, accelerator.num_processes, accelerator.process_index
    )
    for keys, counts in batches:
        batch = plan.collate([dataset[key] for key in keys])
        batch = {name: values.to(accelerator.device) for name, values in batch.items()}
        outputs = engine.model(**batch)
        if counts:
            items = _count_items(batch)["num_items_in_batch"]
            right, recalled = _recalled(plan.problem, outputs.logits, batch["labels"])
            sums += torch.tensor([outputs.loss.item() * items, items, right, recalled], dtype=torch.float64)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
    loss, items, right, recalled = sums.tolist()
    return {"loss": loss / items, **({"recall_accuracy": right / recalled} if recalled else {})}


def _recalled(problem: LongRangeProblem, logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """Remembered symbols that are right, and remembered symbols; none in a regression."""
    if not problem.num_recalled:
        return 0, 0
    symbols = labels[:, -problem.num_recalled :]
    right = logits[:, -problem.num_recalled :].argmax(-1) == symbols
    return int(right.sum()), symbols.numel()


def _result(plan: _Plan, trained: TrainResult, new_model: Any, model: Any) -> LongRangeRun:
    return LongRangeRun(
        problem=plan.problem.name,
        length=plan.problem.length,
        model=plan.config.model_type,
        seed=plan.engine.seed,
        hidden_size=plan.config.hidden_size,
        num_parameters=num_trained(model),
        baseline=plan.problem.baseline,
        metrics=trained.metrics,
        history=trained.history,
        initial=_measure(plan, new_model.to(model.device)),
        trained=_measure(plan, model),
    )


def _measure(plan: _Plan, model: Any) -> GradientFlow:
    """Gradients of the loss at the last step: of the sum, or of the last symbol."""
    dataset = plan.examples("validation", plan.gradient_examples)
    batch = plan.collate([dataset[Key(0, 0, index)] for index in range(len(dataset))])
    batch = {name: values.to(model.device) for name, values in batch.items()}
    labels = batch.pop("labels")

    def loss(outputs: Any) -> torch.Tensor:
        if labels.dim() == 1:
            return nn.functional.mse_loss(outputs.logits[:, 0], labels, reduction="none")
        return nn.functional.cross_entropy(outputs.logits[:, -1], labels[:, -1], reduction="none")

    (inputs,) = batch.values()
    return gradient_flow(model, inputs, loss=loss)


def _report(runs: list[LongRangeRun], folder: Path) -> None:
    write_results(runs, folder)
    print(f"\n{runs[0].problem} problem\n\n{markdown_table(runs)}")
    figures = {
        "learning_curves": plots_long_range.learning_curves_figure(runs),
        "loss_by_length": plots_long_range.loss_by_length_figure(runs),
        "gradient_norms": plots_long_range.gradient_figure(_flows(runs)),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=_DPI, bbox_inches="tight")
    print(f"results.csv, results.json, table.md, {', '.join(f'{name}.png' for name in figures)} are in {folder}.")


def _flows(runs: list[LongRangeRun]) -> dict[str, dict[str, GradientFlow]]:
    """Of the longest problem and the first seed: a new model's gradients and a trained one's."""
    longest = max(run.length for run in runs)
    first = min(run.seed for run in runs)
    shown = [run for run in runs if (run.length, run.seed) == (longest, first)]
    return {
        f"new models, T = {longest}": {run.model: run.initial for run in shown},
        f"trained models, T = {longest}": {run.model: run.trained for run in shown},
    }
