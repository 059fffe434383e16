"""Attention maps follow the sequence that the search chose, whatever the model, and are drawn and written."""

import copy
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_seqmodels.analysis import AttentionMap, NotInModelError, attention_map, share_within
from hf_seqmodels.analysis.plots_alignment import alignment_figure
from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig, Seq2SeqConfig
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_seq2seq import (
    AttentionSeq2SeqForConditionalGeneration,
    Seq2SeqForConditionalGeneration,
)
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

TEXTS = ["abc", "bead face", "cab"]
TOKENIZER: Any = train_characters(["abcdefg h"])
LENGTH = 9
# Random models repeat themselves; kept from it, their beams cross.
SEARCH = {"max_new_tokens": LENGTH, "no_repeat_ngram_size": 1}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
# The cached steps of a search and one pass over its result add in another order: float32 roundings of probabilities.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def transformer() -> Any:
    config = VanillaTransformerConfig(
        vocab_size=len(TOKENIZER), d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=20, **IDS
    )  # fmt: skip
    return VanillaTransformerForConditionalGeneration(config)


def attention_seq2seq(**changes: Any) -> Any:
    config = AttentionSeq2SeqConfig(vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1, **IDS, **changes)
    return AttentionSeq2SeqForConditionalGeneration(config)


BUILDERS: dict[str, Any] = {
    "transformer": transformer,
    "attention": attention_seq2seq,
    "input feeding": lambda: attention_seq2seq(input_feeding=True, score="additive"),
}
EVERY_MODEL = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def randomised(build: Any) -> Any:
    """A model whose beams cross and whose attention is not even."""
    torch.manual_seed(3)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def traced(model: Any, text: str, beams: int, **search: Any) -> tuple[list[int], np.ndarray, bool]:
    """Tokens, weights `(target, source)` (mean of the last layer's heads), gathered by step; whether beams crossed."""
    inputs = TOKENIZER(text, return_tensors="pt")
    found = model.generate(
        **inputs, num_beams=beams, output_attentions=True, return_dict_in_generate=True, **search
    )  # fmt: skip
    tokens = found.sequences[0, 1:]
    steps = len(found.cross_attentions)
    indices = found.beam_indices[0, :steps].tolist() if beams > 1 else [0] * steps
    rows = []
    for step, beam in enumerate(indices[: len(tokens)]):
        # A token's beam says on which row it was chosen, and that row's attention chose it. The first step has a row
        # for each beam already.
        rows.append(found.cross_attentions[step][-1][beam].mean(0)[-1])
    return tokens.tolist(), torch.stack(rows).double().numpy(), len(set(indices[: len(tokens)])) > 1


@EVERY_MODEL
@pytest.mark.parametrize("beams", [1, 4])
def test_maps_are_the_attention_of_the_chosen_sequence(build: Any, beams: int) -> None:
    model = randomised(build)
    crossed = False
    for text in TEXTS:
        tokens, expected, moved = traced(model, text, beams, **SEARCH)
        found = attention_map(model, TOKENIZER, text, num_beams=beams, **SEARCH)
        assert found.target == tuple(TOKENIZER.convert_ids_to_tokens(tokens))
        assert found.source == (*text, "</s>")
        np.testing.assert_allclose(found.weights, expected, **TOLERANCE)
        np.testing.assert_allclose(found.weights.sum(1), 1, **TOLERANCE)
        assert found.text == TOKENIZER.decode(tokens, skip_special_tokens=True)
        crossed = crossed or moved
    assert crossed == (beams > 1)  # else nothing was followed


def test_one_beam_all_along_is_another_map() -> None:
    """The negative control: without following the beams the weights differ."""
    model = randomised(transformer)
    inputs = TOKENIZER(TEXTS[1], return_tensors="pt")
    search = {**SEARCH, "num_beams": 4}
    found = model.generate(**inputs, **search, output_attentions=True, return_dict_in_generate=True)
    first = torch.stack([step[-1][0].mean(0)[-1] for step in found.cross_attentions]).numpy()
    followed = attention_map(model, TOKENIZER, TEXTS[1], **search).weights
    assert np.abs(first[: len(followed)] - followed).max() > 0.01


@EVERY_MODEL
def test_padding_has_no_weight_and_changes_nothing(build: Any) -> None:
    model = randomised(build)
    batch = TOKENIZER(TEXTS, padding=True, return_tensors="pt")
    for row, text in enumerate(TEXTS):
        found = attention_map(model, TOKENIZER, text, max_new_tokens=LENGTH)
        sequence = [1, *TOKENIZER.convert_tokens_to_ids(list(found.target))][:-1]
        with torch.no_grad():
            outputs = model(
                **batch,
                decoder_input_ids=torch.tensor([sequence] * len(TEXTS)),
                output_attentions=True,
                use_cache=False,
            )
        weights = outputs.cross_attentions[-1][row].mean(0).double().numpy()
        length = len(text) + 1
        np.testing.assert_allclose(weights[:, :length], found.weights, **TOLERANCE)
        assert not weights[:, length:].any()


def test_layers_and_heads() -> None:
    model = randomised(transformer)
    options = {"max_new_tokens": LENGTH}
    maps = [[attention_map(model, TOKENIZER, "abc", layer=layer, head=head, **options).weights for head in range(4)]
            for layer in range(2)]  # fmt: skip
    for layer in range(2):
        mean = attention_map(model, TOKENIZER, "abc", layer=layer, **options).weights
        np.testing.assert_allclose(mean, np.mean(maps[layer], axis=0), **TOLERANCE)
    np.testing.assert_array_equal(
        attention_map(model, TOKENIZER, "abc", layer=-1, head=2, **options).weights, maps[1][2]
    )
    assert np.abs(maps[0][0] - maps[1][0]).max() > 0.01 and np.abs(maps[1][0] - maps[1][1]).max() > 0.01
    for wrong, message in (
        ({"layer": 2}, "layer=2: the decoder has 2 layers"),
        ({"layer": -3}, "layer=-3: the decoder has 2 layers"),
        ({"head": 4}, "head=4: the layer has 4 heads"),
        ({"head": -1}, "head=-1: the layer has 4 heads"),
    ):
        with pytest.raises(NotInModelError, match=message):
            attention_map(model, TOKENIZER, "abc", **wrong, **options)


def test_mode_and_kernels_are_left_as_they_were() -> None:
    model = randomised(transformer).train()
    config = copy.deepcopy(model.config.to_dict())
    first, second = (attention_map(model, TOKENIZER, "abc", max_new_tokens=LENGTH).weights for _ in range(2))
    np.testing.assert_array_equal(first, second)  # no dropout
    assert model.training and model.config.to_dict() == config


def test_models_without_attention_are_refused() -> None:
    config = Seq2SeqConfig(vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1, **IDS)
    with pytest.raises(NotInModelError, match="Seq2SeqForConditionalGeneration"):
        attention_map(Seq2SeqForConditionalGeneration(config), TOKENIZER, "abc", max_new_tokens=3)


def test_spans_and_the_share_on_the_right_place() -> None:
    found = attention_map(randomised(transformer), TOKENIZER, "cab", max_new_tokens=LENGTH)
    assert found.source_spans[:3] == ((0, 1), (1, 2), (2, 3))
    weights = np.eye(3, 4)
    spans = ((0, 2), (2, 3), (3, 5), (0, 0))
    assert share_within(weights, spans, [(0, 1), (0, 1), None]) == 0.5
    assert share_within(weights, spans, [(1, 2), (2, 5), (4, 9)]) == 1
    assert np.isnan(share_within(weights, spans, [None, None, None]))


def test_figure() -> None:
    found = AttentionMap(("▁a", "$", "Ġb"), ("x", "</s>"), np.array([[0.2, 0.3, 0.5], [1, 0, 0]]), "x", ((0, 1),) * 3)
    panel = alignment_figure(found).axes[0]
    np.testing.assert_array_equal(panel.images[0].get_array(), found.weights)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["␣a", r"\$", "␣b"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["x", "</s>"]


def test_the_program_writes_pictures_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = randomised(transformer)
    model.generation_config.max_new_tokens = LENGTH
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--output_dir", str(tmp_path / "maps"), "--text", *TEXTS[:2]]
    monkeypatch.setattr(sys, "argv", ["plot_attention.py", *options, "--num_beams", "2", "--head", "1"])
    runpy.run_path("scripts/plot_attention.py", run_name="__main__")
    for number, text in enumerate(TEXTS[:2], start=1):
        found = attention_map(model, TOKENIZER, text, num_beams=2, head=1, max_new_tokens=LENGTH)
        values = json.loads((tmp_path / "maps" / f"attention-{number}.json").read_text(encoding="utf-8"))
        assert values["source"] == list(found.source) and values["target"] == list(found.target)
        np.testing.assert_allclose(values["weights"], found.weights, rtol=0, atol=1e-6)  # written to six digits
        with Image.open(tmp_path / "maps" / f"attention-{number}.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 150
        assert f"{text} -> {values['text']}" in capsys.readouterr().out or number == 2
    for changed, message in (
        (["--head", "7"], "head=7: the layer has 4 heads"),
        (["--model", "nowhere"], r"model='nowhere' is not a folder"),
        (["--text", " "], r"text=\[' '\] must be sentences"),
    ):
        monkeypatch.setattr(sys, "argv", ["plot_attention.py", *options, *changed])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path("scripts/plot_attention.py", run_name="__main__")
        message_given = str(stopped.value.code) + capsys.readouterr().err
        assert message.replace("\\", "") in message_given
