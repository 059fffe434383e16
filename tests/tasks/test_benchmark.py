"""The benchmarks run and report; what they measure is not asserted (a timed test would be a coin toss)."""

import importlib.util
import json
from pathlib import Path

import pytest

from hf_seqmodels.tasks.benchmark import lm
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


@pytest.mark.parametrize("task", ["train", "inference", "mae"])
def test_vit_benchmark_reports_every_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["vit", "--task", task, "--size", "mu/4@32", "--batch", "2", "--rounds", "2", "--no_memory"]
    assert main([*arguments, "--dtype", "float32", "bfloat16", "--json", str(figures)]) == 0
    results = json.loads(figures.read_text())
    assert [result["case"]["dtype"] for result in results] == ["float32", "bfloat16"]
    flops = {row["name"]: row["flops"] for row in results[0]["rows"]}
    names = [name for name in flops if not name.startswith("timm")]
    assert names == ["transformers eager", "transformers sdpa", "ours"] + ["ours, all patches"] * (task == "mae")
    # The classifier's last layer is the class token's alone; MAE's encoder sees a quarter of the patches.
    assert flops["ours"] < 0.9 * flops["ours, all patches" if task == "mae" else "transformers eager"]
    own = {row["name"] for row in results[1]["rows"] if row["name"].startswith("ours,")}
    assert f"ours, {'bf16 weights' if task == 'inference' else 'master weights'}" in own
    assert "images/s" in capsys.readouterr().out


def test_processor_benchmark_reports_both(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["vit", "--task", "processor", "--size", "mu/4@32", "--batch", "2", "--rounds", "2"]
    assert main([*arguments, "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())
    assert [(row["images"], row["name"]) for row in rows] == [
        (kind, name) for kind in ("PIL images", "arrays") for name in ("transformers", "ours")
    ]


def test_size_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="size='Ti/4'"):
        main(["vit", "--size", "Ti/4"])


LM_SIZES = ["--vocab", "90", "--hidden", "64", "--batch", "2", "--length", "8", "--rounds", "2", "--no_memory"]


@pytest.mark.parametrize("model_type", ["rnn", "lstm", "gru"])
def test_lm_benchmark_reports_every_contender(tmp_path: Path, model_type: str) -> None:
    figures = tmp_path / "figures.json"
    assert main(["lm", *LM_SIZES, "--model_type", model_type, "--json", str(figures)]) == 0
    (result,) = json.loads(figures.read_text())
    assert [row["name"] for row in result["rows"]] == [
        "torch.nn loop",
        "ours, full",
        "ours, chunked",
        "ours, adaptive",
    ]
    flops = {row["name"]: row["flops"] for row in result["rows"]}
    assert flops["ours, full"] == flops["torch.nn loop"] > flops["ours, adaptive"]


def test_lm_benchmark_decodes_with_models_of_one_size(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert main(["lm", "--task", "decode", *LM_SIZES, "--json", str(figures)]) == 0
    peer, ours = json.loads(figures.read_text())[0]["rows"]
    assert peer["parameters"] == pytest.approx(ours["parameters"], rel=0.02)
    assert peer["cache_bytes"] > ours["cache_bytes"]


def test_the_state_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm, "LENGTHS", (4, 32, 256))
    figures = tmp_path / "figures.json"
    assert main(["lm", "--task", "lengths", *LM_SIZES, "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())[0]["rows"]
    assert [row["name"] for row in rows] == ["4 tokens", "32 tokens", "256 tokens"]
    assert len({row["cache_bytes"] for row in rows}) == 1


TRANSLATION_SIZES = [
    "--vocab",
    "60",
    "--width",
    "64",
    "--layers",
    "1",
    "--batch",
    "2",
    "--length",
    "6",
    "--beams",
    "2",
]


@pytest.mark.parametrize("task", ["train", "decode", "attention"])
def test_translation_benchmark_reports_every_contender(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["translation", "--task", task, *TRANSLATION_SIZES, "--width", "64", "--rounds", "2", "--no_memory"]
    assert main([*arguments, "--json", str(figures)]) == 0
    (result,) = json.loads(figures.read_text())
    names = [row["name"] for row in result["rows"]]
    flops = {row["name"]: row["flops"] for row in result["rows"]}
    if task == "attention":
        assert names == ["step by step", "one call"]
    else:
        exported = ["CTranslate2, float32"] if task == "decode" and importlib.util.find_spec("ctranslate2") else []
        peers = ["transformers MarianMT, eager", "transformers MarianMT, sdpa"]
        assert names == [*peers, *exported, "ours"]
        # Ours leaves padding out, and beams share their source.
        assert flops["ours"] < flops[peers[0]]
    unit = "sentences (beam 2)/s" if task == "decode" else "target tokens/s"
    assert unit in capsys.readouterr().out
