"""The claim about ViT's hunger for data: micro cells, what is decided from rows, and the figure."""

import json

import pytest
import torch

from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.data_hunger import (
    CLAIM,
    LEARNERS,
    SmallCNN,
    build_classifier,
    measure_hunger,
    pretrain,
)
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

SIZES = {
    **{"patch_size": 2, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    **{"initializer_range": 0.2, "use_cls_token": False},
}
DECODER = {
    **{"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2},
    "decoder_intermediate_size": 8,
}
PRETRAINING = {"decoder": DECODER, "max_steps": 3, "batch_size": 8, "learning_rate": 1e-3}
MICRO = {
    **{"sizes": SIZES, "counts": [[10, 2], [20, 1]], "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3},
    "weight_decay": 0.05,
}
# Accuracy with the fewest and with all images.
GOOD = {"cnn": (0.9, 0.99), "seq_vit": (0.6, 0.95), "mae": (0.8, 0.97)}


def settings_of(learner: str) -> dict[str, object]:
    return {**MICRO, "learner": learner, "pretraining": PRETRAINING if learner == "mae" else None}


def rows_of(accuracy: dict[str, tuple[float, float]], noise: float = 0.01) -> list[Row]:
    """Three draws of the fewest images, of which the CNN's and the pretrained ViT's differ by `noise`."""
    return [
        {
            "learner": learner,
            "model": "cnn" if learner == "cnn" else "seq_vit",
            "seed": 0,
            "draw": draw,
            "num_images": count,
            "num_parameters": 100,
            "accuracy": value + (noise * (draw - 1) if learner != "seq_vit" and draws > 1 else 0),
        }
        for learner, values in accuracy.items()
        for value, count, draws in zip(values, (50, 1437), (3, 1))
        for draw in range(draws)
    ]


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_cell_measures_every_draw_and_repeats_itself(learner: str) -> None:
    shares: list[float] = []
    rows = measure_hunger(shares.append, seed=1, **settings_of(learner))
    assert [(row["num_images"], row["draw"]) for row in rows] == [(10, 0), (10, 1), (20, 0)]
    assert all(row["steps"] == 2 and row["examples"] == 8 for row in rows)
    assert rows[0]["pretraining_steps"] == (3 if learner == "mae" else 0)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    torch.manual_seed(7)  # what ran before does not matter
    assert measure_hunger(lambda share: None, seed=1, **settings_of(learner)) == rows
    assert json.loads(json.dumps(rows)) == rows


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="learner='mlp' must be one of cnn, seq_vit, mae"):
        measure_hunger(float, seed=0, **settings_of("mlp"))
    with pytest.raises(ValueError, match="pretraining=None does not go with learner='mae'"):
        measure_hunger(float, seed=0, **{**settings_of("mae"), "pretraining": None})


def test_a_pretrained_classifier_has_the_encoder_that_was_pretrained() -> None:
    encoder = pretrain(SIZES, PRETRAINING, 0.05, 0, float)
    classifier = build_classifier("mae", SIZES, encoder)
    assert all(torch.equal(values, encoder[name]) for name, values in classifier.vit.state_dict().items())
    new = build_classifier("seq_vit", SIZES, {})
    assert any(not torch.equal(values, encoder[name]) for name, values in new.vit.state_dict().items())


def test_the_cnn_looks_at_neighbours_and_averages_places() -> None:
    torch.manual_seed(0)
    model = SmallCNN(4).eval()
    blank = torch.zeros(1, 1, 16, 16)
    first, second = blank.clone(), blank.clone()
    first[..., 6:8, 6:8] = 1
    second[..., 8:10, 8:10] = 1  # moved by what is pooled
    logits = [model(pixel_values=images).logits for images in (first, second, blank)]
    # Sums of the same numbers in another order.
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)
    assert not torch.allclose(logits[0], logits[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("budget", BUDGETS)
def test_models_are_compared_at_the_same_size_and_budget(budget: str) -> None:
    cells = CLAIM.cells(budget)
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.settings["seed"] for cell in cells}) == {"quick": 1, "standard": 3, "full": 5}[budget]
    for name in ("sizes", "counts", "max_steps", "batch_size", "weight_decay"):
        assert len({json.dumps(cell.settings[name]) for cell in cells}) == 1
    sizes = [num_trained(build_classifier(learner, cells[0].settings["sizes"], {})) for learner in LEARNERS]
    assert max(sizes) < 1.1 * min(sizes)


def test_it_holds_if_few_images_are_too_few_for_the_vit_alone() -> None:
    verdict = CLAIM.judge(rows_of(GOOD))
    assert verdict.holds
    # A standard deviation of one point over three draws.
    assert verdict.numbers["cnn_lead"] == 30 and verdict.numbers["cnn_lead_error"] == 0.58
    assert verdict.numbers["cnn_lead_most"] == 4 and verdict.numbers["draws"] == 3
    assert not CLAIM.judge(rows_of(GOOD, noise=0.3)).holds  # the leads are no larger than chance makes them
    for learner, values in (
        ("cnn", (0.6, 0.6)),  # not ahead
        ("mae", (0.6, 0.97)),  # pretraining did not help
        ("seq_vit", (0.6, 0.75)),  # the gap stays
    ):
        assert not CLAIM.judge(rows_of({**GOOD, learner: values})).holds


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_and_figures_fit(language: str) -> None:
    texts = claim_texts("data_hunger", language)
    rows = rows_of(GOOD)
    numbers = CLAIM.judge(rows).numbers
    for text in (texts.claim, texts.how, texts.short, texts.holds, texts.fails):
        texts.labels.fill(text, numbers)
    figures = CLAIM.draw(rows, texts.labels)
    assert list(figures) == list(texts.figures)
    (axes,) = figures["by_images"].axes
    assert axes.get_xlabel() == texts.labels("num_images") and len(axes.containers) == len(LEARNERS)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "1437"]
