"""Weights go both ways between VanillaTransformer and transformers' MarianMT, in memory and through folders."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import MarianConfig, MarianMTModel

from hf_seqmodels.conversion.marian import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    to_transformers,
)
from hf_seqmodels.models.configuration_transformer import VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 12,
    "activation_function": "swish",
    "scale_embedding": True,
    "pad_token_id": 22,
    "decoder_start_token_id": 22,
    "eos_token_id": 0,
}
# In float64 the same sums in another order stay within some 1e-14 of values around 10; float32 anywhere would show.
EXACT = {"rtol": 0, "atol": 1e-12}


def marian(**changes: Any) -> MarianMTModel:
    """A float64 model all of whose weights, the output layer's fixed bias too, are far from their initial values."""
    model = MarianMTModel(MarianConfig(**{**SIZES, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.final_logits_bias.normal_()
    return model.double().eval()


def batch() -> dict[str, torch.Tensor]:
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, 5:] = 0
    mask[1, 8:] = 0
    ids = torch.randint(1, 22, (3, 9)).masked_fill(mask == 0, 22)
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": torch.randint(1, 22, (3, 7))}


def assert_same_outputs(ours: Any, theirs: Any) -> None:
    inputs = batch()
    wanted = {"output_hidden_states": True, "use_cache": False}
    with torch.no_grad():
        outputs, expected = ours(**inputs, **wanted), theirs(**inputs, **wanted)
    assert outputs.logits.dtype == torch.float64
    torch.testing.assert_close(outputs.logits, expected.logits, **EXACT)
    torch.testing.assert_close(outputs.decoder_hidden_states[-1], expected.decoder_hidden_states[-1], **EXACT)
    real = inputs["attention_mask"].bool()
    states = outputs.encoder_last_hidden_state, expected.encoder_last_hidden_state
    torch.testing.assert_close(*(state[real] for state in states), **EXACT)


# Configuration, and the tables there are: source, target and output have one, two or three.
TABLES: dict[str, tuple[dict[str, Any], int]] = {
    "one table": ({}, 1),
    "two tables": ({"share_encoder_decoder_embeddings": False}, 2),
    "untied": ({"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}, 3),
}


@pytest.mark.parametrize(("changes", "tables"), TABLES.values(), ids=TABLES)
def test_both_directions_give_equal_outputs(changes: dict[str, Any], tables: int) -> None:
    theirs = marian(**changes)
    ours = from_transformers(theirs)
    assert type(ours) is VanillaTransformerForConditionalGeneration
    assert_same_outputs(ours, theirs)
    weights = (ours.lm_head.weight, ours.model.encoder.embed_tokens.weight, ours.model.decoder.embed_tokens.weight)
    assert len(set(weights)) == tables
    back = to_transformers(ours)
    assert type(back) is MarianMTModel
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name


def test_losses_and_gradients_are_equal() -> None:
    theirs = marian(dropout=0.0).train()
    ours = from_transformers(theirs)
    labels = torch.randint(1, 22, (3, 6))
    labels[0, 4:] = -100
    inputs = {name: values for name, values in batch().items() if name != "decoder_input_ids"}
    losses = [model(**inputs, labels=labels).loss for model in (ours, theirs)]
    torch.testing.assert_close(*losses, **EXACT)
    for loss in losses:
        loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradients = [parameter.grad, expected[name].grad]
        if name == "model.shared.weight":  # Marian's embedding of padding, the start token here, learns nothing
            gradients = [gradient[:22] for gradient in gradients]
        torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("beams", [1, 3])
def test_both_generate_the_same(beams: int) -> None:
    theirs = marian()
    theirs.generation_config.bad_words_ids = [[22]]  # as public checkpoints forbid their padding
    ours = from_transformers(theirs)
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert ours.generation_config is not theirs.generation_config
    inputs = batch()
    del inputs["decoder_input_ids"]
    search = {"num_beams": beams, "max_new_tokens": 9, "no_repeat_ngram_size": 1}  # random models repeat themselves
    own, expected = (model.generate(**inputs, **search) for model in (ours, theirs))
    assert torch.equal(own, expected)
    assert len({tuple(row) for row in own.tolist()}) > 1


def test_folders_go_both_ways(tmp_path: Path) -> None:
    theirs = marian()
    theirs.save_pretrained(tmp_path / "marian")
    ours = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path / "marian", dtype=torch.float64)
    assert_same_outputs(ours, theirs)
    to_transformers(ours).save_pretrained(tmp_path / "back")
    back, report = MarianMTModel.from_pretrained(tmp_path / "back", dtype=torch.float64, output_loading_info=True)
    assert not any(report.values()), report
    assert_same_outputs(ours, back)


def test_a_copy_shares_no_memory_and_keeps_mode_and_dtype() -> None:
    theirs = marian().to(torch.bfloat16).train()
    state, config = torch.random.get_rng_state(), copy.deepcopy(theirs.config.to_dict())
    ours = from_transformers(theirs, label_smoothing=0.1)
    assert torch.equal(torch.random.get_rng_state(), state) and theirs.config.to_dict() == config
    assert ours.dtype == torch.bfloat16 and ours.training and ours.config.label_smoothing == 0.1
    assert not {p.data_ptr() for p in ours.parameters()} & {p.data_ptr() for p in theirs.parameters()}


def test_the_tables_of_positions_are_equal() -> None:
    """Of public checkpoints' size: both are computed, by other formulas."""
    sizes = {"vocab_size": 5, "pad_token_id": 4, "decoder_start_token_id": 4, "eos_token_id": 0, "d_model": 512}
    theirs = MarianMTModel(MarianConfig(**{**SIZES, **sizes, "max_position_embeddings": 512}))
    ours = from_transformers(theirs)
    for side in ("encoder", "decoder"):
        tables = [model.model.get_submodule(side).embed_positions.weight for model in (ours, theirs)]
        # A rounding of float32 apart at most.
        torch.testing.assert_close(*(table.detach() for table in tables), rtol=0, atol=1.2e-7)


def test_positions_behind_the_table_are_refused_and_reached_before_it() -> None:
    theirs = marian()
    ours = from_transformers(theirs)
    longest = {"input_ids": torch.randint(1, 22, (1, 12)), "decoder_input_ids": torch.randint(1, 22, (1, 12))}
    with torch.no_grad():
        torch.testing.assert_close(ours(**longest).logits, theirs(**longest).logits, **EXACT)
    longer = {**longest, "input_ids": torch.randint(1, 22, (1, 13))}
    with pytest.raises(ValueError, match="13 tokens is longer than max_position_embeddings=12"):
        ours(**longer)
    with pytest.raises(IndexError):  # the library's fails deep in the embedding
        theirs(**longer)


def test_config_fields_survive_both_ways() -> None:
    config = MarianConfig(**SIZES, dropout=0.3, activation_dropout=0.2, forced_eos_token_id=None)
    ours = config_from_transformers(config, unpad_inputs=False)
    assert (ours.model_type, ours.unpad_inputs, ours.dropout) == ("vanilla_transformer", False, 0.3)
    back = config_to_transformers(ours).to_dict()
    assert "unpad_inputs" not in back
    assert back == config.to_dict()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"decoder_vocab_size=30 is not vocab_size=23: .* one vocabulary"):
        from_transformers(MarianMTModel(MarianConfig(**SIZES, decoder_vocab_size=30, **TABLES["untied"][0])))
    with pytest.raises(ValueError, match=r"decoder_layerdrop=0\.1: .*set it to 0"):
        config_from_transformers(MarianConfig(**SIZES, decoder_layerdrop=0.1))
    with pytest.raises(StrictDataclassError, match="share_encoder_decoder_embeddings=True needs tie_word_embeddings"):
        config_from_transformers(MarianConfig(**SIZES, tie_word_embeddings=False))
    with pytest.raises(ValueError, match="model=MarianModel: can convert MarianMTModel only"):
        from_transformers(marian().model)
    with pytest.raises(ValueError, match="model=MarianMTModel: can convert VanillaTransformerForConditional"):
        to_transformers(marian())
    for changes, message in (
        ({"normalize_before": True}, "normalize_before=True: MarianMT is post-LN"),
        ({"position_embedding_type": "learned"}, "position_embedding_type='learned': MarianMT has 'sinusoidal'"),
        ({"decoder_start_token_id": None}, r"decoder_start_token_id=None: .* in \[0, vocab_size=23\)"),
    ):
        model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**{**SIZES, **changes}))
        with pytest.raises(ValueError, match=message):
            to_transformers(model)


def test_the_library_loads_what_was_converted_by_its_auto_class(tmp_path: Path) -> None:
    ours = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**SIZES)).double().eval()
    to_transformers(ours).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert type(loaded) is MarianMTModel
    assert_same_outputs(ours, loaded)
