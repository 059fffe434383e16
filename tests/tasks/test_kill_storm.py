"""The user's own command under fire: kill -9 at random moments, again and again, then compared with a quiet run."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def _command(folder: Path, cache: Path, packing: str) -> list[str]:
    overrides = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    return [
        *[sys.executable, "scripts/pretrain_bert.py", "--output_dir", str(folder), "--cache_dir", str(cache)],
        *["--config_overrides", json.dumps(overrides), "--vocab_size", "1000", "--max_seq_length", "32", packing],
        *["--max_steps", "300", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"],
        *["--save_steps", "20", "--eval_steps", "90", "--max_eval_batches", "2", "--dataloader_num_workers", "2"],
        *["--resume_from_checkpoint", "auto", "--disable_tqdm"],
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("packing", ["--packing", "--no_packing"])
def test_storm(tmp_path: Path, packing: str) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    subprocess.run(_command(quiet, tmp_path / "cache", packing), check=True, capture_output=True)
    moments = random.Random(0)
    kills = 0
    while True:
        process = subprocess.Popen(
            _command(stormy, tmp_path / "cache", packing), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # The first seconds are imports; training is what we want to hit.
        deadline = time.monotonic() + moments.uniform(8, 14)
        while process.poll() is None and (kills >= 6 or time.monotonic() < deadline):
            time.sleep(0.05)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        kills += 1
    assert kills > 0
    ours, theirs = load_file(stormy / "model.safetensors"), load_file(quiet / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    histories = [
        json.loads((folder / "checkpoint-000300" / "training_state.json").read_text())["history"]
        for folder in (stormy, quiet)
    ]
    assert histories[0] == histories[1]
