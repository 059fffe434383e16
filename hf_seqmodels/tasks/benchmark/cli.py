"""Command line of the benchmarks."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_seqmodels.models.configuration_bert import PRESETS
from hf_seqmodels.tasks.benchmark import bert, image_processor, lm, precision, quantization, translation, vit


def build_parser() -> argparse.ArgumentParser:
    """One subcommand for each architecture."""
    parser = argparse.ArgumentParser(
        description="Ours and its peers in one process, interleaved: median, spread, ratio."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_bert, _add_vit, _add_lm, _add_translation, _add_precision, _add_quantization):
        add(commands)
    for each in commands.choices.values():
        each.add_argument("--threads", type=int, default=None, help="CPU threads (PyTorch's own choice if not given)")
        each.add_argument("--json", type=Path, default=None, help="write the figures to this file, too")
    return parser


def _add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def _add_cpu_time(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cpu_time",
        action="store_true",
        help="time of this process, not of the clock: for a busy machine, --threads 1",
    )


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if args.cpu_time else time.perf_counter


def _add_measurement(command: argparse.ArgumentParser, dtype: str, cpu_time: bool = True) -> None:
    """What all comparisons of steps have in common."""
    command.add_argument("--dtype", choices=["float32", "bfloat16"], nargs="+", default=[dtype], help="precisions")
    command.add_argument("--rounds", type=int, default=7, help="timed steps of each contender")
    command.add_argument("--no_memory", action="store_true", help="skip the memory measurement")
    if cpu_time:
        _add_cpu_time(command)


def _add_bert(commands: Any) -> None:
    text = "pretraining step (forward, backward, optimiser) against transformers' BertForPreTraining"
    command = _add_command(commands, "bert", text)
    command.add_argument("--size", choices=list(PRESETS), default="small", help="preset of SeqBertConfig")
    command.add_argument("--seq", type=int, default=128, help="tokens in a row")
    command.add_argument("--batch", type=int, default=16, help="rows")
    command.add_argument(
        "--padded", action="store_true", help="rows of random length, seq/16 to seq; ours unpads them"
    )
    command.add_argument("--dropout", type=float, default=0.1, help="rate of both dropouts")
    _add_measurement(command, "bfloat16", cpu_time=False)


def _add_vit(commands: Any) -> None:
    text = "SeqViT's training step, inference, MAE step and image processor against transformers'"
    command = _add_command(commands, "vit", text)
    command.add_argument("--task", choices=[*vit.TASKS, "processor"], default="train", help="what to measure")
    command.add_argument("--size", default="Ti/4@32", help="preset of SeqViTConfig @ side of the images in pixels")
    command.add_argument("--batch", type=int, default=64, help="images")
    _add_measurement(command, "bfloat16")


def _add_lm(commands: Any) -> None:
    text = "recurrent language models: training against a torch.nn loop, decoding against transformers' GPT-2"
    command = _add_command(commands, "lm", text)
    command.add_argument("--task", choices=lm.TASKS, default="train", help="what to measure")
    command.add_argument("--model_type", choices=["rnn", "lstm", "gru"], default="lstm", help="the architecture")
    command.add_argument("--vocab", type=int, default=30000, help="entries of the vocabulary")
    command.add_argument("--hidden", type=int, default=512, help="units of a layer, and width of the embeddings")
    command.add_argument("--layers", type=int, default=2, help="recurrent layers")
    command.add_argument("--batch", type=int, default=32, help="rows")
    command.add_argument("--length", type=int, default=64, help="tokens of a chunk, or of the context to decode at")
    _add_measurement(command, "float32")


def _add_translation(commands: Any) -> None:
    text = "training and beam search against transformers' MarianMT, and the attention model against its own loop"
    command = _add_command(commands, "translation", text)
    command.add_argument("--task", choices=translation.TASKS, default="train", help="what to measure")
    command.add_argument("--vocab", type=int, default=8000, help="entries of the vocabulary")
    command.add_argument("--width", type=int, default=256, help="d_model, or hidden units")
    command.add_argument("--layers", type=int, default=3, help="layers of encoder and of decoder")
    command.add_argument("--batch", type=int, default=64, help="sentences")
    command.add_argument("--length", type=int, default=24, help="longest source and target")
    command.add_argument("--beams", type=int, default=5, help="of the search")
    command.add_argument("--dropout", type=float, default=0.1, help="rate while training")
    _add_measurement(command, "float32")


def _add_precision(commands: Any) -> None:
    text = "loss curves of float32, autocast and master weights on the embedded text"
    command = _add_command(commands, "precision", text)
    command.add_argument("--size", choices=list(PRESETS), default="mini", help="preset of SeqBertConfig")
    command.add_argument("--steps", type=int, default=300, help="optimiser steps of each run")
    command.add_argument("--seeds", type=int, default=2, help="runs in each precision")


def _add_quantization(commands: Any) -> None:
    text = "SeqBert's classifier on a CPU: PyTorch in float32 and bfloat16, onnxruntime in float32 and int8"
    command = _add_command(commands, "quantization", text)
    command.add_argument("--task", choices=quantization.TASKS, default="speed", help="what to measure")
    command.add_argument("--size", choices=list(PRESETS), nargs="+", default=["mini"], help="presets, for speed")
    command.add_argument("--seq", type=int, default=128, help="tokens in a row, for speed")
    command.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="rows; for accuracy, the first number")
    command.add_argument("--rounds", type=int, default=7, help="timed forwards of each contender")
    command.add_argument("--checkpoint", help="for accuracy: a folder that recipe finetune_quickstart has written")
    _add_cpu_time(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark that `argv` asks for and prints its table; 0 on success."""
    args = build_parser().parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    run = {
        "bert": _bert,
        "vit": _vit,
        "lm": _lm,
        "translation": _translation,
        "precision": _precision,
        "quantization": _quantization,
    }[args.command]
    results = run(args)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0


def _precision(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = precision.run(args.size, args.steps, args.seeds)
    print(precision.report(rows), flush=True)
    return rows


def _bert(args: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    for dtype in args.dtype:
        case = bert.BertCase(
            size=args.size,
            seq=args.seq,
            batch=args.batch,
            dtype=dtype,
            padded=args.padded,
            dropout=args.dropout,
            device=_device(),
        )
        result = bert.run(case, rounds=args.rounds, memory=not args.no_memory)
        print(bert.report(case, result), flush=True)
        results.append({"case": vars(case), **result})
    return results


def _vit(args: argparse.Namespace) -> list[dict[str, Any]]:
    clock = _clock(args)
    cases = [vit.ViTCase(args.task, args.size, args.batch, dtype, _device()) for dtype in args.dtype]
    if args.task == "processor":
        side = cases[0].side
        rows = image_processor.run(side, args.batch, args.rounds, clock)
        print(image_processor.report(side, args.batch, rows), flush=True)
        return rows
    results = []
    for case in cases:
        result = vit.run(case, rounds=args.rounds, memory=not args.no_memory, clock=clock)
        print(vit.report(case, result), flush=True)
        results.append({"case": vars(case), **result})
    return results


def _lm(args: argparse.Namespace) -> list[dict[str, Any]]:
    clock = _clock(args)
    results = []
    for dtype in args.dtype:
        sizes = {name: getattr(args, name) for name in ("vocab", "hidden", "layers", "batch", "length")}
        case = lm.LMCase(task=args.task, model_type=args.model_type, dtype=dtype, device=_device(), **sizes)
        result = lm.run(case, rounds=args.rounds, memory=not args.no_memory, clock=clock)
        print(lm.report(case, result), flush=True)
        results.append({"case": vars(case), **result})
    return results


def _translation(args: argparse.Namespace) -> list[dict[str, Any]]:
    clock = _clock(args)
    results = []
    for dtype in args.dtype:
        names = ("task", "vocab", "width", "layers", "batch", "length", "beams", "dropout")
        sizes = {name: getattr(args, name) for name in names}
        case = translation.TranslationCase(**sizes, dtype=dtype, device=_device())
        result = translation.run(case, rounds=args.rounds, memory=not args.no_memory, clock=clock)
        print(translation.report(case, result), flush=True)
        results.append({"case": vars(case), **result})
    return results


def _quantization(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.task == "accuracy":
        if args.checkpoint is None:
            raise ValueError("checkpoint=None: --task accuracy needs --checkpoint, a folder with a classifier.")
        rows = quantization.accuracy(args.checkpoint, args.batch[0])
        print(quantization.report_accuracy(rows), flush=True)
        return rows
    cases = [quantization.QuantizationCase(size, args.seq, batch) for size in args.size for batch in args.batch]
    rows = quantization.speed(cases, args.rounds, _clock(args))
    print(quantization.report_speed(rows), flush=True)
    return rows


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
