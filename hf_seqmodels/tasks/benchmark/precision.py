"""Do the mixed-precision schemes learn as float32 does? The same pretraining in each, curves side by side."""

import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch

from hf_seqmodels.tasks.pretrain_bert import main as pretrain
from hf_seqmodels.tasks.pretrain_bert_arguments import ModelArguments, ObjectiveArguments, TextArguments
from hf_seqmodels.training import EngineArguments

SCHEMES = ("no", "bf16", "bf16_master")
_WINDOW = 50


def loss_curve(scheme: str, seed: int, size: str, steps: int, threads: int) -> list[float]:
    """Training loss (MLM + NSP, nats) at each step, on the embedded text, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_train, args=(scheme, seed, size, steps, threads, f"{folder}/run")
        )
        process.start()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"The run in {scheme} ended with exit code {process.exitcode}.")
        state = json.loads((Path(folder) / f"run/checkpoint-{steps:06d}/training_state.json").read_text())
    return [entry["loss"] for entry in state["history"] if "loss" in entry]


def _train(scheme: str, seed: int, size: str, steps: int, threads: int, folder: str) -> None:
    torch.set_num_threads(threads)
    pretrain(
        TextArguments(),
        ModelArguments(model_size=size, vocab_size=2048),
        ObjectiveArguments(nsp="balanced", max_seq_length=64, packing=True),
        EngineArguments(
            output_dir=folder,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=5e-4,
            mixed_precision=scheme,
            logging_steps=1,
            save_steps=0,
            disable_tqdm=True,
        ),
    )


def run(size: str, steps: int, seeds: int) -> list[dict[str, Any]]:
    """Each scheme with each seed.

    Returns:
        A row per scheme: `curves` (seeds of them), and `windows`, the mean loss over each 50 steps, seeds averaged.
    """
    rows = []
    for scheme in SCHEMES:
        curves = [loss_curve(scheme, seed, size, steps, torch.get_num_threads()) for seed in range(seeds)]
        windows = torch.tensor(curves).unfold(1, _WINDOW, _WINDOW).mean(-1)
        rows.append({"scheme": scheme, "curves": curves, "windows": windows.tolist()})
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Mean losses as a table, with the distance from float32 of the same seed and the spread between seeds."""
    reference = torch.tensor(rows[0]["windows"])
    steps = [(number + 1) * _WINDOW for number in range(reference.shape[1])]
    lines = [
        "| precision | " + " | ".join(f"to step {step}" for step in steps) + " | largest distance from float32 |",
        "|---" * (len(steps) + 2) + "|",
    ]
    for row in rows:
        windows = torch.tensor(row["windows"])
        distance = (windows - reference).abs().max().item()
        means = " | ".join(f"{value:.3f}" for value in windows.mean(0).tolist())
        lines.append(f"| {row['scheme']} | {means} | {distance:.3f} |")
    if len(reference) > 1:
        noise = (reference.max(0).values - reference.min(0).values).max().item()
        lines.append(f"\nfloat32 from seed to seed differs by up to {noise:.3f}.")
    return "\n".join(lines)
