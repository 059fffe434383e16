"""The claim about positions: micro cells, what is decided from rows, and the figures."""

import json

import numpy as np
import pytest
import torch

from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.positions import (
    ARRANGEMENTS,
    CLAIM,
    SERIES,
    TABLES,
    accuracies,
    measure_positions,
    rearranged,
    similarity_rows,
)
from hf_seqmodels.tasks.compare.digits import read_digits, vit_classifier
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts

SIZES = {
    **{"patch_size": 2, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    **{"initializer_range": 0.3, "use_cls_token": False},
}
MICRO = {
    **{"sizes": SIZES, "max_steps": 3, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.05},
    "num_shuffles": 2,
}
GOOD = {
    **{"learned_plain": 0.9, "learned_positions": 0.2, "learned_patches": 0.2, "learned_both": 0.9},
    **{"none_plain": 0.5, "none_patches": 0.5, "scrambled_plain": 0.9},
}
GOOD_TABLES = {"untrained": 0.0, "trained": 0.4, "scrambled_shown": 0.1, "scrambled_origin": 0.2}


def rows_of(accuracy: dict[str, float], correlation: dict[str, float], seeds: int = 1) -> list[Row]:
    """Rows of all cells, every similarity alike."""
    rows: list[Row] = []
    for seed in range(seeds):
        shared = {"model": "seq_vit", "seed": seed, "num_parameters": 100}
        rows += [{**shared, "series": name, "accuracy": value} for name, value in accuracy.items()]
        for table, value in correlation.items():
            rows.append({"seed": seed, "table": table, "correlation": value, "grid": np.ones((2, 2, 2, 2)).tolist()})
            rows += [{"seed": seed, "table": table, "distance": far, "similarity": 1 / far} for far in (1.0, 1.414)]
    return rows


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_a_cell_measures_and_repeats_itself(arrangement: str) -> None:
    shares: list[float] = []
    rows = measure_positions(shares.append, arrangement=arrangement, seed=1, **MICRO)
    names = [row["series"] for row in rows if "series" in row]
    kinds = ("plain", "patches") if arrangement == "none" else ("plain", "patches", "positions", "both")
    assert names == [f"{arrangement}_{kind}" for kind in kinds]
    tables = [row["table"] for row in rows if "correlation" in row]
    wanted = {"learned": TABLES[:2], "none": (), "scrambled": TABLES[2:]}
    assert tuple(tables) == wanted[arrangement]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_positions(lambda share: None, arrangement=arrangement, seed=1, **MICRO) == rows
    assert json.loads(json.dumps(rows)) == rows


def test_cells_measure_all_that_is_judged() -> None:
    rows = [row for name in ARRANGEMENTS for row in measure_positions(float, arrangement=name, seed=0, **MICRO)]
    assert CLAIM.judge(rows).numbers.keys() >= {*SERIES, *(f"{table}_correlation" for table in TABLES)}
    with pytest.raises(ValueError, match="arrangement='rows' must be one of learned, none, scrambled"):
        measure_positions(float, arrangement="rows", seed=0, **MICRO)


def test_a_place_shows_the_patch_of_its_order() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    moved = rearranged(images, np.array([3, 1, 2, 0]), 2)
    assert torch.equal(moved[0, 0, :2, :2], images[0, 0, 2:, 2:])
    assert torch.equal(moved[0, 0, :2, 2:], images[0, 0, :2, 2:])


def test_positions_that_move_with_their_patches_change_nothing() -> None:
    torch.manual_seed(0)
    model = vit_classifier(SIZES).eval()
    _, test = read_digits()
    pixel_values, table = test.pixel_values(), model.vit.embeddings.position_embeddings.detach().clone()
    with torch.inference_mode():
        guesses = model(pixel_values=pixel_values).logits.argmax(-1)
    # Labels that the model gets right: all of them where nothing has changed.
    orders = [np.random.default_rng(seed).permutation(16) for seed in range(2)]
    found = accuracies(model, pixel_values, guesses, orders)
    assert found["plain"] == found["both"] == 1
    assert found["patches"] < 1 and found["positions"] < 1
    assert torch.equal(model.vit.embeddings.position_embeddings, table)  # put back

    without = vit_classifier({**SIZES, "position_embedding_type": "none"}).eval()
    with torch.inference_mode():
        guesses = without(pixel_values=pixel_values).logits.argmax(-1)
    assert accuracies(without, pixel_values, guesses, orders) == {"plain": 1, "patches": 1}


def test_similarity_is_told_by_the_places_that_are_given() -> None:
    model = vit_classifier({**SIZES, "hidden_size": 32})
    order = np.random.default_rng(0).permutation(16)
    centres = torch.tensor([divmod(int(place), 4) for place in order], dtype=torch.float64)
    # Each place's embedding is a bump around the place where its patch belongs, so near ones are alike.
    grid = torch.tensor([divmod(place, 4) for place in range(16)], dtype=torch.float64)
    bumps = (-torch.cdist(centres, grid).square() / 4).exp().float()
    model.vit.embeddings.position_embeddings.data[0] = torch.cat([bumps, bumps], dim=1)
    summary, *by_distance = similarity_rows(model, "trained", order, seed=5)
    assert summary["correlation"] > 0.9 and summary["seed"] == 5
    means = [row["similarity"] for row in by_distance]
    assert means == sorted(means, reverse=True)
    assert [row["distance"] for row in by_distance][:3] == [1, 1.414, 2]
    assert np.array(summary["grid"])[1, 2, 1, 2] == 1
    assert abs(similarity_rows(model, "trained", np.arange(16), seed=5)[0]["correlation"]) < 0.3


@pytest.mark.parametrize("budget", BUDGETS)
def test_all_models_have_the_same_budget(budget: str) -> None:
    cells = CLAIM.cells(budget)
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.settings["seed"] for cell in cells}) == {"quick": 1, "standard": 3, "full": 5}[budget]
    for name in ("sizes", "max_steps", "batch_size", "learning_rate"):
        assert len({json.dumps(cell.settings[name]) for cell in cells}) == 1
    assert budget != "quick" or max(cell.seconds for cell in cells) <= 60
    sizes = [
        sum(parameter.numel() for parameter in vit_classifier({**cells[0].settings["sizes"], **fields}).parameters())
        for fields in ({}, {"position_embedding_type": "none"})
    ]
    assert max(sizes) < 1.1 * min(sizes)


def test_it_holds_if_space_is_learnt_and_needed() -> None:
    verdict = CLAIM.judge(rows_of(GOOD, GOOD_TABLES, seeds=2))
    assert verdict.holds
    assert verdict.numbers["learned_plain"] == 90 and verdict.numbers["trained_correlation"] == 0.4
    for name, value in (("learned_positions", 0.85), ("none_plain", 0.85)):
        assert not CLAIM.judge(rows_of({**GOOD, name: value}, GOOD_TABLES)).holds
    for name, value in (("trained", 0.2), ("untrained", 0.2), ("scrambled_shown", 0.3)):
        assert not CLAIM.judge(rows_of(GOOD, {**GOOD_TABLES, name: value})).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_and_figures_fit(language: str) -> None:
    texts = claim_texts("positions", language)
    rows = rows_of(GOOD, GOOD_TABLES, seeds=2)
    numbers = CLAIM.judge(rows).numbers
    for text in (texts.claim, texts.how, texts.short, texts.holds, texts.fails):
        texts.labels.fill(text, numbers)
    figures = CLAIM.draw(rows, texts.labels)
    assert list(figures) == list(texts.figures)
    titles = [panel.get_title() for panel in figures["maps"].axes]
    assert titles[: len(TABLES)] == [texts.labels(table) for table in TABLES]
    lines, bars = figures["positions"].axes
    assert len(lines.containers) == len(TABLES) and len(bars.get_yticklabels()) == len(SERIES)
