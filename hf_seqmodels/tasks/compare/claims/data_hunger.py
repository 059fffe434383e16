"""ViT is data-hungry: its accuracy against the number of images, beside a CNN's and a pretrained ViT's.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section 4.3; He et al. 2021, "Masked Autoencoders Are
Scalable Vision Learners", section 4.
"""

from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.digits import NUM_CLASSES, accuracy, read_digits, vit_classifier, vit_config
from hf_seqmodels.tasks.compare.figures import close, draw_lines, panels, show_ticks
from hf_seqmodels.tasks.compare.rows import mean_of, select, values_of
from hf_seqmodels.tasks.compare.training import fit, stage
from hf_seqmodels.tasks.model_sizes import nearest_width, num_trained

LEARNERS = ("cnn", "seq_vit", "mae")
STANDARD_ERRORS = 2.0  # a difference counts if it is larger than so many standard errors over draws of images
LEAST_SHRINKING = 2.0  # the CNN's lead must be so many times smaller with all images than with the fewest

_CONVOLUTIONS = 3
_SIZES = {
    "patch_size": 2,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    # For so small a width the published deviation of 0.02 starts too near zero.
    "initializer_range": 0.125,
    "use_cls_token": False,
}
_DECODER = {
    "mask_ratio": 0.5,  # of 16 patches the published 0.75 leaves only four
    "decoder_hidden_size": 48,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 96,
}
# Images to train on, and how many draws of them are tried.
_COUNTS = [[50, 5], [150, 1], [500, 1], [1437, 1]]
_STEPS: dict[BudgetName, int] = {"quick": 500, "standard": 1200, "full": 2500}
_PRETRAINING_STEPS: dict[BudgetName, int] = {"quick": 3000, "standard": 7500, "full": 16_000}
_LEARNING_RATES = {"cnn": 2e-3, "seq_vit": 3e-3, "mae": 3e-3}
_SECONDS_PER_STEP = {"cnn": 0.008, "seq_vit": 0.008, "mae": 0.008}
_SECONDS_PER_PRETRAINING_STEP = 0.01


class SmallCNN(nn.Module):
    """Three 3×3 convolutions with batch normalisation and ReLU, pooling after the second, and the mean at the end.

    Args:
        width: channels of the first convolution; the others have twice and four times as many.
    """

    def __init__(self, width: int):
        super().__init__()
        channels = [1, *(width * 2**number for number in range(_CONVOLUTIONS))]
        blocks: list[nn.Module] = []
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        blocks.insert(-3, nn.MaxPool2d(2))
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels[-1], NUM_CLASSES)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> ImageClassifierOutput:
        """`(batch, 1, height, width)`, and classes `(batch,)` -> `logits` `(batch, 10)`, and the loss."""
        logits = self.classifier(self.features(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def measure_hunger(
    progress: Progress,
    *,
    learner: str,
    sizes: dict[str, Any],
    counts: list[list[int]],
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    pretraining: dict[str, Any] | None,
    seed: int,
) -> list[Row]:
    """Trains a new classifier on each draw of the digits, for as many steps whatever the number of images.

    Args:
        learner: one of `LEARNERS`: `mae` is a SeqViT that was pretrained on all images to train on, without labels.
        sizes: fields of the SeqViT's configuration; the CNN has as many parameters.
        counts: numbers of images, and how many draws of each. All learners get the same.
        max_steps, batch_size, learning_rate, weight_decay: of each training.
        pretraining: of `mae`: `decoder` (fields of the configuration, `mask_ratio` too), `max_steps`, `batch_size` and
            `learning_rate`.
        seed: of weights, draws and batches.

    Returns:
        A row for each draw: `learner`, `model`, `seed`, `draw`, `num_images`, `accuracy` on the test images,
        `num_parameters`, and the budget: `steps`, `examples`, `pretraining_steps`.

    Raises:
        ValueError: there is no such learner, or `pretraining` does not go with it.
    """
    if learner not in LEARNERS:
        raise ValueError(f"learner={learner!r} must be one of {', '.join(LEARNERS)}.")
    if (learner == "mae") != (pretraining is not None):
        raise ValueError(f"pretraining={pretraining!r} does not go with learner={learner!r}.")
    train, test = read_digits()
    pixel_values = test.pixel_values()
    done, total = 0, max_steps * sum(draws for _, draws in counts)
    encoder: dict[str, torch.Tensor] = {}
    if pretraining is not None:
        done, total = pretraining["max_steps"], total + pretraining["max_steps"]
        encoder = pretrain(sizes, pretraining, weight_decay, seed, stage(progress, 0, done / total))
    rows: list[Row] = []
    for count, draws in counts:
        for draw in range(draws):
            torch.manual_seed(seed)
            classifier = build_classifier(learner, sizes, encoder)
            fit(
                classifier,
                train.draw(count, seed, draw).batches(batch_size, seed, draw),
                max_steps,
                learning_rate,
                stage(progress, done / total, (done + max_steps) / total),
                lr_scheduler_type="cosine",
                weight_decay=weight_decay,
            )
            done += max_steps
            rows.append(
                {
                    "learner": learner,
                    "model": "cnn" if learner == "cnn" else "seq_vit",
                    "seed": seed,
                    "draw": draw,
                    "num_images": count,
                    "accuracy": accuracy(classifier, pixel_values, test.labels),
                    "num_parameters": num_trained(classifier),
                    "steps": max_steps,
                    "examples": max_steps * batch_size,
                    "pretraining_steps": 0 if pretraining is None else pretraining["max_steps"],
                }
            )
    return rows


def pretrain(
    sizes: dict[str, Any], pretraining: dict[str, Any], weight_decay: float, seed: int, progress: Progress
) -> dict[str, torch.Tensor]:
    """Trains a masked autoencoder on all images to train on, without their labels.

    Returns:
        The encoder's weights by name.
    """
    torch.manual_seed(seed)
    model = SeqViTForPreTraining(vit_config({**sizes, **pretraining["decoder"]}))
    fit(
        model,
        read_digits()[0].batches(pretraining["batch_size"], seed, 0, labelled=False),
        pretraining["max_steps"],
        pretraining["learning_rate"],
        progress,
        lr_scheduler_type="cosine",
        weight_decay=weight_decay,
    )
    return model.vit.state_dict()


def build_classifier(learner: str, sizes: dict[str, Any], encoder: dict[str, torch.Tensor]) -> nn.Module:
    """A CNN of about as many parameters as the SeqViT, or the SeqViT, with a pretrained encoder if there is one."""
    if learner == "cnn":
        with torch.device("meta"):
            budget = num_trained(vit_classifier(sizes))
        return SmallCNN(nearest_width(SmallCNN, budget))
    classifier = vit_classifier(sizes)
    if encoder:
        classifier.vit.load_state_dict(encoder)
    return classifier


def cells(budget: BudgetName) -> list[Cell]:
    """One for each learner and seed."""
    found = []
    trainings = sum(draws for _, draws in _COUNTS)
    for learner in LEARNERS:
        pretraining: dict[str, Any] | None = None
        seconds = trainings * _STEPS[budget] * _SECONDS_PER_STEP[learner]
        if learner == "mae":
            steps = _PRETRAINING_STEPS[budget]
            pretraining = {"decoder": _DECODER, "max_steps": steps, "batch_size": 64, "learning_rate": 2e-3}
            seconds += steps * _SECONDS_PER_PRETRAINING_STEP
        settings = {
            "learner": learner,
            "sizes": _SIZES,
            "counts": _COUNTS,
            "max_steps": _STEPS[budget],
            "batch_size": 32,
            "learning_rate": _LEARNING_RATES[learner],
            "weight_decay": 0.05,
            "pretraining": pretraining,
        }
        found += [
            Cell(f"data_hunger-{learner}-{seed}", measure_hunger, {**settings, "seed": seed}, seconds)
            for seed in range(num_seeds(budget))
        ]
    return found


def judge(rows: list[Row]) -> Verdict:
    """It holds if with the fewest images the CNN and the pretrained ViT lead the ViT, and the CNN's lead shrinks.

    Learners are compared on the same images: a lead is the mean difference over draws and seeds, and counts if it is
    larger than `STANDARD_ERRORS` of its standard errors. With all images the CNN's must be `LEAST_SHRINKING` times
    smaller.
    """
    counts = sorted(values_of(rows, "num_images"))
    fewest, most = counts[0], counts[-1]
    numbers: dict[str, float | int | str] = {
        "fewest": fewest,
        "most": most,
        "standard_errors": STANDARD_ERRORS,
        "least_shrinking": LEAST_SHRINKING,
        "draws": len({(row["seed"], row["draw"]) for row in select(rows, num_images=fewest)}),
    }
    for learner in LEARNERS:
        for name, count in (("fewest", fewest), ("most", most)):
            numbers[f"{learner}_{name}"] = close(100 * mean_of(rows, "accuracy", learner=learner, num_images=count))
    leads = {learner: _differences(rows, learner, fewest) for learner in ("cnn", "mae")}
    for learner, found in leads.items():
        numbers[f"{learner}_lead"] = close(mean(found))
        numbers[f"{learner}_lead_error"] = close(_standard_error(found), 2)
    last = mean(_differences(rows, "cnn", most))
    numbers["cnn_lead_most"] = close(last)
    ahead = all(mean(found) > STANDARD_ERRORS * _standard_error(found) for found in leads.values())
    return Verdict(ahead and last * LEAST_SHRINKING <= mean(leads["cnn"]), numbers)


def _differences(rows: list[Row], learner: str, count: int) -> list[float]:
    """Points of accuracy by which a learner leads the ViT from scratch, for each draw of images."""
    return [
        100 * (row["accuracy"] - mean_of(rows, "accuracy", learner="seq_vit", **_draw_of(row)))
        for row in select(rows, learner=learner, num_images=count)
    ]


def _draw_of(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("seed", "draw", "num_images")}


def _standard_error(values: list[float]) -> float:
    return stdev(values) / len(values) ** 0.5


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Accuracy against the number of images."""
    named = [
        {**row, "percent": 100 * row["accuracy"]} for learner in LEARNERS for row in select(rows, learner=learner)
    ]
    figure, (axes,) = panels(1)
    draw_lines(axes, named, labels, x="num_images", y="percent", by="learner", log_x=True)
    show_ticks(axes, sorted(values_of(named, "num_images")))
    return {"by_images": figure}


CLAIM = Claim("data_hunger", cells, judge, draw)
