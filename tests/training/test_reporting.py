"""What a run says about itself: its speed in its own unit, its peak rate, and losses in any form."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from hf_seqmodels.training import EngineArguments
from hf_seqmodels.training.reporting import Reporter
from hf_seqmodels.training.units import count_images, count_tokens
from tests.training.toy import ToyRun, run


def test_units_of_a_batch() -> None:
    assert count_images({"pixel_values": torch.zeros(5, 3, 8, 8)}) == 5
    assert count_tokens({"input_ids": torch.zeros(2, 4)}) == 8
    assert count_tokens({"input_ids": torch.zeros(2, 4), "attention_mask": torch.eye(2, 4)}) == 2


def test_speed_is_named_by_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {}
    accelerator = Accelerator()
    monkeypatch.setattr(accelerator, "log", lambda figures, step: logged.update(figures))
    reporter = Reporter(accelerator, 1, 0, True, "images", flops_per_unit=2.0, gemm_rate=8.0)
    reporter.advance(32)
    reporter.log(1, {"loss": 1.0})
    assert set(logged) == {"train/loss", "speed/images_per_second", "speed/mfu"}
    assert logged["speed/mfu"] == logged["speed/images_per_second"] * 2 / 8


def test_peak_rate_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(ToyRun(output_dir=str(tmp_path), steps=2, eval_steps=0, base_learning_rate=0.64))
    line = "Peak learning rate 0.01 = base_learning_rate 0.64 × batch 4 / 256."
    assert capsys.readouterr().out.count(line) == 1


class _PlainFigure(ToyRun):
    """A model that also reports a loss as a number, without a graph."""

    def arguments(self) -> EngineArguments:
        args = super().arguments()
        args.logging_steps = 1
        return args

    def engine(self):
        engine = super().engine()
        forward = engine.wrapped

        def with_figure(**batch: Any) -> Any:
            outputs = forward(**batch)
            values = {**outputs, "entropy_loss": 0.25}
            return SimpleNamespace(loss=outputs.loss, items=values.items)

        engine.wrapped = with_figure
        engine.accelerator.no_sync = lambda model: torch.enable_grad()
        return engine


def test_losses_may_be_plain_numbers(tmp_path: Path) -> None:
    result = run(_PlainFigure(output_dir=str(tmp_path), steps=2, eval_steps=0))
    first, second, _ = result.history
    assert first["entropy_loss"] == second["entropy_loss"] == 0.5  # two micro-batches
    assert {"loss", "mlm_loss", "nsp_loss"} < first.keys()
