"""int8 says nearly what float32 says, in a fraction of the space; the benchmark reports both."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_seqmodels import LSTMConfig, LSTMForSequenceClassification, SeqBertConfig, SeqBertForSequenceClassification
from hf_seqmodels.tasks.benchmark.cli import main

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from hf_seqmodels.conversion.onnx import export_onnx  # noqa: E402 - needs the extra
from hf_seqmodels.conversion.quantization import quantize_onnx  # noqa: E402 - needs the extra


def bert() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SeqBertConfig(**sizes, intermediate_size=128, initializer_range=0.1)  # so that the layer says something
    return SeqBertForSequenceClassification(config).eval()


def lstm() -> Any:
    torch.manual_seed(0)
    config = LSTMConfig(vocab_size=500, hidden_size=64, num_hidden_layers=1, initializer_range=1.0, bidirectional=True)
    return LSTMForSequenceClassification(config).eval()


def logits_of(path: Path, batch: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {value.name: batch[value.name].numpy() for value in session.get_inputs()})[0]


@pytest.fixture(scope="module", params=[bert, lstm], ids=["bert", "lstm"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = request.param()
    return model, export_onnx(model, tmp_path_factory.mktemp("exported"))


def test_int8_is_near_and_small(exported: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = exported
    quantised = quantize_onnx(folder, tmp_path / "int8")
    assert [file.name for file in quantised.iterdir()] == ["model.onnx"]
    for rows, length in ((1, 3), (4, 11)):
        ids = torch.randint(1, 500, (rows, length))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        with torch.no_grad():
            expected = model(ids, torch.ones_like(ids)).logits.numpy()
        got = logits_of(quantised / "model.onnx", batch)
        error = np.abs(got - expected).max() / np.abs(expected).max()
        # 8 bits are 4e-3 of the largest value, and some such roundings follow each other; exactly 0 would be float32.
        assert 1e-5 < error < 0.1
    sizes = [(path / "model.onnx").stat().st_size for path in (folder, quantised)]
    assert sizes[1] < 0.5 * sizes[0]


def test_seven_bits_are_coarser(exported: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = exported
    ids = torch.randint(1, 500, (4, 11))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    coarse = quantize_onnx(folder, tmp_path / "seven", reduce_range=True) / "model.onnx"
    fine = quantize_onnx(folder, tmp_path / "eight") / "model.onnx"
    assert (logits_of(coarse, batch) != logits_of(fine, batch)).any()


def test_wrong_folders_are_refused(exported: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder=.* has no \*\.onnx file"):
        quantize_onnx(tmp_path, tmp_path / "int8")
    with pytest.raises(ValueError, match=r"output_dir=.* has model\.onnx already"):
        quantize_onnx(exported[1], exported[1])


def test_the_benchmark_reports_every_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    sizes = ["--size", "tiny", "--seq", "16", "--batch", "1", "2", "--rounds", "2"]
    assert main(["quantization", *sizes, "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())
    names = ["PyTorch, float32", "PyTorch, bfloat16", "onnxruntime, float32", "onnxruntime, int8"]
    assert [(row["batch"], row["name"]) for row in rows] == [(batch, name) for batch in (1, 2) for name in names]
    assert rows[3]["mib"] < 0.4 * rows[0]["mib"]
    assert "| tiny | 16 | 2 | onnxruntime, int8 |" in capsys.readouterr().out


def test_accuracy_needs_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="checkpoint=None"):
        main(["quantization", "--task", "accuracy"])
