"""timm's checkpoints load into SeqViT; the oracle is a VisionTransformer with timm's names, written here."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_seqmodels import SeqViTForImageClassification
from hf_seqmodels.conversion.vit import load_timm, to_transformers

TOLERANCES = {torch.float32: {"rtol": 0, "atol": 1e-5}, torch.float64: {"rtol": 0, "atol": 1e-10}}


def norm(width):
    return nn.LayerNorm(width, eps=1e-6)


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self, width, heads, bias, qk_norm):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)
        self.q_norm, self.k_norm = (norm(width // heads) if qk_norm else nn.Identity() for _ in range(2))

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).tensor_split(3, dim=-1)
        )
        scores = self.q_norm(q) @ self.k_norm(k).mT / q.shape[-1] ** 0.5
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Gain(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width, heads, inner, bias, qk_norm, gain):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attn, self.mlp = Attention(width, heads, bias, qk_norm), Mlp(width, inner)
        self.ls1, self.ls2 = (Gain(width) if gain else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class LatentPool(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm, self.mlp = norm(width), Mlp(width, inner)

    def forward(self, x):
        k, v = self.kv(x).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(self.latent), k, v))
        pooled = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        pooled = self.proj(pooled)
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class PatchEmbed(nn.Module):
    def __init__(self, channels, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)


class VisionTransformer(nn.Module):
    """Parameters named as timm's are, in its order of operations."""

    def __init__(
        self,
        pool="token",
        grid=(4, 4),
        patch=(4, 4),
        channels=3,
        width=32,
        heads=4,
        inner=48,
        classes=5,
        class_token=True,
        distilled=False,
        registers=0,
        no_embed_class=False,
        bias=True,
        qk_norm=False,
        gain=False,
        positions=True,
        fc_norm=False,
    ):
        super().__init__()
        self.pool, self.no_embed_class = pool, no_embed_class
        self.image = (channels, grid[0] * patch[0], grid[1] * patch[1])
        counts = {"cls_token": int(class_token), "dist_token": int(distilled), "reg_token": registers}
        self.tokens = [name for name, count in counts.items() if count]
        for name in self.tokens:
            setattr(self, name, nn.Parameter(torch.zeros(1, counts[name], width)))
        self.num_prefix = sum(counts.values())
        rows = grid[0] * grid[1] + (0 if no_embed_class else self.num_prefix)
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, width)) if positions else None
        self.patch_embed = PatchEmbed(channels, width, patch)
        self.blocks = nn.Sequential(*(Block(width, heads, inner, bias, qk_norm, gain) for _ in range(2)))
        self.norm = nn.Identity() if fc_norm else norm(width)
        self.fc_norm = norm(width) if fc_norm else nn.Identity()
        self.attn_pool = LatentPool(width, heads, inner) if pool == "map" else None
        self.head = nn.Linear(width, classes) if classes else nn.Identity()
        self.head_dist = nn.Linear(width, classes) if distilled else None

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        if self.no_embed_class:
            x = x + self.pos_embed
        x = torch.cat([*(getattr(self, name).expand(len(x), -1, -1) for name in self.tokens), x], dim=1)
        if not self.no_embed_class and self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        if self.head_dist is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        if self.pool == "token":
            pooled = x[:, 0]
        else:
            patches = x[:, self.num_prefix :]
            pooled = patches.mean(1) if self.pool == "avg" else self.attn_pool(patches)
        return self.head(self.fc_norm(pooled))


def reference(dtype=torch.float32, **options):
    """A model whose weights are all random, so that none can hide."""
    model = VisionTransformer(**options).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def assert_same_logits(ours, theirs):
    dtype = theirs.head.weight.dtype
    pixels = torch.randn(3, *theirs.image, dtype=dtype)
    assert type(ours) is SeqViTForImageClassification and ours.dtype == dtype and not ours.training
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).logits, theirs(pixels), **TOLERANCES[dtype])


RECTANGLES = {"grid": (2, 3), "patch": (4, 2), "channels": 1}
# name: (options of the reference, arguments of load_timm, fields of the configuration)
MODELS = {
    "ViT": ({}, {}, {"image_size": 16, "patch_size": 4, "num_labels": 5, "pooling": "cls"}),
    "rectangles": (RECTANGLES, {"image_size": (8, 6)}, {"image_size": [8, 6], "patch_size": [4, 2]}),
    "wide patches": ({"patch": (2, 4)}, {}, {"image_size": [8, 16], "patch_size": [2, 4]}),
    "no class position": ({"no_embed_class": True}, {}, {"position_embedding_type": "learned"}),
    "no positions": ({"positions": False}, {"image_size": 16}, {"position_embedding_type": "none"}),
    "DeiT": ({"distilled": True}, {}, {"use_distillation_token": True}),
    "registers": ({"registers": 4}, {}, {"num_register_tokens": 4}),
    "DINOv2": (
        {"registers": 4, "no_embed_class": True, "gain": True},
        {},
        {"num_register_tokens": 4, "layer_scale_init_value": 1e-5},
    ),
    "qk norm": ({"qk_norm": True, "bias": False}, {}, {"use_qk_norm": True, "qkv_bias": False}),
    "map": ({"pool": "map", "class_token": False}, {}, {"pooling": "map", "use_cls_token": False}),
    "map and class token": ({"pool": "map"}, {}, {"pooling": "map", "use_cls_token": True}),
    "mean": ({"pool": "avg", "class_token": False}, {}, {"pooling": "mean"}),
    "mean, then norm": ({"pool": "avg", "fc_norm": True}, {}, {"pooling": "mean", "norm_after_pooling": True}),
    "mean and class token": ({"pool": "avg"}, {"pooling": "mean"}, {"pooling": "mean"}),
}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_checkpoint(name, dtype):
    options, arguments, fields = MODELS[name]
    theirs = reference(dtype, **options)
    ours = load_timm(theirs.state_dict(), num_attention_heads=4, **arguments)
    assert_same_logits(ours, theirs)
    assert {field: getattr(ours.config, field) for field in fields} == fields


def test_a_wrong_guess_of_the_pooling_is_seen():
    theirs = reference(pool="avg")
    with pytest.raises(AssertionError):
        assert_same_logits(load_timm(theirs.state_dict(), num_attention_heads=4), theirs)


def test_heads_come_from_the_width_or_the_query_norm():
    theirs = reference(width=128, heads=2)
    assert_same_logits(load_timm(theirs.state_dict()), theirs)
    theirs = reference(qk_norm=True, heads=8)
    assert_same_logits(load_timm(theirs.state_dict()), theirs)
    with pytest.raises(ValueError, match="num_attention_heads: width 32 is no multiple of 64"):
        load_timm(reference().state_dict())


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_load(tmp_path, suffix, wrapper):
    theirs, path = reference(), tmp_path / f"weights.{suffix}"
    weights = theirs.state_dict()
    if suffix == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3}, path)
    ours = load_timm(str(path), num_attention_heads=4, drop_path_rate=0.1)
    assert ours.config.drop_path_rate == 0.1
    assert_same_logits(ours, theirs)
    # … and further, into transformers
    pixels = torch.randn(2, *theirs.image)
    torch.testing.assert_close(to_transformers(ours)(pixels).logits, theirs(pixels), **TOLERANCES[torch.float32])


def test_a_checkpoint_without_a_head_gets_a_fresh_one():
    weights = reference(classes=0).state_dict()
    with pytest.raises(ValueError, match=r"head\.weight is not in source: give num_labels"):
        load_timm(weights, num_attention_heads=4)
    ours = load_timm(weights, num_attention_heads=4, num_labels=7)
    assert ours(torch.randn(2, 3, 16, 16)).logits.shape == (2, 7)
    assert ours.classifier.weight.std() > 0
    assert torch.equal(ours.vit.layernorm.weight, weights["norm.weight"])


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"positions": False}, {}, "image_size: the checkpoint has no positions"),
        ({"grid": (2, 3)}, {}, r"image_size=None: 7 positions, .* fit no grid .* as high as wide"),
        ({}, {"image_size": 32}, r"image_size=32: 17 positions, .* fit no grid"),
        # 9 positions: of 3 × 3 patches alone, or of 2 × 2 patches and 5 tokens
        ({"grid": (2, 2), "registers": 4}, {}, "may be of more than one grid"),
        ({}, {"num_labels": 7}, r"classifier\.weight has shape \(5, 32\), not \(7, 32\)"),
        ({}, {"use_qk_norm": True}, r"q_norm\.weight is missing"),
    ],
)
def test_what_cannot_be_loaded_is_refused(change, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_timm(reference(**change).state_dict(), num_attention_heads=4, **arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norm_pre.weight", r"norm_pre\.weight has no place"),
        ("blocks.0.mlp.fc1_g.weight", r"layers\.0\.mlp\.fc1_g\.weight has no place"),
        ("blocks.1.attn.norm.weight", r"layers\.1\.attention\.norm\.weight has no place"),
    ],
)
def test_parts_that_ours_lacks_are_refused_by_name(name, message):
    weights = {**reference().state_dict(), name: torch.ones(32)}
    with pytest.raises(ValueError, match=message):
        load_timm(weights, num_attention_heads=4)


def test_other_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"source is no timm VisionTransformer: patch_embed\.proj\.weight"):
        load_timm({"conv1.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        load_timm(tmp_path / "weights.npz")
