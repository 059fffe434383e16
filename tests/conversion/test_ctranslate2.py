"""CTranslate2 says what `generate()` says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

ctranslate2 = pytest.importorskip("ctranslate2")
from hf_seqmodels.conversion.ctranslate2 import convert_folder, to_ctranslate2  # noqa: E402 - needs it

SOURCES = ["abc", "bca d", "dd", "cabbage", "a bad cab", "facade"]
TARGETS = ["one", "two three", "four", "five six se", "seven", "eight nine"]
MAX_NEW_TOKENS = 14
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "pre-LN, learned positions": {"normalize_before": True, "position_embedding_type": "learned"},
    "two tables, gelu, unlike sides": {
        "share_encoder_decoder_embeddings": False,
        "activation_function": "gelu",
        "scale_embedding": False,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 20,
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_characters(SOURCES + TARGETS)


def build(
    tokenizer: PreTrainedTokenizerBase, seed: int = 0, **changes: Any
) -> VanillaTransformerForConditionalGeneration:
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "dropout": 0.0,
        "max_position_embeddings": 20,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    for side in ("encoder", "decoder"):
        fields |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 48}
    torch.manual_seed(seed)
    return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**{**fields, **changes})).eval()


def overfit(model: VanillaTransformerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
    sources: Any = tokenizer(SOURCES, padding=True, return_tensors="pt")
    labels = tokenizer(TARGETS, padding=True, return_tensors="pt")["input_ids"]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = model(**sources, labels=labels.masked_fill(labels == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.1


def generated(model: Any, tokenizer: Any, beams: int) -> list[list[str]]:
    """Tokens without start, end and padding."""
    sources = tokenizer(SOURCES, padding=True, return_tensors="pt")
    search = {"num_beams": beams, "max_new_tokens": MAX_NEW_TOKENS}
    if beams > 1:
        search["early_stopping"] = True
    rows = model.generate(**sources, **search)[:, 1:].tolist()
    return [tokenizer.convert_ids_to_tokens(row[: row.index(2)] if 2 in row else row) for row in rows]


def translated(folder: Path, tokenizer: Any, beams: int) -> list[list[str]]:
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)
    sources = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(SOURCES)["input_ids"]]
    lengths = {"min_decoding_length": 0, "max_decoding_length": MAX_NEW_TOKENS}
    results = translator.translate_batch(sources, beam_size=beams, **lengths)
    return [result.hypotheses[0] for result in results]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_trained_model_translates_alike(tmp_path: Path, tokenizer: Any, changes: dict[str, Any]) -> None:
    model = build(tokenizer, **changes)
    overfit(model, tokenizer)
    folder = to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    assert generated(model, tokenizer, beams=1) == [list(target) for target in TARGETS]
    for beams in (1, 5):
        assert translated(folder, tokenizer, beams) == generated(model, tokenizer, beams)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_random_models_search_alike(tmp_path: Path, tokenizer: Any, changes: dict[str, Any]) -> None:
    """Nothing hides behind large margins: no weight is at its initial value, and ends come anywhere."""
    lengths = set()
    for seed in range(3):
        model = build(tokenizer, seed, **changes)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            model.final_logits_bias.normal_()
            model.final_logits_bias[0, [0, 1, 3]] = -20  # padding, start, unknown
            model.final_logits_bias[0, 2] = 2
        folder = to_ctranslate2(model, tokenizer, tmp_path / str(seed))
        for beams in (1, 2, 5):
            expected = generated(model, tokenizer, beams)
            assert translated(folder, tokenizer, beams) == expected
            lengths |= {len(row) for row in expected}
    assert len(lengths) > 1
    torch.nn.init.zeros_(model.final_logits_bias)
    assert generated(model, tokenizer, beams=5) != expected  # the bias is needed


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_scores_of_given_targets_are_equal(tmp_path: Path, tokenizer: Any, changes: dict[str, Any]) -> None:
    model = build(tokenizer, **changes)
    translator = ctranslate2.Translator(str(to_ctranslate2(model, tokenizer, tmp_path / "ct2")), intra_threads=1)
    ids = {"source": tokenizer(SOURCES)["input_ids"], "target": tokenizer(TARGETS)["input_ids"]}
    sides = {name: [tokenizer.convert_ids_to_tokens(row) for row in rows] for name, rows in ids.items()}
    # The library adds the end of the target itself.
    found = translator.score_batch(sides["source"], [row[:-1] for row in sides["target"]])
    for source, target, scores in zip(ids["source"], ids["target"], found):
        inputs = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[1, *target[:-1]]])}
        with torch.no_grad():
            logits: Any = model(**inputs).logits
        expected = logits.log_softmax(-1)[0].gather(1, torch.tensor(target)[:, None])[:, 0].numpy()
        # float32 through two layers in another order; a wrong norm or position would be off by tenths.
        np.testing.assert_allclose(scores.log_probs, expected, rtol=0, atol=2e-5)


def test_a_folder_is_converted_and_its_weights_are_quantized(tmp_path: Path, tokenizer: Any) -> None:
    model = build(tokenizer, vocab_size=len(tokenizer) + 5, init_std=0.3)  # rows of the table that are no tokens
    model.final_logits_bias[0, -5:] = -20
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    full = convert_folder(tmp_path / "model", tmp_path / "full")
    small = convert_folder(tmp_path / "model", tmp_path / "small", quantization="int8")
    assert translated(full, tokenizer, 1) == generated(model, tokenizer, 1)
    sizes = [(folder / "model.bin").stat().st_size for folder in (small, full)]
    assert sizes[0] < 0.5 * sizes[1]


def test_refusals(tmp_path: Path, tokenizer: Any) -> None:
    model = build(tokenizer)
    new = tmp_path / "new"
    with pytest.raises(ValueError, match=r"output_dir=.* exists already"):
        to_ctranslate2(model, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="quantization='int4' is not known; choose one of int8"):
        to_ctranslate2(model, tokenizer, new, quantization="int4")
    with pytest.raises(ValueError, match="model=VanillaTransformerModel: can convert VanillaTransformerFor"):
        to_ctranslate2(model.model, tokenizer, new)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tokenizer has \d+ tokens, but the model vocab_size=5"):
        to_ctranslate2(build(tokenizer, vocab_size=5), tokenizer, new)
    with pytest.raises(ValueError, match="activation_function='tanh': CTranslate2 has gelu"):
        to_ctranslate2(build(tokenizer, activation_function="tanh"), tokenizer, new)
    with pytest.raises(ValueError, match="decoder_start_token_id=None"):
        to_ctranslate2(build(tokenizer, decoder_start_token_id=None), tokenizer, new)
    with pytest.raises(ValueError, match=r"has no config\.json"):
        convert_folder(tmp_path, new)
    assert not new.exists()
