"""Proof against the library: from a configuration, transformers' ViTMAE cannot learn where patches lie; ours does."""

import pytest
import torch
from sklearn.datasets import load_digits
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from hf_seqmodels import SeqViTConfig, SeqViTForPreTraining

SIZES = {
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 64,
    "initializer_range": 0.1,
}
STEPS, BATCH, RATE = 250, 128, 3e-3


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
    return (images - images.mean()) / images.std()


def train(model: torch.nn.Module, images: torch.Tensor) -> None:
    """The same steps on the same batches for either library."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], RATE, weight_decay=0.0)
    model.train()
    for _ in range(STEPS):
        batch = images[torch.randint(0, 1500, (BATCH,))]
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def spread_over_places(predicted: torch.Tensor, mask: torch.Tensor) -> float:
    """How far an image's predictions for its hidden patches lie apart, at most: 0 if they are one and the same."""
    return max((row[hidden] - row[hidden].mean(0)).abs().max().item() for row, hidden in zip(predicted, mask.bool()))


def test_ours_reconstructs_digits_and_the_library_predicts_one_patch_everywhere(digits: torch.Tensor) -> None:
    held_out = digits[1500:]
    torch.manual_seed(0)
    ours = SeqViTForPreTraining(SeqViTConfig(**SIZES, position_embedding_type="sincos"))
    train(ours, digits)
    with torch.no_grad():
        outputs = ours(held_out)
    hidden = ours.targets(held_out)[outputs.mask]
    mean_loss = (hidden - hidden.mean(0)).square().mean()
    assert outputs.loss < 0.7 * mean_loss
    assert spread_over_places(outputs.logits, outputs.mask) > 1.0

    torch.manual_seed(0)
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**SIZES))
    train(theirs, digits)
    with torch.no_grad():
        outputs = theirs(held_out)
    # float32 noise: every mask token has the same embedding and the same position, zero
    assert spread_over_places(outputs.logits, outputs.mask) < 1e-4
    assert outputs.loss > 0.85 * mean_loss


def test_positions_are_there_however_the_model_is_made(tmp_path) -> None:
    config = SeqViTConfig(**SIZES, position_embedding_type="sincos")
    built = SeqViTForPreTraining(config)
    built.save_pretrained(tmp_path)
    for model in (built, SeqViTForPreTraining.from_pretrained(tmp_path)):
        for table in (model.vit.embeddings._positions((4, 4), None, False), model.decoder._positions((4, 4), None)):
            assert table.abs().amax(-1).min() > 0
            assert torch.unique(table[0], dim=0).shape == table[0].shape
