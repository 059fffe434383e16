"""Each option of SeqViTConfig does what its paper says."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from hf_seqmodels import (
    SeqViTBackbone,
    SeqViTConfig,
    SeqViTForImageClassification,
    SeqViTForMaskedImageModeling,
    SeqViTForMaskedPatchPrediction,
    SeqViTForPreTraining,
    SeqViTModel,
)
from hf_seqmodels.training.optimizers import learning_rate_scales, undecayed_names

SIZES = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_labels": 5,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 12,
    "colour_bits": 1,
    "initializer_range": 0.3,
}
NUM_PATCHES = 16
EXACT = {"rtol": 0, "atol": 1e-12}
PRETRAINED = [SeqViTForPreTraining, SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction]


def build(model_class: Any = SeqViTModel, **options: Any) -> Any:
    """In float64 and eval, from a fixed seed."""
    torch.manual_seed(0)
    return model_class(SeqViTConfig(**{**SIZES, **options})).double().eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, dtype=torch.float64)


def test_registers_and_class_tokens_have_no_place(pixels: torch.Tensor) -> None:
    """Moving all positions moves the patches alone."""
    embeddings = build(num_register_tokens=3).embeddings
    before, _ = embeddings(pixels)
    with torch.no_grad():
        embeddings.position_embeddings.add_(1.0)
    difference = embeddings(pixels)[0] - before
    assert difference[:, :4].eq(0).all()
    torch.testing.assert_close(difference[:, 4:], torch.ones_like(difference[:, 4:]), **EXACT)
    assert embeddings.register_tokens.shape == (1, 3, 16)


def test_without_positions_the_order_of_patches_is_nothing(pixels: torch.Tensor) -> None:
    flipped = pixels.unflatten(3, (4, 4)).flip(3).flatten(3)  # whole columns of patches
    for kind, same in (("none", True), ("sincos", False), ("learned", False)):
        model = build(position_embedding_type=kind)
        outputs, others = model(pixels), model(flipped)
        assert torch.allclose(outputs.pooler_output, others.pooler_output, rtol=0, atol=1e-10) is same


def test_layer_scale_starts_at_its_value(pixels: torch.Tensor) -> None:
    model = build(layer_scale_init_value=1e-4)
    scales = [p for name, p in model.named_parameters() if name.endswith(".scale")]
    assert len(scales) == 2 * 3 and all(torch.allclose(scale, torch.tensor(1e-4).double()) for scale in scales)
    states = model(pixels, output_hidden_states=True).hidden_states
    assert (states[-1] - states[0]).abs().max() < 0.01 < (states[0]).abs().max()
    assert not any(name.endswith(".scale") for name, _ in build().named_parameters())


def test_stochastic_depth_rises_from_layer_to_layer(pixels: torch.Tensor) -> None:
    model = build(drop_path_rate=0.4)
    assert [layer.drop_path.rate for layer in model.layers] == pytest.approx([0.0, 0.2, 0.4])
    assert [layer.drop_path.rate for layer in build(num_hidden_layers=1, drop_path_rate=0.4).layers] == [0.0]
    assert torch.equal(model(pixels).pooler_output, model(pixels).pooler_output)
    assert torch.equal(model(pixels).pooler_output, build()(pixels).pooler_output)
    model.train()
    assert not torch.equal(model(pixels).pooler_output, model(pixels).pooler_output)
    branch = model.layers[2].drop_path(torch.ones(20000, 1, 2))
    kept = branch[:, 0, 0] != 0
    torch.testing.assert_close(branch[kept], torch.full_like(branch[kept], 1 / 0.6))
    assert torch.equal(branch[..., 0], branch[..., 1])  # whole examples
    assert abs(kept.double().mean().item() - 0.6) < 0.02  # six deviations


def test_queries_and_keys_are_normalised_per_head(pixels: torch.Tensor) -> None:
    """Scores no longer grow with the weights: Dehghani et al. 2023, section 2.1."""
    for use, invariant in ((True, True), (False, False)):
        model = build(use_qk_norm=use, qkv_bias=False, layer_norm_eps=1e-12)
        before = model(pixels, output_attentions=True).attentions[0]
        with torch.no_grad():
            model.layers[0].attention.qkv.weight[:32].mul_(7.0)
        after = model(pixels, output_attentions=True).attentions[0]
        assert torch.allclose(before, after, rtol=0, atol=1e-9) is invariant
    assert build(use_qk_norm=True).layers[0].attention.q_norm.weight.shape == (4,)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_locality_attention(kernel: str, pixels: torch.Tensor) -> None:
    """No token sees itself, and every head learns a temperature that starts at 1/√head_dim."""
    model = build(use_locality_attention=True, attn_implementation=kernel)
    for weights in model(pixels, output_attentions=True).attentions:
        assert weights.diagonal(dim1=-2, dim2=-1).abs().max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    temperature = model.layers[0].attention.temperature
    assert temperature.shape == (4, 1, 1) and temperature.eq(0.5).all()
    model(pixels).pooler_output[:, 0].sum().backward()
    assert temperature.grad.abs().min() > 0
    with torch.no_grad():
        temperature[2] = 0.0
    last = model(pixels, output_attentions=True).attentions[0][:, 2]
    assert last.masked_select(~torch.eye(17, dtype=torch.bool)).sub(1 / 16).abs().max() < 1e-12  # of 16 others


def test_a_lone_token_still_sees_itself() -> None:
    model = build(use_locality_attention=True, use_cls_token=False, pooling="mean", image_size=4)
    outputs = model(torch.randn(1, 3, 4, 4), output_attentions=True)
    assert outputs.pooler_output.isfinite().all() and outputs.attentions[0].eq(1).all()


@pytest.mark.parametrize("stem", ["patch", "conv", "shifted"])
@pytest.mark.parametrize("patch_size", [1, 4, (2, 8), (8, 1)])
def test_stems_have_the_grid_of_the_patches(stem: str, patch_size: Any) -> None:
    config = SeqViTConfig(**{**SIZES, "stem": stem, "patch_size": patch_size})
    tokens = SeqViTModel(config).embeddings.patch_embeddings(torch.randn(2, 3, 16, 16), None)
    assert tokens.shape == (2, config.grid[0] * config.grid[1], 16)


def test_conv_stem_is_ccts_tokenizer() -> None:
    stem = build(stem="conv", stem_channels=6).embeddings.patch_embeddings
    assert [tuple(c.weight.shape) for c in stem.convolutions] == [(6, 3, 3, 3), (16, 6, 3, 3)]
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = images
    for convolution in stem.convolutions:
        expected = nn.functional.max_pool2d(nn.functional.relu(convolution(expected)), 3, stride=2, padding=1)
    torch.testing.assert_close(stem(images, None), expected.flatten(2).transpose(1, 2), **EXACT)


def test_shifted_stem_sees_half_a_patch_further() -> None:
    """A pixel reaches the patches whose edge is half a patch away, and no further."""
    reached = {}
    for stem in ("patch", "shifted"):
        embed = build(stem=stem).embeddings.patch_embeddings
        images = torch.randn(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
        # the patch in row 1, column 1 covers 4:8
        embed(images, None)[0, 5].square().sum().backward()
        reached[stem] = images.grad[0].abs().sum(0) > 0
    assert reached["patch"].nonzero().unique().tolist() == [4, 5, 6, 7]
    assert reached["shifted"].nonzero().unique().tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert build(stem="shifted").embeddings.patch_embeddings.projection.in_features == 5 * 48


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_patches_are_dropped_in_training_only(rate: float, pixels: torch.Tensor) -> None:
    model = build(patch_dropout_rate=rate, num_register_tokens=1)
    assert model(pixels).last_hidden_state.shape[1] == 2 + NUM_PATCHES
    assert torch.equal(model(pixels).pooler_output, build(num_register_tokens=1)(pixels).pooler_output)
    model.train()
    kept = model(pixels).last_hidden_state
    assert kept.shape[1] == 2 + round((1 - rate) * NUM_PATCHES)
    assert not torch.equal(kept, model(pixels).last_hidden_state)
    for masked in (SeqViTForPreTraining, SeqViTForMaskedImageModeling):
        assert build(masked, patch_dropout_rate=rate).vit.embeddings.patch_dropout_rate == 0.0


def test_keeping_all_patches_changes_nothing(pixels: torch.Tensor) -> None:
    for stem in ("patch", "conv", "shifted"):
        model = build(stem=stem, pooling="mean")
        expected, everything = model(pixels), torch.arange(NUM_PATCHES).expand(2, -1)
        kept = model(pixels, ids_keep=everything)
        torch.testing.assert_close(kept.last_hidden_state, expected.last_hidden_state, **EXACT)
        order = torch.randperm(NUM_PATCHES)
        shuffled = model(pixels, ids_keep=everything[:, order]).last_hidden_state
        torch.testing.assert_close(shuffled[:, 1:], expected.last_hidden_state[:, 1:][:, order], **EXACT)


def test_filling_of_kept_patches_is_invisible(pixels: torch.Tensor) -> None:
    model = build(pooling="mean")
    both = model(pixels, ids_keep=torch.tensor([[3, 5, 6], [9, -1, -1]])).pooler_output
    for image, ids in ((0, [3, 5, 6]), (1, [9])):
        alone = model(pixels[image : image + 1], ids_keep=torch.tensor([ids])).pooler_output
        torch.testing.assert_close(both[image], alone[0], **EXACT)


@pytest.mark.parametrize("model_class", PRETRAINED)
@pytest.mark.parametrize("stem", ["patch", "conv", "shifted"])
def test_what_is_hidden_cannot_be_seen(model_class: Any, stem: str, pixels: torch.Tensor) -> None:
    """Nor through a stem that looks across the edges of patches: prediction would be copying."""
    model = build(model_class, stem=stem)
    hidden = torch.rand(2, NUM_PATCHES) < 0.5
    cells = hidden.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = pixels + torch.randn_like(pixels) * cells
    field = "reconstruction" if model_class is SeqViTForMaskedImageModeling else "logits"
    first, second = (model(images, bool_masked_pos=hidden)[field] for images in (pixels, changed))
    assert torch.equal(first, second)
    assert not torch.equal(first, model(pixels + torch.randn_like(pixels) * ~cells, bool_masked_pos=hidden)[field])


def test_distillation_head_learns_from_the_teacher(pixels: torch.Tensor) -> None:
    model = build(SeqViTForImageClassification, use_distillation_token=True).train()
    labels, teacher = torch.tensor([0, 1]), torch.eye(5).double()[[3, 2]]
    outputs = model(pixels, labels=labels, teacher_logits=teacher)
    parts = (
        nn.functional.cross_entropy(outputs.cls_logits, labels),
        nn.functional.cross_entropy(outputs.distillation_logits, torch.tensor([3, 2])),
    )
    torch.testing.assert_close(outputs.loss, (parts[0] + parts[1]) / 2, **EXACT)
    assert torch.equal(outputs.logits, outputs.cls_logits)
    without = model(pixels, labels=labels)
    both = [
        nn.functional.cross_entropy(scores, labels) for scores in (without.cls_logits, without.distillation_logits)
    ]
    torch.testing.assert_close(without.loss, sum(both) / 2, **EXACT)
    evaluated = model.eval()(pixels)
    mean = (evaluated.cls_logits + evaluated.distillation_logits) / 2
    torch.testing.assert_close(evaluated.logits, mean, **EXACT)
    plain = build(SeqViTForImageClassification)(pixels)
    assert plain.cls_logits is None and plain.distillation_logits is None


def test_pre_logits(pixels: torch.Tensor) -> None:
    model = build(SeqViTForImageClassification, pre_logits_size=7)
    pooled = model.vit(pixels).pooler_output
    expected = model.classifier(torch.tanh(model.pre_logits(pooled)))
    torch.testing.assert_close(model(pixels).logits, expected, **EXACT)
    assert model.classifier.weight.shape == (5, 7)


def test_a_head_of_zeros(pixels: torch.Tensor) -> None:
    model = build(SeqViTForImageClassification, zero_init_head=True, use_distillation_token=True)
    outputs = model(pixels, labels=torch.tensor([0, 4]))
    assert outputs.logits.eq(0).all() and outputs.distillation_logits.eq(0).all()
    assert outputs.loss.item() == pytest.approx(math.log(5), abs=1e-12)
    assert model.vit.layers[0].mlp.fc1.weight.abs().min() > 0
    assert build(SeqViTForImageClassification)(pixels).logits.abs().max() > 0


def test_poolings(pixels: torch.Tensor) -> None:
    for pooling in ("cls", "mean", "seq", "map"):
        model = build(pooling=pooling, num_register_tokens=2)
        outputs = model(pixels)
        patches = outputs.last_hidden_state[:, 3:]
        if pooling == "cls":
            expected = outputs.last_hidden_state[:, 0]
        elif pooling == "mean":
            expected = patches.mean(1)
        elif pooling == "seq":
            expected = (model.pooler.score(patches).softmax(1) * patches).sum(1)
        else:
            pooler = model.pooler
            weights = torch.cat([pooler.query.weight, pooler.key_value.weight])
            biases = torch.cat([pooler.query.bias, pooler.key_value.bias])
            attended, _ = nn.functional.multi_head_attention_forward(
                pooler.probe.expand(2, -1, -1).transpose(0, 1),
                *[patches.transpose(0, 1)] * 2,
                *(16, 4, weights, biases, None, None, False, 0.0, pooler.proj.weight, pooler.proj.bias),
            )
            expected = attended[0] + pooler.mlp(pooler.norm(attended[0]))
        torch.testing.assert_close(outputs.pooler_output, expected, **EXACT)


@pytest.mark.parametrize("options", [{}, {"use_qk_norm": True, "qkv_bias": False}, {"use_locality_attention": True}])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_last_layer_for_some_tokens_only(options: dict, kernel: str, pixels: torch.Tensor) -> None:
    model = build(**options, num_register_tokens=2, attn_implementation=kernel)
    expected = model(pixels).last_hidden_state
    for count in (1, 3, 10):
        outputs = model(pixels, num_output_tokens=count)
        torch.testing.assert_close(outputs.last_hidden_state, expected[:, :count], **EXACT)
        torch.testing.assert_close(outputs.pooler_output, expected[:, 0], **EXACT)


def test_the_backbone_gives_normalised_maps_of_its_stages(pixels: torch.Tensor) -> None:
    backbone = build(SeqViTBackbone, out_features=["stem", "stage3"], num_register_tokens=1)
    outputs = backbone(pixels, output_hidden_states=True)
    encoded = backbone.vit(pixels)
    expected = encoded.last_hidden_state[:, 2:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(outputs.feature_maps[1], expected, **EXACT)
    stem = backbone.vit.layernorm(outputs.hidden_states[0])[:, 2:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(outputs.feature_maps[0], stem, **EXACT)
    assert backbone.channels == [16, 16]


RICH = {
    "num_register_tokens": 1,
    "use_distillation_token": True,
    "use_locality_attention": True,
    "use_qk_norm": True,
    "layer_scale_init_value": 0.1,
    "pre_logits_size": 6,
}


def test_what_decays() -> None:
    """Matrices decay; tables, tokens, temperatures, gains, norms and biases do not."""
    for model in (
        build(SeqViTForImageClassification, **RICH),
        build(SeqViTForImageClassification, pooling="map", stem="conv"),
        *(build(model_class) for model_class in PRETRAINED),
    ):
        decayed = {name for name, _ in model.named_parameters()} - undecayed_names(model)
        assert decayed == {
            f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
        }
        assert model.no_weight_decay() <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("model_class", [SeqViTModel, SeqViTForImageClassification, *PRETRAINED])
def test_depths_for_layer_wise_rates(model_class: Any) -> None:
    model = build(model_class, pooling="map")
    depths = model.layer_depths()
    assert depths.keys() == dict(model.named_parameters()).keys()
    for name, depth in depths.items():
        inner = name.removeprefix("vit.")
        expected = 0 if inner.startswith("embeddings.") else int(inner[7]) + 1 if inner.startswith("layers.") else 4
        assert depth == expected, name
    assert set(depths.values()) == {0, 1, 2, 3, 4}
    assert set(learning_rate_scales(model, 0.5).values()) == {1.0, 0.5, 0.25, 0.125, 0.0625}


def test_norm_after_pooling(pixels: torch.Tensor) -> None:
    """The mean of the patches, then the LayerNorm: not the same as the mean of normalised patches."""
    model = build(SeqViTModel, pooling="mean", norm_after_pooling=True)
    outputs = model(pixels, output_hidden_states=True)
    patches = outputs.hidden_states[-1][:, model.config.num_prefix_tokens :]
    torch.testing.assert_close(outputs.pooler_output, model.layernorm(patches.mean(1)), rtol=0, atol=1e-12)
    other = outputs.last_hidden_state[:, model.config.num_prefix_tokens :].mean(1)
    assert (outputs.pooler_output - other).abs().max() > 1e-3
