"""VanillaTransformer against Vaswani et al. 2017 and against transformers' MarianMT."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from hf_seqmodels.models.configuration_transformer import PRESETS, VanillaTransformerConfig
from hf_seqmodels.models.modeling_transformer import sinusoids
from hf_seqmodels.models.modeling_transformer_generation import VanillaTransformerForConditionalGeneration

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 32,
    "dropout": 0.0,
    "decoder_start_token_id": 1,
}
SOURCE = torch.tensor([[4, 5, 6, 7, 8], [9, 10, 11, 0, 0], [12, 13, 0, 0, 0]])
MASK = (SOURCE != 0).long()
LABELS = torch.tensor([[5, 6, 7, 2], [13, 14, 2, -100], [15, 16, 17, 2]])


def vanilla(**fields: Any) -> VanillaTransformerForConditionalGeneration:
    torch.manual_seed(0)
    return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**{**SIZES, **fields})).double().eval()


def test_sinusoids_are_the_formula() -> None:
    """Section 3.5, sines before cosines."""
    table = sinusoids(9, 6).double()
    for position in range(9):
        for index in range(3):
            angle = torch.tensor(position / 10000 ** (2 * index / 6), dtype=torch.float64)
            assert abs(table[position, index] - angle.sin()) < 1e-7  # the table is float32
            assert abs(table[position, 3 + index] - angle.cos()) < 1e-7


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-LN", "pre-LN"])
def test_layers_are_those_of_torch(pre_norm: bool) -> None:
    """torch.nn.Transformer with the same weights, behind the same embeddings."""
    model = vanilla(normalize_before=pre_norm).model
    peer = nn.Transformer(16, 4, 2, 2, 24, 0.0, batch_first=True, norm_first=pre_norm).double().eval()
    for side in ("encoder", "decoder"):
        ours, theirs = getattr(model, side), getattr(peer, side)
        if pre_norm:
            theirs.norm.load_state_dict(ours.layer_norm.state_dict())
        else:
            theirs.norm = None
        for layer, other in zip(ours.layers, theirs.layers, strict=True):
            pairs = [(layer.self_attn, other.self_attn)]
            norms = [layer.self_attn_layer_norm, layer.final_layer_norm]
            if side == "decoder":
                pairs.append((layer.encoder_attn, other.multihead_attn))
                norms.insert(1, layer.encoder_attn_layer_norm)
            with torch.no_grad():
                for attention, given in pairs:
                    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
                    given.in_proj_weight.copy_(torch.cat([part.weight for part in projections]))
                    given.in_proj_bias.copy_(torch.cat([part.bias for part in projections]))
                    given.out_proj.load_state_dict(attention.out_proj.state_dict())
            other.linear1.load_state_dict(layer.fc1.state_dict())
            other.linear2.load_state_dict(layer.fc2.state_dict())
            for number, norm in enumerate(norms, 1):
                getattr(other, f"norm{number}").load_state_dict(norm.state_dict())
    target = torch.tensor([[1, 5, 6, 7], [1, 13, 14, 2], [1, 15, 16, 17]])
    table = model.shared.weight * 4
    positions = sinusoids(5, 16).double()
    hidden = MASK == 0
    expected = peer(
        table[SOURCE] + positions,
        table[target] + positions[:4],
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64),
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    got = model(SOURCE, MASK, target).last_hidden_state
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def marian(**fields: Any) -> MarianMTModel:
    """Random, with a fixed bias of the output layer that matters."""
    torch.manual_seed(0)
    special = {"pad_token_id": 29, "decoder_start_token_id": 29, "eos_token_id": 2, "forced_eos_token_id": 2}
    model = MarianMTModel(MarianConfig(**{**SIZES, **special, **fields})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.final_logits_bias.normal_()
    return model


OPUS = {"activation_function": "swish", "scale_embedding": True}


@pytest.mark.parametrize("fields", [OPUS, {}], ids=["opus", "plain"])
def test_a_marian_folder_is_ours(fields: dict, tmp_path) -> None:
    """Logits, and the beams of generate(), of a folder that transformers wrote."""
    peer = marian(**fields)
    peer.save_pretrained(tmp_path)
    ids = torch.randint(3, 28, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:], mask[2, 2:] = 0, 0
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        peer = peer.to(dtype)
        ours, report = VanillaTransformerForConditionalGeneration.from_pretrained(
            tmp_path, dtype=dtype, output_loading_info=True
        )
        assert not report["missing_keys"] and not report["mismatched_keys"]
        with torch.no_grad():
            got = ours(ids, mask, decoder_input_ids=ids[:, :5]).logits
            expected = peer(ids, mask, decoder_input_ids=ids[:, :5]).logits
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    for beams in (1, 5):
        options = {"num_beams": beams, "max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True}
        got, expected = (model.generate(input_ids=ids, attention_mask=mask, **options) for model in (ours, peer))
        assert torch.equal(got.sequences, expected.sequences)
        if beams > 1:
            torch.testing.assert_close(got.sequences_scores, expected.sequences_scores, rtol=0, atol=1e-6)


def test_label_smoothing_is_that_of_torch() -> None:
    model = vanilla(label_smoothing=0.2)
    loss = model.train()(SOURCE, MASK, labels=LABELS).loss
    logits = model.eval()(SOURCE, MASK, labels=LABELS).logits
    smooth = nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.flatten(), label_smoothing=0.2)
    torch.testing.assert_close(loss, smooth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    config = VanillaTransformerConfig.preset(name, vocab_size=99, dropout=0.2)
    layers, width, heads, ffn, _ = PRESETS[name]
    assert (config.vocab_size, config.dropout, config.d_model, config.hidden_size) == (99, 0.2, width, width)
    assert config.encoder_layers == config.decoder_layers == config.num_hidden_layers == layers
    assert config.encoder_attention_heads == config.decoder_attention_heads == heads
    assert config.encoder_ffn_dim == config.decoder_ffn_dim == ffn


def test_an_unknown_preset() -> None:
    with pytest.raises(ValueError, match="preset='huge' is not known; choose one of base, big, small"):
        VanillaTransformerConfig.preset("huge")


def test_new_tokens_have_no_fixed_bias() -> None:
    model = vanilla()
    model.final_logits_bias.normal_()
    before = model.final_logits_bias.clone()
    model.resize_token_embeddings(33)
    assert model.config.vocab_size == 33 and model.final_logits_bias.shape == (1, 33)
    assert torch.equal(model.final_logits_bias[:, :30], before) and model.final_logits_bias[:, 30:].eq(0).all()
    assert model(SOURCE, MASK, labels=LABELS).logits.shape[-1] == 33
