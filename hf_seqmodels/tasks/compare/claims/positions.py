"""Position embeddings learn space: which of them are alike, and what is lost where they are shuffled or missing.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section 4.5 and figure 7 (centre), appendix D.4.
"""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hf_seqmodels.analysis.vit_embeddings import position_similarity
from hf_seqmodels.data.random import generator
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.patches import as_pair, patchify, unpatchify
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.digits import accuracy, read_digits, vit_classifier
from hf_seqmodels.tasks.compare.figures import close, draw_bars, draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.training import Batch, fit
from hf_seqmodels.tasks.model_sizes import num_trained

# What a model is trained with: positions; none; or positions, and images whose patches lie in one wrong order.
ARRANGEMENTS = ("learned", "none", "scrambled")
TABLES = ("untrained", "trained", "scrambled_shown", "scrambled_origin")
SERIES = (
    "learned_plain",
    "learned_positions",
    "learned_patches",
    "learned_both",
    "none_plain",
    "none_patches",
    "scrambled_plain",
)
# Three standard deviations of the correlation of unrelated numbers over the 120 pairs of 16 patches.
LEAST_CORRELATION = 0.3
LEAST_LOSS = 10.0  # points of accuracy

# The deviation of a new position table (Dosovitskiy et al. 2020: 0.02); the other weights of so narrow a model start
# wider.
_TABLE_DEVIATION = 0.02
_SIZES = {
    "patch_size": 2,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "initializer_range": 0.125,
    "use_cls_token": False,
}
_STEPS: dict[BudgetName, int] = {"quick": 600, "standard": 1500, "full": 3500}
_SECONDS_PER_STEP = 0.02


def measure_positions(
    progress: Progress,
    *,
    arrangement: str,
    sizes: dict[str, Any],
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    num_shuffles: int,
    seed: int,
) -> list[Row]:
    """Trains a SeqViT on all digits, and looks at its positions.

    Args:
        arrangement: one of `ARRANGEMENTS`.
        sizes: fields of the model's configuration.
        max_steps, batch_size, learning_rate, weight_decay: of training.
        num_shuffles: random orders of the patches; accuracies are means over them.
        seed: of weights, batches and orders.

    Returns:
        A row for each `series` of accuracies: `model`, `seed`, `num_parameters`, `accuracy`, and the budget: `steps`,
        `examples`. With positions also rows of a `table`, see `similarity_rows`: `untrained` and `trained`, or
        `scrambled_shown` and `scrambled_origin`, by the places where patches are shown and by those where they belong.

    Raises:
        ValueError: there is no such arrangement.
    """
    if arrangement not in ARRANGEMENTS:
        raise ValueError(f"arrangement={arrangement!r} must be one of {', '.join(ARRANGEMENTS)}.")
    train, test = read_digits()
    torch.manual_seed(seed)
    model = vit_classifier({**sizes, "position_embedding_type": "none" if arrangement == "none" else "learned"})
    as_it_is = np.arange(np.prod(model.config.grid))
    scrambled = arrangement == "scrambled"
    shown = generator(seed, "scrambled patches").permutation(len(as_it_is)) if scrambled else as_it_is
    rows: list[Row] = []
    if (table := model.vit.embeddings.position_embeddings) is not None:
        torch.nn.init.trunc_normal_(table, std=_TABLE_DEVIATION)
    if arrangement == "learned":
        rows += similarity_rows(model, "untrained", as_it_is, seed)
    batches = train.batches(batch_size, seed, 0)

    def batch_of(step: int) -> Batch:
        batch = batches(step)
        return {**batch, "pixel_values": rearranged(batch["pixel_values"], shown, sizes["patch_size"])}

    fit(model, batch_of, max_steps, learning_rate, progress, lr_scheduler_type="cosine", weight_decay=weight_decay)
    if arrangement != "none":
        rows += similarity_rows(model, "scrambled_shown" if scrambled else "trained", as_it_is, seed)
    if scrambled:
        rows += similarity_rows(model, "scrambled_origin", shown, seed)
    orders = [generator(seed, "shuffled patches", number).permutation(len(shown)) for number in range(num_shuffles)]
    found = accuracies(model, rearranged(test.pixel_values(), shown, sizes["patch_size"]), test.labels, orders)
    shared = {
        "model": "seq_vit",
        "seed": seed,
        "num_parameters": num_trained(model),
        "steps": max_steps,
        "examples": max_steps * batch_size,
    }
    return [{**shared, "series": f"{arrangement}_{name}", "accuracy": value} for name, value in found.items()] + rows


def rearranged(pixel_values: torch.Tensor, order: np.ndarray, patch_size: int) -> torch.Tensor:
    """Images `(batch, channels, height, width)` whose place p shows the patch that belongs to place `order[p]`."""
    height, width = pixel_values.shape[-2:]
    patches = patchify(pixel_values, patch_size)[:, torch.from_numpy(order)]
    return unpatchify(patches, patch_size, (height // patch_size, width // patch_size))


def accuracies(
    model: SeqViTForImageClassification, pixel_values: torch.Tensor, labels: torch.Tensor, orders: list[np.ndarray]
) -> dict[str, float]:
    """Accuracy as it is, and the means over orders: of the `patches`, of the `positions`, and of `both` alike.

    A model without positions has those of `patches` alone.
    """
    patch_size, table = as_pair(model.config.patch_size)[0], model.vit.embeddings.position_embeddings
    shuffled = [rearranged(pixel_values, order, patch_size) for order in orders]
    found = {"plain": accuracy(model, pixel_values, labels)}
    found["patches"] = float(np.mean([accuracy(model, images, labels) for images in shuffled]))
    if table is None:
        return found
    learned = table.detach().clone()
    alone, both = [], []
    for order, images in zip(orders, shuffled):
        table.data.copy_(learned[:, torch.from_numpy(order)])
        alone.append(accuracy(model, pixel_values, labels))
        both.append(accuracy(model, images, labels))
    table.data.copy_(learned)
    return {**found, "positions": float(np.mean(alone)), "both": float(np.mean(both))}


def similarity_rows(model: SeqViTForImageClassification, table: str, places: np.ndarray, seed: int) -> list[Row]:
    """How alike positions are, and how near.

    Args:
        model: a SeqViT with positions.
        table: name of what is looked at.
        places: `(num_patches,)` where each embedding is put on the grid.

    Returns:
        A row with the `correlation` of similarity and nearness over all pairs, and the similarities as nested lists:
        `grid`, `(rows, columns, rows, columns)`; and a row for each `distance` in patches: the mean `similarity`.
    """
    rows, columns = model.config.grid
    similarity = np.empty((rows * columns, rows * columns))
    similarity[np.ix_(places, places)] = position_similarity(model).reshape(similarity.shape)
    centres = np.array([divmod(place, columns) for place in range(rows * columns)], dtype=float)
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)
    pairs = np.triu_indices(rows * columns, 1)
    shared = {"seed": seed, "table": table}
    grid = similarity.round(3).reshape(rows, columns, rows, columns).tolist()
    nearness = float(np.corrcoef(similarity[pairs], -distances[pairs])[0, 1])
    own = np.unique(distances[pairs].round(3))
    return [{**shared, "correlation": nearness, "grid": grid}] + [
        {
            **shared,
            "distance": float(distance),
            "similarity": float(similarity[pairs][distances[pairs].round(3) == distance].mean()),
        }
        for distance in own
    ]


def cells(budget: BudgetName) -> list[Cell]:
    """One for each arrangement and seed."""
    return [
        Cell(
            f"positions-{arrangement}-{seed}",
            measure_positions,
            {
                "arrangement": arrangement,
                "sizes": _SIZES,
                "max_steps": _STEPS[budget],
                "batch_size": 64,
                "learning_rate": 2e-3,
                "weight_decay": 0.05,
                "num_shuffles": 10,
                "seed": seed,
            },
            _STEPS[budget] * _SECONDS_PER_STEP,
        )
        for arrangement in ARRANGEMENTS
        for seed in range(num_seeds(budget))
    ]


def judge(rows: list[Row]) -> Verdict:
    """It holds if near positions have become alike, by where patches belong, and accuracy needs them in their places.

    Alike: the correlation of a trained table is `LEAST_CORRELATION` above that of the untrained one, and that of a
    table of scrambled images is higher by the origin of patches than by where they are shown. Needed: accuracy is
    `LEAST_LOSS` points lower with positions shuffled, and without positions.
    """
    correlations = {table: mean_of(rows, "correlation", table=table) for table in TABLES}
    percent = {series: 100 * mean_of(rows, "accuracy", series=series) for series in SERIES}
    alike = correlations["trained"] - correlations["untrained"] >= LEAST_CORRELATION
    by_origin = correlations["scrambled_origin"] > correlations["scrambled_shown"]
    needed = percent["learned_plain"] - max(percent["learned_positions"], percent["none_plain"])
    numbers: dict[str, float | int | str] = {
        "least_correlation": LEAST_CORRELATION,
        "least_loss": LEAST_LOSS,
        **{f"{table}_correlation": close(value, 2) for table, value in correlations.items()},
        **{series: close(value) for series, value in percent.items()},
    }
    return Verdict(alike and by_origin and needed >= LEAST_LOSS, numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Maps of the first seed; similarity against distance beside accuracies."""
    maps, axes = panels(len(TABLES))
    for panel, table in zip(axes, TABLES):
        own = next(row for row in select(rows, table=table) if "grid" in row)
        drawn = _draw_grid(panel, np.array(own["grid"]))
        panel.set_title(labels(table))
    maps.colorbar(drawn, ax=axes, label=labels("similarity"), shrink=0.8)
    figure, (left, right) = panels(2)
    tables = [row for row in rows if "distance" in row]
    draw_lines(left, tables, labels, x="distance", y="similarity", by="table")
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.5 * (high - low))  # room for the legend
    bars = [{**row, "percent": 100 * row["accuracy"]} for series in SERIES for row in select(rows, series=series)]
    draw_bars(right, bars, labels, y="percent", by="series")
    right.set_xlim(0, 100)
    return {"maps": maps, "positions": figure}


def _draw_grid(panel: Axes, similarity: np.ndarray) -> AxesImage:
    """A map for each position, in its place, with a gap between maps."""
    rows, columns, height, width = similarity.shape
    canvas = np.full((rows, height + 1, columns, width + 1), np.nan)
    canvas[:, :height, :, :width] = similarity.transpose(0, 2, 1, 3)
    picture = canvas.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
    panel.set_axis_off()
    return panel.imshow(picture, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


CLAIM = Claim("positions", cells, judge, draw)
