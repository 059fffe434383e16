"""Batches of images: stateless, whatever the batch size, order and workers; and what the models are to get."""

import pickle
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_seqmodels.data.augmentation import AugmentationRule
from hf_seqmodels.data.image_collators import ClassificationCollator, MaskedImageCollator, PatchPredictionCollator
from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.image_masking import patch_colour_classes
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor, ResumableLoader, evaluation_batches
from hf_seqmodels.models.patches import patchify

NUM_IMAGES, NUM_LABELS, SEED = 24, 4, 11
STRONG = AugmentationRule(crop_padding=2, flip=0.5, randaugment_ops=2, erasing=0.5)
MIXED = AugmentationRule(
    crop_padding=1,
    flip=0.5,
    randaugment_ops=1,
    erasing=0.3,
    mixup_alpha=0.4,
    cutmix_alpha=1.0,
    mixing_probability=0.6,
    label_smoothing=0.1,
)
SHAPES = {1: (1, 8, 12), 3: (3, 8, 12), 5: (5, 12, 4)}


def _dataset(channels: int = 3, mixing: float = 0.0, labelled: bool = True, count: int = NUM_IMAGES) -> ImageDataset:
    shape = SHAPES[channels]
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    columns: dict[str, Any] = {"pixels": [image.tobytes() for image in images]}
    if labelled:
        columns["label"] = [number % NUM_LABELS for number in range(count)]
    return ImageDataset(Dataset.from_dict(columns), shape, SEED, mixing)


def _statistics(channels: int) -> tuple[list[float], list[float]]:
    return [0.4 + 0.02 * c for c in range(channels)], [0.2 + 0.03 * c for c in range(channels)]


Collator = Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]


def _cases(channels: int) -> dict[str, tuple[ImageDataset, Collator]]:
    mean, std = _statistics(channels)
    return {
        "classification": (_dataset(channels), ClassificationCollator(STRONG, SEED, mean, std, NUM_LABELS)),
        "mixed": (_dataset(channels, 0.6), ClassificationCollator(MIXED, SEED, mean, std, NUM_LABELS)),
        "masked": (_dataset(channels), MaskedImageCollator(STRONG, SEED, mean, std, 2, 0.6)),
        "units": (_dataset(channels), MaskedImageCollator(STRONG, SEED, mean, std, 2, 0.5, 4)),
        "patch prediction": (_dataset(channels), PatchPredictionCollator(STRONG, SEED, mean, std, 2)),
    }


CASES = tuple(_cases(1))


def _rows(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("channels", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_its_examples(case: str, channels: int) -> None:
    """Bit for bit: pixels, masks and labels know nothing of batch size, order and other images."""
    dataset, collate = _cases(channels)[case]
    keys = [Key(2, 0, index) for index in range(NUM_IMAGES)]
    whole = collate([dataset[key] for key in keys])
    assert whole["pixel_values"].dtype == torch.float32
    assert whole["pixel_values"].shape == (NUM_IMAGES, *SHAPES[channels])
    for size in (1, 7):
        pieces = [collate([dataset[key] for key in keys[at : at + size]]) for at in range(0, NUM_IMAGES, size)]
        assert _equal(_rows(pieces), whole)
    order = torch.randperm(NUM_IMAGES)
    shuffled = collate([dataset[keys[index]] for index in order.tolist()])
    assert _equal(shuffled, {name: values[order] for name, values in whole.items()})
    other = collate([dataset[key._replace(epoch=3)] for key in keys])
    for name in set(whole) - ({"labels"} if case == "classification" else set()):
        assert not torch.equal(other[name], whole[name]), f"{name} of another epoch is the same"


@pytest.mark.parametrize("case", CASES)
def test_workers_and_pickling_make_no_difference(case: str) -> None:
    dataset, collate = _cases(3)[case]
    stream = BatchStream(dataset, SEED, 5)
    loaders = {
        "here": ResumableLoader(stream, collate, Cursor()),
        "workers": ResumableLoader(stream, collate, Cursor(), num_workers=2),
        "pickled": ResumableLoader(
            BatchStream(pickle.loads(pickle.dumps(dataset)), SEED, 5), pickle.loads(pickle.dumps(collate)), Cursor()
        ),
    }
    # 7 batches reach into the second epoch.
    batches = {name: [batch for batch, _ in islice(loader, 7)] for name, loader in loaders.items()}
    for name in ("workers", "pickled"):
        assert all(_equal(*pair) for pair in zip(batches["here"], batches[name])), name


def test_nothing_touches_the_global_random_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    for dataset, collate in _cases(3).values():
        collate([dataset[Key(0, 0, index)] for index in range(8)])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_evaluation_is_plain_and_fixed() -> None:
    mean, std = _statistics(3)
    dataset = _dataset()
    collators: list[Collator] = [
        ClassificationCollator(None, SEED, mean, std, NUM_LABELS),
        MaskedImageCollator(None, SEED, mean, std, 2, 0.75),
        PatchPredictionCollator(None, SEED, mean, std, 2),
    ]
    for collate in collators:
        passes = [
            _rows([collate([dataset[key] for key in keys]) for keys, _ in evaluation_batches(dataset, size)])
            for size in (4, 6)
        ]
        assert _equal(*passes)
    images = torch.stack([dataset[Key(0, 0, index)]["image"] for index in range(NUM_IMAGES)])
    batch = collators[0]([dataset[Key(0, 0, index)] for index in range(NUM_IMAGES)])
    expected = (images.double() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    # Division by 255, then one product and one sum, in float32, of numbers below 5.
    torch.testing.assert_close(batch["pixel_values"], expected.float(), rtol=0, atol=2e-6)
    assert batch["labels"].tolist() == [number % NUM_LABELS for number in range(NUM_IMAGES)]


def test_labels_are_soft_in_all_batches_alike() -> None:
    mean, std = _statistics(3)
    dataset = _dataset(mixing=0.6)
    collate = ClassificationCollator(MIXED, SEED, mean, std, NUM_LABELS)
    examples = [dataset[Key(epoch, 0, index)] for epoch in range(20) for index in range(NUM_IMAGES)]
    mixed = ["partner" in example for example in examples]
    # 480 decisions: standard error 0.022.
    assert abs(np.mean(mixed) - 0.6) < 0.08
    labels = collate(examples)["labels"]
    assert labels.dtype == torch.float32
    # Sums of four float32 numbers.
    torch.testing.assert_close(labels.sum(1), torch.ones(len(examples)), rtol=0, atol=1e-6)
    plain = labels[[row for row, is_mixed in enumerate(mixed) if not is_mixed]]
    torch.testing.assert_close(plain.max(1).values, torch.full((len(plain),), 0.925), rtol=0, atol=1e-6)
    for example, row in zip(examples, labels):
        classes = {example["label"], example.get("partner_label", example["label"])}
        assert set((row > 0.0251).nonzero().flatten().tolist()) <= classes
    alone = next(example for example, is_mixed in zip(examples, mixed) if not is_mixed)
    assert collate([alone])["labels"].shape == (1, NUM_LABELS)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_pixels_go_with_their_labels(kind: str) -> None:
    """An all black class and an all white one: the mean of the pixels is the share of the white label."""
    pixels = [bytes([255 * (number % 2)]) * 64 for number in range(40)]
    table = Dataset.from_dict({"pixels": pixels, "label": [number % 2 for number in range(40)]})
    rule = AugmentationRule(**{f"{kind}_alpha": 1.0}, mixing_probability=1.0)
    dataset = ImageDataset(table, (1, 8, 8), SEED, 1.0)
    batch = ClassificationCollator(rule, SEED, 0.0, 1.0, 2)([dataset[Key(0, 0, index)] for index in range(40)])
    # A float32 mean of 64 pixels.
    torch.testing.assert_close(batch["pixel_values"].mean((1, 2, 3)), batch["labels"][:, 1], rtol=0, atol=1e-5)
    between = (batch["labels"] > 0.01) & (batch["labels"] < 0.99)
    assert between.any()
    levels = batch["pixel_values"].unique()
    assert len(levels) > 3 if kind == "mixup" else levels.tolist() == [0, 1]


def test_partners_are_others_and_drawn_evenly() -> None:
    dataset = _dataset(mixing=1.0)
    images = [dataset[Key(0, 0, index)]["image"] for index in range(NUM_IMAGES)]
    seen = set()
    for epoch in range(30):
        for index in range(NUM_IMAGES):
            example = dataset[Key(epoch, 0, index)]
            partner = next(at for at, image in enumerate(images) if torch.equal(image, example["partner"]))
            assert partner != index
            assert example["partner_label"] == partner % NUM_LABELS
            seen.add((index, partner))
    # Of 552 pairs each is missed with probability 0.27 in 30 epochs: 403 ± 10 are seen.
    assert len(seen) > 350


def test_masked_images_stay_whole() -> None:
    mean, std = _statistics(3)
    dataset = _dataset()
    examples = [dataset[Key(4, 0, index)] for index in range(NUM_IMAGES)]
    batch = MaskedImageCollator(STRONG, SEED, mean, std, 2, 0.6)(examples)
    classified = ClassificationCollator(STRONG, SEED, mean, std, NUM_LABELS)(examples)
    assert torch.equal(batch["pixel_values"], classified["pixel_values"])
    assert batch["bool_masked_pos"].sum(1).tolist() == [14] * NUM_IMAGES


def test_patch_prediction_targets_come_from_the_clean_image() -> None:
    dataset = _dataset()
    examples = [dataset[Key(4, 0, index)] for index in range(NUM_IMAGES)]
    batch = PatchPredictionCollator(STRONG, SEED, 0.0, 1.0, 2)(examples)
    clean = ClassificationCollator(STRONG, SEED, 0.0, 1.0, NUM_LABELS)(examples)["pixel_values"]
    predicted = batch["labels"] != -100
    assert predicted.sum(1).tolist() == [12] * NUM_IMAGES
    assert not (batch["bool_masked_pos"] & ~predicted).any()
    assert torch.equal(batch["labels"][predicted], patch_colour_classes(clean, 2)[predicted])
    changed = (patchify(clean, 2) != patchify(batch["pixel_values"], 2)).any(-1)
    assert changed.any()
    assert not (changed & (batch["bool_masked_pos"] | ~predicted)).any()


def test_unlabelled_images() -> None:
    dataset = _dataset(labelled=False)
    example = dataset[Key(0, 0, 0)]
    assert set(example) == {"image", "key"}
    assert MaskedImageCollator(None, SEED, 0.5, 0.5, 2, 0.5)([example])["pixel_values"].shape == (1, 3, 8, 12)
    with pytest.raises(ValueError, match=r"label=None of Key\(epoch=0, shard=0, index=0\) must be in 0\.\.3"):
        ClassificationCollator(None, SEED, 0.5, 0.5, NUM_LABELS)([example])


def test_dataset_is_one_shard_of_ones() -> None:
    dataset = _dataset()
    assert dataset.num_shards == 1
    assert dataset.example_lengths(3, 0).tolist() == [1] * NUM_IMAGES
    with pytest.raises(IndexError, match="shard=1"):
        dataset.example_lengths(0, 1)


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match=r"mixing_probability=1\.5 must lie in \[0, 1\]"):
        _dataset(mixing=1.5)
    with pytest.raises(ValueError, match="24 images, unlabelled"):
        _dataset(mixing=0.5, labelled=False)
    with pytest.raises(ValueError, match="needs at least two images and labels; there are 1 images"):
        _dataset(mixing=0.5, count=1)
    with pytest.raises(ValueError, match=r"have \[288\] bytes, not 96"):
        ImageDataset(_dataset().dataset, (1, 8, 12), SEED)
    with pytest.raises(ValueError, match="the rule mixes nothing"):
        ClassificationCollator(STRONG, SEED, 0.5, 0.5, NUM_LABELS)([_dataset(mixing=1.0)[Key(0, 0, 0)]])
    with pytest.raises(ValueError, match=r"label=3 of .* must be in 0\.\.2"):
        ClassificationCollator(None, SEED, 0.5, 0.5, 3)([_dataset()[Key(0, 0, 3)]])
    with pytest.raises(ValueError, match="num_labels=0"):
        ClassificationCollator(None, SEED, 0.5, 0.5, 0)
    for collator in (MaskedImageCollator, PatchPredictionCollator):
        with pytest.raises(ValueError, match=r"mixup_alpha=0\.4.*masked images have no labels to mix"):
            collator(MIXED, SEED, 0.5, 0.5, 2, 0.5)
        with pytest.raises(ValueError, match=r"ratio=1\.0 must lie in \(0, 1\)"):
            collator(None, SEED, 0.5, 0.5, 2, 1.0)
    with pytest.raises(ValueError, match="mask_patch_size 3×3 must be a multiple of patch_size 2×2"):
        MaskedImageCollator(None, SEED, 0.5, 0.5, 2, 0.5, 3)
    with pytest.raises(ValueError, match="bits=0"):
        PatchPredictionCollator(None, SEED, 0.5, 0.5, 2, bits=0)
