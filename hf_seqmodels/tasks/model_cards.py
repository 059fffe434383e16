"""The model card of a training run: what was trained, on what, how, with what result."""

import dataclasses
import json
import math
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from huggingface_hub import EvalResult
from transformers import PreTrainedModel, Trainer
from transformers.modelcard import extract_hyperparameters_from_trainer

import hf_seqmodels
from hf_seqmodels.models.model_card import (
    card_data,
    card_text,
    load_card,
    make_card,
    pipeline_tag_of,
    save_card,
    table,
)
from hf_seqmodels.training import Engine

Results = Mapping[str, Mapping[str, Any]]

# What programs train on if they are given nothing else, and its languages.
EMBEDDED_TEXT = ("CPython's language reference (`pydoc_data.topics`)", ("en",))
EMBEDDED_DOCSTRINGS = ("docstrings of Python's standard library", ("en",))
EMBEDDED_IMAGES = ("scikit-learn's digits (1,797 images of 8×8)", ())

# Our names of metrics -> those on the Hub; losses and the like are in the results, but no metrics of the Hub.
HUB_METRICS = {
    "accuracy": "accuracy",
    "bleu": "sacrebleu",
    "chrf": "chrf",
    "exact_match": "exact_match",
    "f1": "f1",
    "matthews_correlation": "matthews_correlation",
    "perplexity": "perplexity",
    "precision": "precision",
    "recall": "recall",
}
# Arguments that say where things lie or what is shown, and those that the section on data is about.
_NO_HYPERPARAMETERS = {
    "output_dir",
    "push_to_hub",
    "resume_from_checkpoint",
    "disable_tqdm",
    "report_to",
    "cache_dir",
    "dataset_name",
    "dataset_config_name",
    "embedded",
}
# What Trainer's evaluations give beside metrics.
_SPEEDS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
_FILES = ("_file", "_folder")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual")
_HIDDEN = "…"


@dataclass
class CardArguments:
    """Model card (README.md of the trained model)

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    hub_license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the model by its name on the Hub, such as apache-2.0 or mit; unknown if not given: "
            "you alone can say what your data allow."
        },
    )
    hub_language: list[str] = field(
        default_factory=list, metadata={"help": "Languages of the data by their ISO codes, such as en ko."}
    )

    def __post_init__(self) -> None:
        if self.hub_license is not None and not _LICENSE.fullmatch(self.hub_license):
            raise ValueError(
                f"hub_license={self.hub_license!r} must be a name of https://huggingface.co/docs/hub/"
                "repositories-licenses, such as apache-2.0: small letters, digits, '.', '+' and '-'."
            )
        for language in self.hub_language:
            if not _LANGUAGE.fullmatch(language):
                raise ValueError(f"hub_language={language!r} must be an ISO 639 code, or code, or multilingual.")


@dataclass(frozen=True)
class DataSource:
    """What a model was trained on.

    Args:
        name: for a reader.
        dataset_id: on the Hub, if it is there.
        config: of that dataset.
        languages: ISO codes, where known.
    """

    name: str
    dataset_id: str | None = None
    config: str | None = None
    languages: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        files: Sequence[str | None],
        dataset_name: str | None,
        dataset_config: str | None,
        embedded: str,
        languages: Sequence[str] = (),
    ) -> "DataSource":
        """The source that a program's arguments name: files, a dataset on the Hub or in a folder, or the embedded one.

        Files are called by their names without folders, which are nobody else's business.
        """
        named = [Path(file).name for file in files if file]
        if named:
            return cls(", ".join(named))
        if dataset_name is None:
            return cls(embedded, languages=tuple(languages))
        if Path(dataset_name).exists():
            return cls(Path(dataset_name).name, config=dataset_config)
        return cls(dataset_name, dataset_name, dataset_config)


class TrainingCard:
    """The card of one run; begun before the training, written after it.

    Args:
        program: name of the script, without `.py`.
        arguments: the dataclasses that it was called with.
        data: trained on.
        card: what the user says of the model.
        folder: of the trained model.
        argv: the program's arguments where it was not this process's command that gave them.

    Raises:
        ValueError: the folder has a README.md that nobody can read.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[Any],
        data: DataSource,
        card: CardArguments | None,
        folder: str,
        argv: Sequence[str] | None = None,
    ):
        self.program, self.arguments, self.data = program, arguments, data
        self.card = card or CardArguments()
        self.folder, self.argv = folder, argv
        _check_readable(folder)
        self.begin(0)

    def begin(self, step: int) -> None:
        """The training begins now, after so many steps of an earlier process."""
        self._since, self._first_step = time.monotonic(), step

    def after_engine(self, engine: Engine) -> None:
        """What an engine calls at its end: the results are those of the last evaluation."""
        if engine.accelerator.is_main_process:
            self.write(engine.model, {"validation": engine.metrics}, engine.state.step)

    def after_trainer(self, trainer: Trainer, results: Mapping[str, float]) -> None:
        """The card of a run by transformers' Trainer.

        Args:
            results: metrics named `eval_…` and `test_…`.
        """
        if not trainer.is_world_process_zero():
            return
        splits = {"validation": "eval_", "test": "test_"}
        numbers = {
            split: {
                name[len(prefix) :]: value
                for name, value in results.items()
                if name.startswith(prefix) and name[len(prefix) :] not in _SPEEDS
            }
            for split, prefix in splits.items()
        }
        model: Any = trainer.model
        self.write(
            model,
            {split: metrics for split, metrics in numbers.items() if metrics},
            trainer.state.global_step,
            trainer.hub_model_id if trainer.args.push_to_hub else None,
            {name: str(value) for name, value in extract_hyperparameters_from_trainer(trainer).items()},
        )

    def write(
        self,
        model: PreTrainedModel,
        results: Results,
        step: int,
        name: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> None:
        """Writes `README.md`, or completes it where someone has edited it; for the main process.

        Args:
            model: the trained one.
            results: split -> metric -> value; what is no finite number is left out.
            step: of the last update.
            name: what `from_pretrained` will take; by default the repository to push to, or the folder.
            hyperparameters: further ones, by name.
            note: how the results were measured.
        """
        if name is None:
            repository = self._value("hub_model_id") or Path(self.folder).resolve().name
            name = repository if self._value("push_to_hub") else self.folder
        numbers = {split: _numbers(metrics) for split, metrics in results.items()}
        sections = [
            ("Results", f"{_results_text(numbers, self.data)}\n\n{note}"),
            ("Training data", self._data_text()),
            ("Training", self._training_text(step, hyperparameters or {})),
            ("Environment", _environment_text()),
        ]
        values: dict[str, Any] = {
            "language": self.card.hub_language or list(self.data.languages) or None,
            "datasets": [self.data.dataset_id] if self.data.dataset_id else None,
            "base_model": self._base_model(),
        }
        if self.card.hub_license is not None:
            values["license"] = self.card.hub_license
        measured = list(dict.fromkeys(metric for metrics in numbers.values() for metric in metrics))
        metrics = [HUB_METRICS[metric] for metric in measured if metric in HUB_METRICS]
        if measured:
            values["metrics"] = metrics or None
            values["model_name"] = Path(name).name
            values["eval_results"] = self._eval_results(model, numbers)
        save_card(self.folder, make_card(card_data(model, **values), card_text(model, name, sections)))

    def _value(self, name: str) -> Any:
        """An argument of the program, whichever dataclass holds it."""
        return next((getattr(given, name) for given in self.arguments if hasattr(given, name)), None)

    def _base_model(self) -> str | None:
        """What it was fine-tuned from, if that is on the Hub."""
        named = self._value("model_name_or_path")
        return None if named is None or Path(named).exists() else named

    def _eval_results(self, model: PreTrainedModel, numbers: Results) -> list[EvalResult]:
        return [
            EvalResult(
                task_type=pipeline_tag_of(type(model)) or "other",
                dataset_type=self.data.dataset_id or "local",
                dataset_name=self.data.name,
                dataset_config=self.data.config,
                dataset_split=split,
                metric_type=HUB_METRICS.get(metric, metric),
                metric_name=metric,
                metric_value=value,
            )
            for split, metrics in numbers.items()
            for metric, value in metrics.items()
        ]

    def _data_text(self) -> str:
        if self.data.dataset_id is None:
            return self.data.name
        config = "" if self.data.config is None else f", configuration `{self.data.config}`"
        return f"[{self.data.name}](https://huggingface.co/datasets/{self.data.dataset_id}){config}"

    def _training_text(self, step: int, hyperparameters: Mapping[str, Any]) -> str:
        begun = "" if self._first_step == 0 else f" from step {self._first_step} on, where this run was resumed"
        lines = [f"{step} steps; {_duration(time.monotonic() - self._since)} with evaluation{begun}."]
        command = self._command()
        if command is None:
            lines.append(f"Called from Python: `hf_seqmodels.tasks.{self.program}.main`.")
        else:
            lines.append(f"```bash\n{command}\n```")
        rows = {**changed(self.arguments), **hyperparameters}
        if rows:
            lines.append("What differs from the program's defaults:")
            lines.append(table(("argument", "value"), [(f"`{name}`", _shown(value)) for name, value in rows.items()]))
        return "\n\n".join(lines)

    def _command(self) -> str | None:
        """The command that ran this program, if one did."""
        script = Path(sys.argv[0])
        if self.argv is None and script.stem != self.program:
            return None
        arguments = sys.argv[1:] if self.argv is None else self.argv
        path = script.as_posix() if script.stem == self.program else f"scripts/{self.program}.py"
        processes = PartialState().num_processes
        launcher = ["python"] if processes == 1 else ["torchrun", "--nproc_per_node", str(processes)]
        return shlex.join([*launcher, path, *without_secrets(arguments)])


def _check_readable(folder: str) -> None:
    try:
        load_card(folder)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{folder}/README.md: its metadata cannot be read ({error}). Mend it or move it.") from error


def changed(arguments: Sequence[Any]) -> dict[str, Any]:
    """Hyperparameters of dataclasses whose value is not the default, by name."""
    found: dict[str, Any] = {}
    for given in arguments:
        for item in dataclasses.fields(given):
            is_hidden = item.name in _NO_HYPERPARAMETERS or item.name.startswith("hub_")
            if is_hidden or item.name.endswith(_FILES) or not item.init:
                continue
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            if getattr(given, item.name) != default:
                found[item.name] = getattr(given, item.name)
    return found


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """A command line whose tokens for the Hub are replaced by `…`."""
    shown: list[str] = []
    for argument in arguments:
        previous = shown[-1] if shown else ""
        flag, equals, _ = argument.partition("=")
        if _is_secret(flag) and equals:
            shown.append(f"{flag}={_HIDDEN}")
        else:
            shown.append(_HIDDEN if _is_secret(previous) else argument)
    return shown


def _is_secret(flag: str) -> bool:
    return flag.startswith("--") and flag.replace("-", "_").endswith("_token")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _results_text(numbers: Results, data: DataSource) -> str:
    names = list(dict.fromkeys(metric for metrics in numbers.values() for metric in metrics))
    if not names:
        return "The model was not evaluated."
    rows = [
        (name, *(f"{metrics[name]:.4f}" if name in metrics else "" for metrics in numbers.values())) for name in names
    ]
    return f"On {data.name}:\n\n{table(('metric', *numbers), rows)}"


def _environment_text() -> str:
    state = PartialState()
    on_gpu = state.device.type == "cuda"
    device = torch.cuda.get_device_name(state.device) if on_gpu else f"CPU ({platform.machine()})"
    threads = "" if on_gpu else f", {torch.get_num_threads()} of {os.cpu_count()} threads each"
    rows = [
        ("Python", platform.python_version()),
        *((package, version(package)) for package in ("torch", "transformers", "accelerate", "datasets")),
        ("hf_seqmodels", hf_seqmodels.__version__),
        ("device", device),
        ("processes", f"{state.num_processes}{threads}"),
    ]
    return table(("what", "version"), rows)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


__all__ = ["HUB_METRICS", "CardArguments", "DataSource", "TrainingCard", "changed", "without_secrets"]
