"""Weights go both ways between SeqViT and transformers' ViT and ViTMAE, in memory and through folders."""

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    BertConfig,
    BertModel,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from hf_seqmodels import (
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForMaskedPatchPrediction,
    SeqViTForPreTraining,
    SeqViTModel,
)
from hf_seqmodels.conversion.vit import from_transformers, to_transformers
from hf_seqmodels.models.patches import unpatchify

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
SHAPES = {
    "square": {},
    "rectangles": {"image_size": [8, 12], "patch_size": [4, 2], "num_channels": 2},
    "no qkv bias": {"qkv_bias": False, "hidden_act": "relu", "layer_norm_eps": 1e-3},
}
# The same weights go through the same sums in another order: rounding (6e-8 and 1e-16 of values around 1) through two
# layers stays some orders below these, and anything of substance (an epsilon, an activation) lies far above.
TOLERANCES = {torch.float32: {"rtol": 0, "atol": 1e-5}, torch.float64: {"rtol": 0, "atol": 1e-10}}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float64"])


def randomise(model, dtype=torch.float32):
    """Weights and biases that are all far from their initial values, so that none can hide; frozen tables stay."""
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def images_for(config, dtype=torch.float32, batch=3):
    sides = [config.image_size] * 2 if isinstance(config.image_size, int) else config.image_size
    return torch.randn(batch, config.num_channels, *sides, dtype=dtype)


def assert_same_outputs(ours, theirs, names, **inputs):
    with torch.no_grad():
        outputs, expected = ours(**inputs), theirs(**inputs)
    for name in names:
        torch.testing.assert_close(outputs[name], expected[name], **TOLERANCES[ours.dtype])


def assert_same_weights(model, other, apart_from=()):
    weights = other.state_dict()
    assert model.state_dict().keys() == weights.keys()
    for name, weight in model.state_dict().items():
        if not name.endswith(apart_from):
            assert torch.equal(weight, weights[name]), name


@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_classifiers_both_ways(shape, dtype):
    theirs = randomise(ViTForImageClassification(ViTConfig(**{**SIZES, **SHAPES[shape]}, num_labels=5)), dtype)
    inputs = {"pixel_values": images_for(theirs.config, dtype), "labels": torch.tensor([0, 4, 2])}
    ours = from_transformers(theirs)
    assert type(ours) is SeqViTForImageClassification and ours.dtype == dtype
    assert_same_outputs(ours, theirs, ["logits", "loss"], **inputs)
    back = to_transformers(ours)
    assert type(back) is ViTForImageClassification
    assert_same_outputs(ours, back, ["logits", "loss"], **inputs)
    # The class position has gone into the class token; every other weight is back where it was.
    assert_same_weights(back, theirs, ("cls_token", "position_embeddings"))
    assert not back.vit.embeddings.position_embeddings[:, 0].any()
    assert torch.equal(
        back.vit.embeddings.position_embeddings[:, 1:], theirs.vit.embeddings.position_embeddings[:, 1:]
    )


def test_the_tolerance_sees_a_small_difference():
    theirs = randomise(ViTForImageClassification(ViTConfig(**SIZES)))
    ours = from_transformers(theirs)
    with torch.no_grad():
        ours.vit.layers[0].attention.qkv.bias[0] += 0.01
    with pytest.raises(AssertionError):
        assert_same_outputs(ours, theirs, ["logits"], pixel_values=images_for(theirs.config))


@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_base_models_both_ways(shape, dtype):
    config = ViTConfig(**{**SIZES, **SHAPES[shape]})
    theirs = randomise(ViTModel(config, add_pooling_layer=False, use_mask_token=True), dtype)
    pixels = images_for(config, dtype)
    masked = torch.rand(3, theirs.embeddings.patch_embeddings.num_patches) < 0.5
    ours = from_transformers(theirs)
    assert type(ours) is SeqViTModel and ours.pooler is None
    for model in (theirs, to_transformers(ours)):
        assert_same_outputs(ours, model, ["last_hidden_state"], pixel_values=pixels, bool_masked_pos=masked)


def test_a_pooler_of_theirs_is_refused_and_one_of_ours_is_the_class_token():
    with pytest.raises(ValueError, match=r"model\.pooler: .*add_pooling_layer=False"):
        from_transformers(ViTModel(ViTConfig(**SIZES)))
    ours = randomise(SeqViTModel(SeqViTConfig(**SIZES)))
    theirs, pixels = to_transformers(ours), images_for(ours.config)
    assert theirs.pooler is None
    torch.testing.assert_close(
        ours(pixels).pooler_output, theirs(pixels).last_hidden_state[:, 0], **TOLERANCES[torch.float32]
    )
    with pytest.raises(ValueError, match="pooling='mean'"):
        to_transformers(SeqViTModel(SeqViTConfig(**SIZES, pooling="mean")))
    # Without a pooler, what it would pool does not matter.
    to_transformers(SeqViTModel(SeqViTConfig(**SIZES, pooling="mean"), add_pooling_layer=False))


@DTYPES
def test_masked_image_modeling_both_ways(dtype):
    theirs = randomise(ViTForMaskedImageModeling(ViTConfig(**SIZES, num_channels=2, encoder_stride=4)), dtype)
    inputs = {"pixel_values": images_for(theirs.config, dtype), "bool_masked_pos": torch.rand(3, 16) < 0.5}
    ours = from_transformers(theirs)
    assert type(ours) is SeqViTForMaskedImageModeling
    back = to_transformers(ours)
    assert back.config.encoder_stride == 4
    assert_same_weights(back, theirs, ("cls_token", "position_embeddings"))
    for model in (theirs, back):
        assert_same_outputs(ours, model, ["reconstruction"], **inputs)
        # Theirs divides by the count of masked pixels plus 1e-5.
        pixels = inputs["bool_masked_pos"].sum() * 16
        expected = model(**inputs).loss * (pixels + 1e-5) / pixels
        torch.testing.assert_close(ours(**inputs).loss, expected, **TOLERANCES[dtype])


def test_masked_image_modeling_with_another_stride_is_refused():
    with pytest.raises(ValueError, match="encoder_stride=16 must equal patch_size=4"):
        from_transformers(ViTForMaskedImageModeling(ViTConfig(**SIZES)))


def fill_tables(model, encoder=True, decoder=True):
    """MAE's sin-cos tables by transformers' own function, which released checkpoints bring along."""
    tables = [model.vit.embeddings.position_embeddings] * encoder + [model.decoder.decoder_pos_embed] * decoder
    for table in tables:
        y_and_x = build_2d_sinusoidal_position_embedding(4, 4, table.shape[-1], cls_token=True)
        y, x = y_and_x.chunk(2, dim=-1)
        with torch.no_grad():
            table.copy_(torch.cat([x, y], dim=-1))
    return model


def masked_autoencoder(dtype=torch.float32, tables=True, **overrides):
    model = ViTMAEForPreTraining(ViTMAEConfig(**SIZES, **DECODER, num_channels=2, **overrides))
    return randomise(fill_tables(model) if tables else model, dtype)


def assert_same_autoencoders(ours, theirs, dtype):
    pixels, noise = images_for(theirs.config, dtype), torch.rand(3, 16)
    with torch.no_grad():
        expected = theirs(pixels, noise=noise)
        outputs = ours(pixels, bool_masked_pos=expected.mask.bool())
    # The libraries order the pixels of a patch differently, so pictures are compared.
    predicted = unpatchify(outputs.logits, ours.config.patch_size, ours.config.grid)
    torch.testing.assert_close(predicted, theirs.unpatchify(expected.logits), **TOLERANCES[dtype])
    torch.testing.assert_close(outputs.loss, expected.loss, **TOLERANCES[dtype])


@DTYPES
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_masked_autoencoders_both_ways(norm_pix_loss, dtype):
    theirs = masked_autoencoder(dtype, norm_pix_loss=norm_pix_loss, mask_ratio=0.5)
    ours = from_transformers(theirs)
    assert type(ours) is SeqViTForPreTraining
    assert (ours.config.position_embedding_type, ours.config.mask_ratio) == ("sincos", 0.5)
    assert_same_autoencoders(ours, theirs, dtype)
    back = to_transformers(ours)
    assert_same_autoencoders(ours, back, dtype)
    # The tables are computed anew: float32's rounding of sines.
    assert_same_weights(back, theirs, ("position_embeddings", "decoder_pos_embed"))
    tables = back.vit.embeddings.position_embeddings, back.decoder.decoder_pos_embed
    for table, expected in zip(tables, (theirs.vit.embeddings.position_embeddings, theirs.decoder.decoder_pos_embed)):
        torch.testing.assert_close(table, expected, rtol=0, atol=1e-6)
        assert not table.requires_grad


@pytest.mark.parametrize("empty", [False, True])
def test_another_encoder_table_becomes_a_learned_one(empty):
    theirs = masked_autoencoder()
    with torch.no_grad():
        table = theirs.vit.embeddings.position_embeddings
        table.copy_(torch.zeros_like(table) if empty else torch.randn_like(table))
    ours = from_transformers(theirs)
    assert ours.config.position_embedding_type == "learned"
    assert_same_autoencoders(ours, theirs, torch.float32)
    assert_same_autoencoders(ours, to_transformers(ours), torch.float32)


def test_decoder_positions_that_ours_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"decoder_pos_embed is all zero: .*built from a configuration"):
        from_transformers(masked_autoencoder(tables=False))
    for place in ((0, 0), (0, 1)):
        theirs = masked_autoencoder()
        with torch.no_grad():
            theirs.decoder.decoder_pos_embed[place] += 0.01
        with pytest.raises(ValueError, match="decoder_pos_embed is not the sin-cos table"):
            from_transformers(theirs)


def spread_of_masked_predictions(logits, mask):
    """The largest difference between the patches predicted for two masked places of one image."""
    return max((own[hidden] - own[hidden][0]).abs().max().item() for own, hidden in zip(logits, mask.bool()))


def test_an_autoencoder_of_theirs_from_a_config_predicts_one_patch_everywhere_and_ours_does_not():
    pixels = torch.randn(2, 2, 16, 16)
    theirs = masked_autoencoder(tables=False)
    with torch.no_grad():
        outputs = theirs(pixels)
        assert outputs.mask.sum(1).tolist() == [12, 12]
        # Rounding alone tells these places from each other.
        assert spread_of_masked_predictions(outputs.logits, outputs.mask) < 1e-5
        fill_tables(theirs)
        outputs = theirs(pixels)
        assert spread_of_masked_predictions(outputs.logits, outputs.mask) > 0.1
        ours = randomise(SeqViTForPreTraining(SeqViTConfig(**SIZES, **DECODER, num_channels=2)))
        outputs = ours(pixels)
        assert spread_of_masked_predictions(outputs.logits, outputs.mask) > 0.1


def test_sincos_and_learned_positions_of_ours_go_into_a_vit():
    for kind in ("sincos", "learned"):
        ours = randomise(SeqViTForImageClassification(SeqViTConfig(**SIZES, position_embedding_type=kind)))
        assert_same_outputs(ours, to_transformers(ours), ["logits"], pixel_values=images_for(ours.config))


def test_a_copy_shares_no_memory_and_keeps_mode_dtype_attention_and_the_random_stream():
    theirs = ViTForImageClassification(ViTConfig(**SIZES, attn_implementation="eager")).to(torch.bfloat16).train()
    state = torch.random.get_rng_state()
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    assert torch.equal(torch.random.get_rng_state(), state)
    pointers = [{parameter.data_ptr() for parameter in model.parameters()} for model in (theirs, ours, back)]
    assert not pointers[0] & pointers[1] and not pointers[1] & pointers[2]
    for model in (ours, back):
        assert model.dtype == torch.bfloat16 and model.training
        assert model.config._attn_implementation == "eager"


def test_config_fields_survive_both_ways_and_overrides_are_set():
    config = ViTConfig(**SIZES, hidden_act="relu", num_labels=5, layer_norm_eps=1e-5, hidden_dropout_prob=0.1)
    ours = from_transformers(ViTForImageClassification(config), drop_path_rate=0.2)
    assert (ours.config.model_type, ours.config.drop_path_rate) == ("seq_vit", 0.2)
    back = to_transformers(ours).config.to_dict()
    # encoder_stride is no field of ours: it follows the patch size.
    assert back == {**config.to_dict(), "encoder_stride": 4}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_register_tokens": 2}, r"register_tokens is missing"),
        ({"image_size": 32}, r"position_embeddings has shape \(1, 16, 32\), not \(1, 64, 32\)"),
        ({"position_embedding_type": "sincos"}, "position_embedding_type='sincos': .*only be learned"),
        ({"position_embedding_type": "none"}, "position_embedding_type='none'"),
    ],
)
def test_overrides_that_need_other_weights_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        from_transformers(ViTForImageClassification(ViTConfig(**SIZES)), **overrides)


@pytest.mark.parametrize(
    "model_class", [ViTForImageClassification, ViTForMaskedImageModeling, ViTMAEForPreTraining, ViTModel]
)
def test_folders_of_theirs_load(tmp_path, model_class):
    if model_class is ViTMAEForPreTraining:
        theirs = masked_autoencoder()
    elif model_class is ViTModel:
        theirs = randomise(ViTModel(ViTConfig(**SIZES)))
    else:
        theirs = randomise(model_class(ViTConfig(**SIZES, encoder_stride=4)))
    theirs.save_pretrained(tmp_path)
    if model_class is ViTModel:
        with pytest.raises(ValueError, match=r"model\.pooler"):
            from_transformers(tmp_path)
        return
    ours = from_transformers(tmp_path, patch_dropout_rate=0.1)
    assert_same_weights(ours, from_transformers(theirs))
    assert not ours.training and ours.config.patch_dropout_rate == 0.1
    ours.save_pretrained(tmp_path / "ours")
    again = type(ours).from_pretrained(tmp_path / "ours")
    assert_same_weights(again, ours)


def test_folders_of_other_models_or_without_all_weights_are_refused(tmp_path):
    BertModel(BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"architectures=\['BertModel'\]"):
        from_transformers(tmp_path / "bert")
    theirs = ViTForImageClassification(ViTConfig(**SIZES))
    weights = {name: weight for name, weight in theirs.state_dict().items() if not name.startswith("classifier.")}
    theirs.save_pretrained(tmp_path / "vit", state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks weights of ViTForImageClassification: classifier\.bias"):
        from_transformers(str(tmp_path / "vit"))


def test_ours_saved_as_theirs_loads_without_us(tmp_path):
    config = SeqViTConfig(**SIZES, **DECODER)
    classifier = randomise(SeqViTForImageClassification(config))
    to_transformers(classifier).save_pretrained(tmp_path / "classifier")
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path / "classifier")
    assert type(theirs) is ViTForImageClassification
    assert_same_outputs(classifier, theirs, ["logits"], pixel_values=images_for(config))
    autoencoder = randomise(SeqViTForPreTraining(config))
    to_transformers(autoencoder).save_pretrained(tmp_path / "autoencoder")
    theirs = AutoModelForPreTraining.from_pretrained(tmp_path / "autoencoder")
    assert type(theirs) is ViTMAEForPreTraining
    assert_same_autoencoders(autoencoder, theirs, torch.float32)


LACKING = [
    {"use_cls_token": False, "pooling": "mean"},
    {"stem": "conv"},
    {"stem": "shifted"},
    {"num_register_tokens": 2},
    {"use_distillation_token": True},
    {"layer_scale_init_value": 0.1},
    {"use_qk_norm": True},
    {"use_locality_attention": True},
    {"pooling": "mean"},
    {"pooling": "map"},
    {"pre_logits_size": 8},
    {"position_embedding_type": "none"},
]


@pytest.mark.parametrize("options", LACKING, ids=str)
def test_options_that_theirs_lacks_are_refused_by_name(options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}: ViTForImageClassification"):
        to_transformers(SeqViTForImageClassification(SeqViTConfig(**SIZES, **options)))


def test_what_has_no_counterpart_is_refused():
    for ours in (SeqViTForMaskedImageModeling, SeqViTForPreTraining):
        for sizes in ({"image_size": [8, 16]}, {"patch_size": [4, 2]}):
            with pytest.raises(ValueError, match=f"{next(iter(sizes))}=.*squares only"):
                to_transformers(ours(SeqViTConfig(**{**SIZES, **DECODER, **sizes})))
    with pytest.raises(ValueError, match="model=SeqViTForMaskedPatchPrediction: transformers has no such ViT"):
        to_transformers(SeqViTForMaskedPatchPrediction(SeqViTConfig(**SIZES)))
    with pytest.raises(ValueError, match="model=SeqViTModel: there is no SeqViT class for it"):
        from_transformers(SeqViTModel(SeqViTConfig(**SIZES)))
    with pytest.raises(ValueError, match="num_labels=0"):
        from_transformers(ViTForImageClassification(ViTConfig(**SIZES, num_labels=0)))
    with pytest.raises(ValueError, match="head_dim=16"):
        from_transformers(ViTForImageClassification(ViTConfig(**SIZES, head_dim=16)))
