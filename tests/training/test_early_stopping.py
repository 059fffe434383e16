"""When training ends early, what is kept, and the mean of checkpoints; interrupted or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_seqmodels.training.averaging import average_checkpoints, copy_weights, save_average
from hf_seqmodels.training.early_stopping import EarlyStopping


def log(*values: float) -> list[dict[str, Any]]:
    return [
        entry
        for step, value in enumerate(values)
        for entry in ({"step": step, "loss": 1.0}, {"step": step, "eval_bleu": value})
    ]


def test_it_ends_after_so_many_evaluations_without_a_better_one() -> None:
    rule = EarlyStopping("bleu", patience=2)
    assert not rule.is_over([]) and rule.since_best([]) == 0
    assert not rule.is_over(log(1, 3, 2))
    assert rule.is_over(log(1, 3, 2, 3))  # an equal one is no better
    assert not rule.is_over(log(1, 3, 2, 4))
    assert not EarlyStopping("bleu").is_over(log(3, 2, 1, 0))
    assert EarlyStopping("bleu", 2, greater_is_better=False).since_best(log(1, 3, 2)) == 2
    with pytest.raises(ValueError, match="metric_for_best_model='chrf' is not evaluated; there are bleu"):
        EarlyStopping("chrf").is_over(log(1)) or EarlyStopping("chrf", 1).is_over(log(1))
    with pytest.raises(ValueError, match="early_stopping_patience=-1"):
        EarlyStopping("bleu", -1)


def test_average(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        weights = {"w": torch.full((2, 2), float(number)), "b": torch.tensor([number * 3.0]).bfloat16()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    mean = average_checkpoints(folders[1:])
    assert torch.equal(mean["w"], torch.full((2, 2), 1.5)) and mean["b"].dtype == torch.bfloat16
    save_average(folders[1:], folders[0])
    assert torch.equal(load_file(folders[0] / "model.safetensors")["w"], mean["w"])
    copy_weights(folders[2], folders[0])
    assert load_file(folders[0] / "model.safetensors")["w"][0, 0] == 2
    assert [path.name for path in folders[0].iterdir()] == ["model.safetensors"]
    save_file({"w": torch.zeros(3)}, folders[2] / "model.safetensors")
    with pytest.raises(ValueError, match="different models; they differ in b, w"):
        average_checkpoints(folders)
