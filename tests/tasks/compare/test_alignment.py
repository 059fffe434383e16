"""The claim of alignment: a micro cell, errors counted by hand, what is decided from rows, and the figures."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_seqmodels.data.dates import TARGET_PLACES, date_pairs
from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.tasks.compare.claim import BUDGETS, Row
from hf_seqmodels.tasks.compare.claims.alignment import (
    CLAIM,
    CONFIGS,
    alignment_error,
    attention_maps,
    build,
    chance_error,
    measure_alignment,
)
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

TINY = {
    "attention_seq2seq": {**CONFIGS["attention_seq2seq"], "hidden_size": 8, "embedding_size": 8},
    "vanilla_transformer": {
        **CONFIGS["vanilla_transformer"],
        **{"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8},
    },
}
MICRO = {"num_dates": 100, "eval_dates": 60, "token_budget": 400, "max_steps": 3, "learning_rate": 1e-2}

TARGET = "2021-03-14"
SPANS = {"2021.03.14": ([0, 4], [5, 7], [8, 10]), "14.03.2021": ([6, 10], [3, 5], [0, 2])}
PAIRS = Dataset.from_list(
    [
        {"source": source, "target": TARGET, "year_span": year, "month_span": month, "day_span": day}
        for source, (year, month, day) in SPANS.items()
    ]
)


def test_errors_are_counted_over_digits_of_the_right_target() -> None:
    monotonic = np.eye(11)  # every character from the same place
    assert [alignment_error([monotonic] * 2, PAIRS, part) for part in TARGET_PLACES] == [0.5, 0.5, 0.5]
    turned = np.eye(11)[[6, 7, 8, 9, 2, 3, 4, 5, 0, 1, 10]]
    assert [alignment_error([monotonic, turned], PAIRS, part) for part in TARGET_PLACES] == [0, 0, 0]
    late = monotonic.copy()
    late[9] = np.eye(11)[10]  # the last digit looks at the end: one of four digits of days is wrong
    assert [alignment_error([late, turned], PAIRS, part) for part in TARGET_PLACES] == [0, 0, 0.25]


def test_chance_is_what_random_attention_gets() -> None:
    pairs, rng = date_pairs(400, 0), np.random.default_rng(0)
    for part in TARGET_PLACES:
        maps = [rng.random((11, len(source) + 1)) for source in pairs["source"]]
        # At least 600 digits: four standard errors of a share.
        assert alignment_error(maps, pairs, part) == pytest.approx(chance_error(pairs, part), abs=4 * 0.5 / 600**0.5)


@pytest.mark.parametrize("model", TINY)
def test_maps_do_not_depend_on_the_batch(model: str) -> None:
    tokenizer = train_characters(PAIRS["source"])
    torch.manual_seed(0)
    translator = build(model, TINY[model], tokenizer)
    longer = Dataset.from_list([{**PAIRS[0], "source": "2021.03.14 2021.03.14"}, *PAIRS])
    together, alone = attention_maps(translator, tokenizer, longer), attention_maps(translator, tokenizer, PAIRS)
    assert [own.shape for own in together] == [(11, 22), (11, 11), (11, 11)]
    for own, expected in zip(together[1:], alone):
        np.testing.assert_allclose(own.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(own, expected, atol=1e-6)  # float32: other shapes, other order of sums


@pytest.mark.parametrize("model", TINY)
def test_a_cell_measures_before_and_after_and_repeats_itself(model: str) -> None:
    shares: list[float] = []
    rows = measure_alignment(shares.append, model=model, config=TINY[model], seed=1, **MICRO)
    assert rows[0]["model"] == model and 0 <= rows[0]["exact_match"] <= 1 and rows[0]["steps"] == 3
    errors = {(row["series"], row["part"]) for row in rows if "error" in row}
    assert errors == {(s, part) for s in ("chance", model, f"untrained_{model}") for part in TARGET_PLACES}
    maps = [row for row in rows if "map_weights" in row]
    assert [(row["locale"], row["state"]) for row in maps] == [
        (locale, state) for locale in ("en", "ko") for state in ("untrained", "trained")
    ]
    assert all(np.shape(row["map_weights"]) == (11, len(row["map_source"])) for row in maps)
    assert maps[0]["map_weights"] != maps[1]["map_weights"]
    assert shares == sorted(shares) and shares[-1] == 1
    assert measure_alignment(lambda share: None, model=model, config=TINY[model], seed=1, **MICRO) == rows
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.parametrize("budget", BUDGETS)
def test_models_are_compared_at_the_same_size_and_budget(budget: str) -> None:
    cells = CLAIM.cells(budget)
    assert len({cell.name for cell in cells}) == len(cells)
    for name in ("max_steps", "token_budget", "num_dates", "eval_dates"):
        assert len({cell.settings[name] for cell in cells}) == 1
    pairs = date_pairs(2000, 0)
    tokenizer = train_characters([*pairs["source"], *pairs["target"]])
    sizes = {num_trained(build(c.settings["model"], c.settings["config"], tokenizer)) for c in cells}
    assert max(sizes) < 1.1 * min(sizes)


def rows_of(trained: float, untrained: float, chance: float, models: tuple[str, ...]) -> list[Row]:
    """Two seeds, the same errors for each part."""
    rows: list[Row] = []
    for seed in range(2):
        for model in models:
            rows.append({"model": model, "seed": seed, "num_parameters": 100, "exact_match": 0.9})
            for part in TARGET_PLACES:
                errors = {"chance": chance, f"untrained_{model}": untrained, model: trained}
                rows += [
                    {"seed": seed, "series": name, "part": part, "error": error} for name, error in errors.items()
                ]
            for locale, state in (("en", "untrained"), ("en", "trained"), ("ko", "untrained"), ("ko", "trained")):
                rows.append(
                    {
                        **{"model": model, "seed": seed, "locale": locale, "state": state},
                        "map_source": [*"14.03.2021", "</s>"],
                        "map_target": [*"2021-03-14", "</s>"],
                        "map_weights": np.eye(11).tolist(),
                        "map_spans": {"year": [6, 10], "month": [3, 5], "day": [0, 2]},
                    }
                )
    return rows


def test_it_holds_if_errors_fall_below_half_of_both() -> None:
    verdict = CLAIM.judge(rows_of(0.3, 0.7, 0.8, ("attention_seq2seq",)))
    assert verdict.holds and verdict.numbers["transformer"] == "not_measured"
    assert verdict.numbers["day_error"] == 30 and verdict.numbers["year_chance"] == 80
    assert not CLAIM.judge(rows_of(0.3, 0.5, 0.8, ("attention_seq2seq",))).holds
    assert not CLAIM.judge(rows_of(0.3, 0.8, 0.5, ("attention_seq2seq",))).holds
    one_part = rows_of(0.3, 0.7, 0.8, ("attention_seq2seq",))
    for row in one_part:
        if row.get("series") == "attention_seq2seq" and row["part"] == "month":
            row["error"] = 0.4
    assert not CLAIM.judge(one_part).holds


@pytest.mark.parametrize("models", [("attention_seq2seq",), ("attention_seq2seq", "vanilla_transformer")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_and_figures_fit(language: str, models: tuple[str, ...]) -> None:
    texts = claim_texts("alignment", language)
    rows = rows_of(0.3, 0.7, 0.8, models)
    numbers = CLAIM.judge(rows).numbers
    for text in (texts.claim, texts.how, texts.short, texts.holds, texts.fails):
        texts.labels.fill(text, numbers)
    assert ("30.0 %" in texts.labels.fill(texts.holds, numbers)) == (len(models) == 2)
    figures = CLAIM.draw(rows, texts.labels)
    assert list(figures) == list(texts.figures)
    year = figures["errors"].axes[0]
    assert len(year.patches) == 1 + 2 * len(models) and year.get_title() == texts.labels("year")
    maps = [axes for axes in figures["maps"].axes if axes.get_visible()]
    assert len(maps) == 2 + 2 * len(models)
    assert [label.get_text() for label in maps[0].get_xticklabels()] == [*"14.03.2021", "⏎"]
