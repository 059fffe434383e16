"""The digits of the comparison: what is drawn, in which batches, and that nothing depends on what ran before."""

import numpy as np
import pytest
import torch

from hf_seqmodels.tasks.compare.digits import read_digits


def test_training_and_test_images_are_apart() -> None:
    train, test = read_digits()
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.dtype == torch.uint8 and train.images.shape[1:] == (1, 8, 8)
    assert (train.mean, train.std) == (test.mean, test.std)
    # Normalised by themselves: mean 0 and deviation 1 up to float32's rounding.
    assert train.pixel_values().mean().abs() < 1e-4 and abs(train.pixel_values().std() - 1) < 1e-3


def test_draws_are_balanced_and_nested() -> None:
    train, _ = read_digits()
    few, more = train.draw(50, 3, 1), train.draw(150, 3, 1)
    assert few.labels.bincount().tolist() == [5] * 10
    assert torch.equal(few.images, more.images[:50])
    assert not torch.equal(few.images, train.draw(50, 3, 2).images)
    for count in (0, 1438):
        with pytest.raises(ValueError, match=f"count={count} must be 1 to 1437"):
            train.draw(count, 0, 0)


def test_every_image_comes_once_in_an_epoch() -> None:
    train, _ = read_digits()
    few = train.draw(6, 0, 0)
    batches = few.batches(4, seed=0, number=0)
    labels = torch.cat([batches(step)["labels"] for step in range(3)])
    assert sorted(labels[:6].tolist()) == sorted(labels[6:].tolist()) == sorted(few.labels.tolist())
    again = few.batches(4, seed=0, number=0)(2)
    assert torch.equal(again["pixel_values"], batches(2)["pixel_values"])
    assert set(few.batches(4, 0, 0, labelled=False)(0)) == {"pixel_values"}


def test_images_are_shifted_by_a_pixel() -> None:
    train, _ = read_digits()
    one = train.draw(1, 0, 0)
    seen = one.batches(64, 0, 0)(0)["pixel_values"]
    padded = np.pad(one.pixel_values()[0, 0].numpy(), 1, mode="reflect")
    windows = {padded[row : row + 8, column : column + 8].tobytes() for row in range(3) for column in range(3)}
    assert {image[0].numpy().tobytes() for image in seen} == windows
