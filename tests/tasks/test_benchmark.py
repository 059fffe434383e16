"""The benchmarks run and report; what they measure is not asserted (a timed test would be a coin toss)."""

import json
from pathlib import Path

import pytest

from hf_seqmodels.tasks.benchmark.cli import main


@pytest.mark.parametrize("extra", [[], ["--padded", "--dtype", "float32"]], ids=["full rows", "padded"])
def test_bert_benchmark_reports_every_contender(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["bert", "--size", "tiny", "--seq", "32", "--batch", "2", "--rounds", "2", "--no_memory"]
    assert main([*arguments, "--json", str(figures), *extra]) == 0
    (result,) = json.loads(figures.read_text())
    names = [row["name"] for row in result["rows"]]
    assert names[:3] == ["transformers eager", "transformers sdpa", "ours"]
    # Where the work is counted there is no noise: ours does less of it.
    flops = {row["name"]: row["flops"] for row in result["rows"]}
    assert flops["ours"] < 0.7 * flops["transformers eager"]
    assert "tokens/s" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_is_measured(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert (
        main(["bert", "--size", "tiny", "--seq", "32", "--batch", "2", "--rounds", "2", "--json", str(figures)]) == 0
    )
    (result,) = json.loads(figures.read_text())
    assert all(row["peak_bytes"] > 2**20 for row in result["rows"])
