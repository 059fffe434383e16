"""SeqBert's classifier on CPUs: speed and accuracy in float32, bfloat16 and int8, in PyTorch and onnxruntime."""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hf_seqmodels.data.docstrings import embedded_classification
from hf_seqmodels.models.configuration_bert import SeqBertConfig
from hf_seqmodels.models.modeling_bert_finetuning import SeqBertForSequenceClassification
from hf_seqmodels.tasks.benchmark.measure import time_interleaved

Tensors = dict[str, torch.Tensor]
Classifier = Callable[[Tensors], np.ndarray]

TASKS = ("speed", "accuracy")
# As scripts/recipes/finetune_quickstart.yaml trains.
_MAX_LENGTH = 64


@dataclass(frozen=True)
class QuantizationCase:
    """One comparison of speed.

    Args:
        size: a preset of `SeqBertConfig`.
        seq: tokens in a row.
        batch: rows.
    """

    size: str
    seq: int
    batch: int


@contextmanager
def contenders(model: SeqBertForSequenceClassification) -> Iterator[tuple[dict[str, Classifier], dict[str, float]]]:
    """Name -> classifier, from inputs to logits `(batch, num_labels)` in float32; and name -> MiB of its weights."""
    import onnxruntime

    from hf_seqmodels.conversion.onnx import export_onnx
    from hf_seqmodels.conversion.quantization import quantize_onnx

    def session(folder: Path) -> Classifier:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        loaded = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        names = [value.name for value in loaded.get_inputs()]
        return lambda batch: loaded.run(["logits"], {name: batch[name].numpy() for name in names})[0]

    def in_torch(model: Any) -> Classifier:
        def classify(batch: Tensors) -> np.ndarray:
            with torch.no_grad():
                return model(**batch).logits.float().numpy()

        return classify

    model.eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as scratch:
        exported = export_onnx(model, Path(scratch) / "float32")
        quantised = quantize_onnx(exported, Path(scratch) / "int8")
        yield (
            {
                "PyTorch, float32": in_torch(model),
                "PyTorch, bfloat16": in_torch(copy.deepcopy(model).bfloat16()),
                "onnxruntime, float32": session(exported),
                "onnxruntime, int8": session(quantised),
            },
            {
                "PyTorch, float32": 4 * parameters / 2**20,
                "PyTorch, bfloat16": 2 * parameters / 2**20,
                "onnxruntime, float32": (exported / "model.onnx").stat().st_size / 2**20,
                "onnxruntime, int8": (quantised / "model.onnx").stat().st_size / 2**20,
            },
        )


def speed(cases: list[QuantizationCase], rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[Any]:
    """Seconds of a forward on full rows, the contenders interleaved.

    Returns:
        For each case and contender a row: `size`, `seq`, `batch`, `name`, `seconds`, `spread`, `speed_ratio` (to
        PyTorch in float32), `mib`.
    """
    rows = []
    for size in dict.fromkeys(case.size for case in cases):
        torch.manual_seed(0)
        model = SeqBertForSequenceClassification(SeqBertConfig.preset(size, num_labels=2))
        with contenders(model) as (classifiers, mib):
            for case in cases:
                if case.size != size:
                    continue
                batch = _full_rows(case, model.config)
                steps = {name: _step(classify, batch) for name, classify in classifiers.items()}
                timings = time_interleaved(steps, rounds, clock=clock)
                first = next(iter(timings.values())).median
                rows += [
                    {
                        **vars(case),
                        "name": name,
                        "seconds": timing.median,
                        "spread": timing.spread,
                        "speed_ratio": first / timing.median,
                        "mib": mib[name],
                    }
                    for name, timing in timings.items()
                ]
    return rows


def _full_rows(case: QuantizationCase, config: SeqBertConfig) -> Tensors:
    shape = (case.batch, case.seq)
    return {
        "input_ids": torch.randint(5, config.vocab_size, shape, generator=torch.Generator().manual_seed(0)),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "token_type_ids": torch.zeros(shape, dtype=torch.int64),
    }


def _step(classify: Classifier, batch: Tensors) -> Callable[[], None]:
    def step() -> None:
        classify(batch)

    return step


def accuracy(checkpoint: str, batch: int) -> list[dict[str, Any]]:
    """How a classifier of the embedded docstrings (recipe finetune_quickstart) does on their validation split.

    Returns:
        For each contender a row: `name`, `accuracy`, `agreement` with PyTorch in float32 (share of equal answers),
        `difference` (the median over examples of the largest difference between logits), `mib`.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
    data: Any = embedded_classification()["validation"]
    labels = np.array([model.config.label2id[data.features["label"].int2str(label)] for label in data["label"]])
    encoded = [tokenizer(text, truncation=True, max_length=_MAX_LENGTH) for text in data["text"]]
    collate = DataCollatorWithPadding(tokenizer)
    batches = [dict(collate(encoded[start : start + batch])) for start in range(0, len(encoded), batch)]
    rows: list[dict[str, Any]] = []
    with contenders(model) as (classifiers, mib):
        reference = np.zeros(0)
        for name, classify in classifiers.items():
            logits = np.concatenate([classify(inputs) for inputs in batches])
            reference = reference if len(reference) else logits
            answers = logits.argmax(-1)
            rows.append(
                {
                    "name": name,
                    "accuracy": float((answers == labels).mean()),
                    "agreement": float((answers == reference.argmax(-1)).mean()),
                    "difference": statistics.median(np.abs(logits - reference).max(-1).tolist()),
                    "mib": mib[name],
                }
            )
    return rows


def report_speed(rows: list[dict[str, Any]]) -> str:
    """A table of `speed`."""
    lines = [
        f"CPU, {torch.get_num_threads()} threads; milliseconds of a forward (± half the interquartile range)",
        "| size | seq | batch | | ms | speed | weights, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(
        lines
        + [
            f"| {row['size']} | {row['seq']} | {row['batch']} | {row['name']} | {row['seconds'] * 1e3:.1f} ± "
            f"{row['spread'] * 1e3:.1f} | {row['speed_ratio']:.2f}× | {row['mib']:.0f} |"
            for row in rows
        ]
    )


def report_accuracy(rows: list[dict[str, Any]]) -> str:
    """A table of `accuracy`."""
    lines = ["| | accuracy | same answers | difference of logits | weights, MiB |", "|---|---|---|---|---|"]
    return "\n".join(
        lines
        + [
            f"| {row['name']} | {row['accuracy']:.4f} | {row['agreement']:.2%} | {row['difference']:.1e} | "
            f"{row['mib']:.1f} |"
            for row in rows
        ]
    )
