"""Attention learns alignment: where a decoder looks for each digit of a date, against where the digit comes from.

Nobody tells the models which part of a source means what; Bahdanau et al. 2015 (section 5.2.1, figure 3) saw that they
find it out. On dates the right part is known, so the finding can be counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.analysis.alignment import share_within
from hf_seqmodels.data.dates import TARGET_PLACES, date_pairs, target_origins
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.sampling import BatchStream, Cursor
from hf_seqmodels.data.translation import TranslationCollator, TranslationDataset
from hf_seqmodels.data.translation_tokenizers import EOS, train_characters
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.figures import close, draw_bars, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select
from hf_seqmodels.tasks.compare.training import Batch, fit, stage
from hf_seqmodels.tasks.model_sizes import num_trained
from hf_seqmodels.tasks.translation_evaluation import Decoding, translate_ids

PARTS = tuple(TARGET_PLACES)
STATES = ("untrained", "trained")
LEAST_GAIN = 2.0  # the error must be smaller than chance's and the untrained model's so many times

_JUDGED, _OTHER = "attention_seq2seq", "vanilla_transformer"
_MAP_LOCALES = ("en", "ko")  # whose longest test date is drawn
_SOURCE_LIMIT, _TARGET_LIMIT = 128, 16  # more tokens than any date has
_BUCKET_WINDOW = 2048
_EVALUATION_BATCH = 100
_TRAINING_SHARE = 0.95  # of a cell's time
_OUTLINE = "#D55E00"

# Both with 0.16 million parameters.
CONFIGS: dict[str, dict[str, Any]] = {
    "attention_seq2seq": {
        "cell_type": "lstm",
        "hidden_size": 96,
        "embedding_size": 48,
        "num_hidden_layers": 1,
        "bridge": "tanh",
        "score": "additive",
        "initializer_range": 0.5,
    },
    "vanilla_transformer": {
        "d_model": 52,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 208,
        "decoder_ffn_dim": 208,
        "dropout": 0.0,
        "normalize_before": True,
    },
}
_LEARNING_RATES = {"attention_seq2seq": 5e-3, "vanilla_transformer": 3e-3}
_MODELS: dict[BudgetName, tuple[str, ...]] = {
    "quick": (_JUDGED,),
    "standard": (_JUDGED, _OTHER),
    "full": (_JUDGED, _OTHER),
}
_STEPS: dict[BudgetName, int] = {"quick": 600, "standard": 1500, "full": 4000}
_SECONDS_PER_STEP = 0.055  # on one core


def measure_alignment(
    progress: Progress,
    *,
    model: str,
    config: dict[str, Any],
    num_dates: int,
    eval_dates: int,
    token_budget: int,
    max_steps: int,
    learning_rate: float,
    seed: int,
) -> list[Row]:
    """Trains a model to write dates as ISO 8601, and compares its attention with the right part of the source.

    The attention is that of the decoder's last layer, the mean over its heads, while the right target is fed.

    Args:
        model: an encoder–decoder with attention to its source.
        config: fields of its configuration.
        num_dates: to train on.
        eval_dates: of the test split, the same for every seed.
        token_budget: tokens of a step, padding counted.
        max_steps: of training.
        learning_rate: at its peak.
        seed: of weights and order.

    Returns:
        Rows of three kinds. One has `model`, `seed`, `num_parameters`, `steps` and `exact_match`, the share of the
        test dates that it writes right. For each part of a date and each `series`, the model, the same `untrained_…`
        and `chance`: `part` and `error`, the share of the target characters whose strongest attention falls outside
        the right part. And for each of two dates and each `state`: `locale`, `map_source`, `map_target` (tokens),
        `map_weights` and `map_spans` (the right characters of each part).
    """
    pairs, test = date_pairs(num_dates, seed), date_pairs(eval_dates, 0, split="test")
    tokenizer = train_characters([text for name in ("source", "target") for text in pairs[name]])
    dataset = TranslationDataset(pairs, tokenizer, _SOURCE_LIMIT, _TARGET_LIMIT)
    stream = BatchStream(dataset, seed, 1, token_budget, bucket_window=_BUCKET_WINDOW).micro_batches(Cursor())
    collate = TranslationCollator(tokenizer.pad_token_id)
    torch.manual_seed(seed)
    translator = build(model, config, tokenizer)

    def batch_of(step: int) -> Batch:
        keys, _ = next(stream)
        return collate([dataset[key] for key in keys])

    maps = {"untrained": attention_maps(translator, tokenizer, test)}
    fit(translator, batch_of, max_steps, learning_rate, stage(progress, 0, _TRAINING_SHARE))
    maps["trained"] = attention_maps(translator, tokenizer, test)

    shared = {"model": model, "seed": seed, "num_parameters": num_trained(translator)}
    rows: list[Row] = [{**shared, "steps": max_steps, "exact_match": exact_match(translator, tokenizer, test)}]
    for part in PARTS:
        errors = {"chance": chance_error(test, part)}
        errors |= {_series(model, state): alignment_error(maps[state], test, part) for state in STATES}
        rows += [{"seed": seed, "series": name, "part": part, "error": error} for name, error in errors.items()]
    for index in _map_places(test):
        for state in STATES:
            rows.append({**shared, "state": state, **_map_row(test[index], maps[state][index])})
    progress(1)
    return rows


def build(model: str, config: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A new model with the tokenizer's vocabulary and special tokens."""
    fields = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    fields |= {"vocab_size": len(tokenizer), "decoder_start_token_id": tokenizer.bos_token_id}
    return AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(model, **fields, **config))


@torch.inference_mode()
def attention_maps(model: Any, tokenizer: PreTrainedTokenizerFast, pairs: Dataset) -> list[np.ndarray]:
    """For each pair `(target_len, source_len)`, in characters, the end of both counted; rows sum to 1.

    It is the attention with which each character of the right target is written, of the decoder's last layer, the
    mean over its heads.
    """
    dataset = TranslationDataset(pairs, tokenizer, _SOURCE_LIMIT, _TARGET_LIMIT)
    collate = TranslationCollator(tokenizer.pad_token_id)
    model.eval()
    maps = []
    for first in range(0, len(dataset), _EVALUATION_BATCH):
        rows = range(first, min(first + _EVALUATION_BATCH, len(dataset)))
        examples = [dataset[Key(0, 0, row)] for row in rows]
        weights = model(**collate(examples), output_attentions=True).cross_attentions[-1].mean(1)
        maps += [
            own[: len(example["labels"]), : len(example["input_ids"])].double().numpy()
            for own, example in zip(weights, examples)
        ]
    return maps


def alignment_error(maps: Sequence[np.ndarray], pairs: Dataset, part: str) -> float:
    """Share of a part's target characters whose strongest attention falls outside its characters of the source."""
    outside, total = 0.0, 0
    for weights, pair in zip(maps, pairs):
        origins = target_origins(pair, part)
        count = sum(origin is not None for origin in origins)
        # A character is a token; the last token is the end, which stands for none.
        spans = [(place, place + 1) for place in range(weights.shape[1])]
        outside += count * (1 - share_within(weights, spans, origins))
        total += count
    return outside / total


def chance_error(pairs: Dataset, part: str) -> float:
    """The alignment error to be expected if the strongest attention fell on any token of the source, its end too."""
    outside, total = 0.0, 0
    for pair in pairs:
        origins = [origin for origin in target_origins(pair, part) if origin is not None]
        outside += sum(1 - (end - start) / (len(pair["source"]) + 1) for start, end in origins)
        total += len(origins)
    return outside / total


def exact_match(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: Dataset) -> float:
    """Share of the dates that greedy search writes right."""
    dataset = TranslationDataset(pairs, tokenizer, _SOURCE_LIMIT, _TARGET_LIMIT)
    sources = [dataset[Key(0, 0, row)]["input_ids"] for row in range(len(dataset))]
    texts = translate_ids(model, tokenizer, sources, Decoding(batch_size=_EVALUATION_BATCH, max_length=_TARGET_LIMIT))
    return float(np.mean([text == target for text, target in zip(texts, pairs["target"], strict=True)]))


def _series(model: str, state: str) -> str:
    return model if state == "trained" else f"untrained_{model}"


def _map_places(pairs: Dataset) -> list[int]:
    """Of each locale that is drawn, the pair with the longest source, the first of them."""
    places = []
    for locale in _MAP_LOCALES:
        own = [place for place, name in enumerate(pairs["locale"]) if name == locale]
        places += [max(own, key=lambda place: len(pairs[place]["source"]))] if own else []
    return places


def _map_row(pair: dict[str, Any], weights: np.ndarray) -> Row:
    return {
        "locale": pair["locale"],
        "map_source": [*pair["source"], EOS],
        "map_target": [*pair["target"], EOS],
        "map_weights": weights.round(3).tolist(),
        "map_spans": {part: list(pair[f"{part}_span"]) for part in PARTS},
    }


def cells(budget: BudgetName) -> list[Cell]:
    """One for each model and seed."""
    return [
        Cell(
            f"alignment-{model}-{seed}",
            measure_alignment,
            {
                "model": model,
                "config": CONFIGS[model],
                "num_dates": 20_000,
                "eval_dates": 500,
                "token_budget": 3072,
                "max_steps": _STEPS[budget],
                "learning_rate": _LEARNING_RATES[model],
                "seed": seed,
            },
            _STEPS[budget] * _SECONDS_PER_STEP,
        )
        for model in _MODELS[budget]
        for seed in range(num_seeds(budget))
    ]


def judge(rows: list[Row]) -> Verdict:
    """It holds if Attention Seq2Seq's error is below half of chance's and of the untrained model's, for each part."""
    untrained = _series(_JUDGED, "untrained")
    numbers: dict[str, float | int | str] = {
        "gain": LEAST_GAIN,
        "exact_match": close(100 * mean_of(rows, "exact_match", model=_JUDGED)),
    }
    holds = True
    for part in PARTS:
        errors = {name: mean_of(rows, "error", series=name, part=part) for name in (_JUDGED, untrained, "chance")}
        holds &= errors[_JUDGED] * LEAST_GAIN < min(errors[untrained], errors["chance"])
        numbers |= {
            f"{part}_error": close(100 * errors[_JUDGED]),
            f"{part}_untrained": close(100 * errors[untrained]),
            f"{part}_chance": close(100 * errors["chance"]),
        }
    numbers["transformer"] = "not_measured"
    if select(rows, series=_OTHER):
        found = [100 * mean_of(rows, "error", series=_OTHER, part=part) for part in PARTS]
        numbers["transformer"] = ", ".join(f"{error:.1f} %" for error in found)
    return Verdict(holds, numbers)


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Errors of each part of a date; maps of the first seed, those of the untrained model beside the trained one's."""
    errors, axes = panels(len(PARTS), columns=len(PARTS))
    order = ["chance", *dict.fromkeys(row["series"] for row in rows if row.get("series", "chance") != "chance")]
    for panel, part in zip(axes, PARTS):
        own = sorted(select(rows, part=part), key=lambda row: order.index(row["series"]))
        draw_bars(panel, own, labels, y="error", by="series")
        panel.set_xlim(0, 1)
        panel.set_title(labels(part))
    wanted = [(_JUDGED, state, locale) for locale in _MAP_LOCALES for state in STATES]
    wanted += [(_OTHER, "trained", locale) for locale in _MAP_LOCALES]
    found = [
        own[0] for model, state, locale in wanted if (own := select(rows, model=model, state=state, locale=locale))
    ]
    maps, axes = panels(len(found))
    for panel, row in zip(axes, found):
        _draw_map(panel, row)
        panel.set_title(labels(f"map_{row['state']}", model=row["model"]))
    return {"errors": errors, "maps": maps}


def _draw_map(panel: Axes, row: Row) -> None:
    """The darker, the more attention; the right part of the source is outlined for each part of the target."""
    panel.imshow(row["map_weights"], cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    panel.set_xticks(range(len(row["map_source"])), [_visible(token) for token in row["map_source"]], fontsize=8)
    panel.set_yticks(range(len(row["map_target"])), [_visible(token) for token in row["map_target"]], fontsize=8)
    panel.tick_params(length=0)
    for part, (start, end) in row["map_spans"].items():
        places = TARGET_PLACES[part]
        corner = (start - 0.5, places.start - 0.5)
        panel.add_patch(Rectangle(corner, end - start, len(places), fill=False, edgecolor=_OUTLINE, linewidth=1.5))


def _visible(token: str) -> str:
    return {" ": "␣", EOS: "⏎"}.get(token, token)


CLAIM = Claim("alignment", cells, judge, draw)
