"""The program that draws a SeqViT: which pictures it writes, of which images, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, ViTImageProcessor

from hf_seqmodels import (
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedPatchPrediction,
    SeqViTForPreTraining,
)
from hf_seqmodels.tasks import visualize_vit
from hf_seqmodels.tasks.visualize_vit import VisualizeArguments, main

EVERY = ["rollout", "heads", "positions", "filters", "distance"]


def toy_config(**fields: Any) -> SeqViTConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    images = {"image_size": (8, 12), "patch_size": (2, 4), "num_channels": 1}
    return SeqViTConfig(**{**sizes, **decoder, **images, **fields})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The pixel values that rollouts were asked for."""
    asked: list[torch.Tensor] = []
    original = visualize_vit.attention_rollout

    def noting(model: Any, pixel_values: torch.Tensor) -> np.ndarray:
        asked.append(pixel_values)
        return original(model, pixel_values)

    monkeypatch.setattr(visualize_vit, "attention_rollout", noting)
    return asked


def test_digits_by_a_masked_autoencoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seen: list[torch.Tensor]
) -> None:
    SeqViTForPreTraining(toy_config(norm_pix_loss=True)).save_pretrained(tmp_path / "model")
    written = main(VisualizeArguments(str(tmp_path / "model"), str(tmp_path / "new" / "pictures"), dpi=40))
    assert [path.stem for path in written] == [*EVERY, "reconstruction"]
    output = capsys.readouterr().out
    for path in written:
        assert str(path) in output
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 50
            colours = picture.convert("L").getextrema()
        assert colours[0] < 100 and colours[1] == 255  # neither empty nor without a margin
    (pixels,) = seen
    assert pixels.shape == (10, 1, 8, 12)
    assert pixels.min() == -1 and pixels.max() == 1  # normalised by 0.5 and 0.5
    assert len(set(map(bytes, pixels.numpy()))) == 10


def test_files_by_a_classifier_with_a_processor_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seen: list[torch.Tensor]
) -> None:
    config = toy_config(num_channels=3, stem="shifted", position_embedding_type="none")
    SeqViTForImageClassification(config).save_pretrained(tmp_path)
    size = {"height": 8, "width": 12}
    ViTImageProcessor(size=size, image_mean=[0.25] * 3, image_std=[0.5] * 3).save_pretrained(tmp_path)
    files = [str(tmp_path / f"{name}.png") for name in "ab"]
    for file, grey in zip(files, (0, 255)):
        Image.new("RGB", (30, 20), (grey,) * 3).save(file)
    written = main(VisualizeArguments(str(tmp_path), str(tmp_path), files, dpi=40))
    assert [path.stem for path in written] == ["rollout", "heads", "distance"]
    output = capsys.readouterr().out
    for reason in ("positions.png left out: position_", "filters.png left out: stem=", "reconstruction.png left out"):
        assert reason in output
    (pixels,) = seen
    torch.testing.assert_close(pixels[0], torch.full((3, 8, 12), -0.5))
    torch.testing.assert_close(pixels[1], torch.full((3, 8, 12), 1.5))


def test_a_head_without_an_auto_class(tmp_path: Path) -> None:
    SeqViTForMaskedPatchPrediction(toy_config()).save_pretrained(tmp_path)
    written = main(VisualizeArguments(str(tmp_path), str(tmp_path), dpi=40))
    assert [path.stem for path in written] == EVERY


def test_refusals(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with pytest.raises(ValueError, match="is not a folder with a config"):
        VisualizeArguments(folder, folder)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert, not a seq_vit"):
        main(VisualizeArguments(folder, folder))
    toy_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="names no SeqViT class; there are SeqViTModel"):
        main(VisualizeArguments(folder, folder))
    with pytest.raises(ValueError, match=r"there is no file 'no\.png'"):
        VisualizeArguments(folder, folder, ["no.png"])
    with pytest.raises(ValueError, match="dpi=0"):
        VisualizeArguments(folder, folder, dpi=0)
    SeqViTForPreTraining(toy_config()).save_pretrained(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png' cannot be read"):
        main(VisualizeArguments(folder, folder, [str(tmp_path / "broken.png")]))
