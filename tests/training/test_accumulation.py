"""Contract 4 in the engine: how a step is cut into micro-batches and processes leaves no trace."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.toy import ToyRun, remains, run_in_process, run_in_two_processes

WHOLE = ToyRun(output_dir="", steps=1, batch=8, accumulation=1, dropout=0.0, eval_steps=0, record_gradients=True)


def _gradients(toy: ToyRun, folder: Path, processes: int = 1) -> torch.Tensor:
    toy = replace(toy, output_dir=str(folder))
    if processes == 1:
        assert run_in_process(toy) == 0
    else:
        assert run_in_two_processes(toy) == [0, 0]
    return torch.load(folder / "gradients.pt", weights_only=True)


@pytest.mark.parametrize("cut", [(4, 2, 1), (2, 4, 1), (1, 8, 1), (4, 1, 2), (1, 4, 2)], ids=str)
@pytest.mark.parametrize("precision", ["no", "bf16_master"])
def test_cut_leaves_no_trace(tmp_path: Path, cut: tuple[int, int, int], precision: str) -> None:
    batch, accumulation, processes = cut
    whole = _gradients(replace(WHOLE, precision=precision), tmp_path / "whole")
    toy = replace(WHOLE, precision=precision, batch=batch, accumulation=accumulation)
    pieces = _gradients(toy, tmp_path / "cut", processes)
    # float32 sums in another order; in bfloat16 each piece's gradient is rounded to 8 bits before it is added.
    tolerance = 1e-6 if precision == "no" else 2e-2
    assert (pieces - whole).norm() / whole.norm() < tolerance


def _outcome(toy: ToyRun, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    assert run_in_process(replace(toy, output_dir=str(folder))) == 0
    last = sorted(folder.glob("checkpoint-*"))[-1]
    return {name: load_file(last / f"{name}.safetensors") for name in ("model", "ema")}


def test_cut_leaves_no_trace_in_averages_and_layer_rates(tmp_path: Path) -> None:
    # The peak is 0.01 for both: base_learning_rate × 8 examples / 256. A large epsilon, lest Adam blow the rounding of
    # gradients that are zero in truth (a key's bias) up to whole steps.
    fields = {"steps": 4, "record_gradients": False, "adam_epsilon": 1e-3}
    toy = replace(WHOLE, **fields, base_learning_rate=0.32, layer_decay=0.5, ema_decay=0.9)
    whole, pieces = _outcome(toy, tmp_path / "a"), _outcome(replace(toy, batch=2, accumulation=4), tmp_path / "b")
    for part in ("model", "ema"):
        for name, expected in whole[part].items():
            torch.testing.assert_close(pieces[part][name], expected, rtol=0, atol=1e-6)


def test_means_of_means_would_fail(tmp_path: Path) -> None:
    """Negative control: with each micro-batch divided by its own counts, the gradients differ visibly."""

    class MeanOfMeans(ToyRun):
        def count_items(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
            return {name: count * self.accumulation for name, count in super().count_items(batch).items()}

    fields = {**vars(WHOLE), "batch": 1, "accumulation": 8, "output_dir": str(tmp_path / "means")}
    wrong = MeanOfMeans(**fields)
    whole = _gradients(WHOLE, tmp_path / "whole")
    assert run_in_process(wrong) == 0
    different = torch.load(tmp_path / "means" / "gradients.pt", weights_only=True)
    assert (different - whole).norm() / whole.norm() > 1e-2


def test_two_processes_resume_bitwise(tmp_path: Path) -> None:
    toy = ToyRun(output_dir=str(tmp_path / "whole"))
    broken = replace(toy, output_dir=str(tmp_path / "broken"))
    assert run_in_two_processes(toy) == [0, 0]
    assert run_in_two_processes(replace(broken, kill_before_forward=8)) != [0, 0]
    assert run_in_two_processes(broken) == [0, 0]
    assert len(remains(toy.output_dir)["rng"]) == 2
    assert remains(broken.output_dir) == remains(toy.output_dir)
