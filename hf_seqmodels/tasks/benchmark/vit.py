"""SeqViT's steps against transformers' (and timm's) models of the same sizes: training, inference and MAE."""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

from hf_seqmodels.models.configuration_vit import SeqViTConfig
from hf_seqmodels.models.modeling_vit_classification import SeqViTForImageClassification
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling
from hf_seqmodels.tasks.benchmark.measure import Contender, Step, compare, table
from hf_seqmodels.training.flops import measure_gemm_rate
from hf_seqmodels.training.precision import MasterWeights

TASKS = ("train", "inference", "mae")
_KERNELS = ("eager", "sdpa")
OWN_FULL_SEQUENCE = "ours, all patches"

# How bfloat16 is used, where it is: "autocast" keeps float32 weights; "master weights" computes in bfloat16 and keeps
# float32 weights for the optimiser; "bf16 weights" has no others, so that small updates are rounded away.
_AUTOCAST, _MASTER_WEIGHTS, _BF16_WEIGHTS = "autocast", "master weights", "bf16 weights"

Build = Callable[["ViTCase"], nn.Module]


@dataclass(frozen=True)
class ViTCase:
    """One comparison.

    Args:
        task: "train" (a classifier's step: forward, backward, AdamW), "inference" (its forward) or "mae" (the step of
            a masked autoencoder).
        size: a preset of `SeqViTConfig` and the side of the images in pixels, such as "Ti/4@32".
        batch: images.
        dtype: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        classes: of the classifier.

    Raises:
        ValueError: `size` has not that form.
    """

    task: str
    size: str
    batch: int
    dtype: str
    device: str
    classes: int = 1000

    def __post_init__(self) -> None:
        if not self.size.partition("@")[2].isdecimal():
            raise ValueError(f"size={self.size!r}: a preset, @ and the side of the images is expected, 'S/16@224'.")

    @property
    def side(self) -> int:
        """Height and width of the images."""
        return int(self.size.partition("@")[2])

    def config(self) -> SeqViTConfig:
        """Our configuration; the peers' are made from it."""
        return SeqViTConfig.preset(self.size.partition("@")[0], image_size=self.side, num_labels=self.classes)

    def inputs(self) -> dict[str, torch.Tensor]:
        """The batch, the same for all."""
        generator = torch.Generator().manual_seed(0)
        batch = {"pixel_values": torch.randn(self.batch, 3, self.side, self.side, generator=generator)}
        if self.task == "train":
            batch["labels"] = torch.randint(0, self.classes, (self.batch,), generator=generator)
        return {name: values.to(self.device) for name, values in batch.items()}


def _transformers(attention: str, case: ViTCase) -> nn.Module:
    ours = case.config().to_dict()
    fields = (ViTMAEConfig if case.task == "mae" else ViTConfig)().to_dict()
    shared = {name: ours[name] for name in fields if name in ours and name not in ("model_type", "architectures")}
    shared["attn_implementation"] = attention
    if case.task == "mae":
        return ViTMAEForPreTraining(ViTMAEConfig(**shared))
    return ViTForImageClassification(ViTConfig(**shared))


def _ours(case: ViTCase) -> nn.Module:
    return SeqViTForPreTraining(case.config()) if case.task == "mae" else SeqViTForImageClassification(case.config())


def _ours_on_all_patches(case: ViTCase) -> nn.Module:
    return SeqViTForMaskedImageModeling(case.config())


class _TimmClassifier(nn.Module):
    """timm's VisionTransformer behind the arguments of the others."""

    def __init__(self, case: ViTCase):
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        config = case.config()
        self.model = VisionTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            num_classes=case.classes,
            embed_dim=config.hidden_size,
            depth=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
        )

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        logits = self.model(pixel_values)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return type("Output", (), {"loss": loss, "logits": logits})


def _step(build: Build, scheme: str, case: ViTCase) -> Step:
    """What is timed; every optimiser is the same."""
    model = build(case).to(case.device).train(case.task != "inference")
    masters = MasterWeights(model) if scheme == _MASTER_WEIGHTS else None
    batch = case.inputs()
    if scheme == _BF16_WEIGHTS:
        model = model.to(torch.bfloat16)
        batch["pixel_values"] = batch["pixel_values"].to(torch.bfloat16)
    autocast = partial(torch.autocast, case.device, torch.bfloat16, enabled=scheme == _AUTOCAST)
    if case.task == "inference":

        def infer() -> None:
            with torch.no_grad(), autocast():
                model(**batch)

        return infer
    optimizer = torch.optim.AdamW((masters or model).parameters(), lr=1e-4, fused=True)

    def train() -> None:
        with autocast():
            loss = model(**batch).loss
        loss.backward()
        if masters is not None:
            masters.accumulate()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if masters is not None:
            masters.publish()

    return train


def contenders(case: ViTCase) -> list[Contender]:
    """Who takes part, peers first.

    In bfloat16 transformers' models take part under autocast and with bfloat16 weights, ours as we train them. For MAE
    there is our encoder on all patches, too, with a mask token on those that are hidden (SimMIM's step).
    """
    peers: dict[str, Build] = {
        f"transformers {attention}": partial(_transformers, attention) for attention in _KERNELS
    }
    if case.task != "mae" and all(importlib.util.find_spec(name) for name in ("timm", "torchvision")):
        peers["timm"] = _TimmClassifier
    own: dict[str, Build] = {"ours": _ours}
    if case.task == "mae":
        own[OWN_FULL_SEQUENCE] = _ours_on_all_patches
    schemes: tuple[str, ...] = ("",)
    own_schemes = schemes
    if case.dtype == "bfloat16":
        schemes = (_AUTOCAST, _BF16_WEIGHTS)
        own_schemes = schemes if case.task == "inference" else (_AUTOCAST, _MASTER_WEIGHTS)
    return [
        Contender(f"{name}, {scheme}" if scheme else name, partial(_step, build, scheme, case), peer=peer)
        for builds, uses, peer in ((peers, schemes, True), (own, own_schemes, False))
        for name, build in builds.items()
        for scheme in uses
    ]


def run(case: ViTCase, rounds: int, memory: bool, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Measures one case.

    Returns:
        What `report` prints; for MAE with `over_all_patches`: how many times as fast our fastest step is as our
        fastest one on all patches.
    """
    gemm_rate = measure_gemm_rate(getattr(torch, case.dtype), torch.device(case.device))
    rows = compare(contenders(case), rounds, gemm_rate, memory, clock)
    result: dict[str, Any] = {"gemm_rate": gemm_rate, "rows": rows}
    if case.task == "mae":
        own = [row for row in rows if not row["peer"]]
        full = [row["seconds"] for row in own if row["name"].startswith(OWN_FULL_SEQUENCE)]
        masked = [row["seconds"] for row in own if not row["name"].startswith(OWN_FULL_SEQUENCE)]
        result["over_all_patches"] = min(full) / min(masked)
    return result


def report(case: ViTCase, result: dict[str, Any]) -> str:
    """The result as a table (Markdown)."""
    config = case.config()
    tokens = config.num_prefix_tokens + config.grid[0] * config.grid[1]
    lines = [
        f"SeqViT {case.size}, {case.task}, {case.batch} images of {tokens} tokens, {case.dtype}, {case.device}, "
        f"{torch.get_num_threads()} threads; GEMM rate {result['gemm_rate'] / 1e9:.0f} GFLOP/s",
        "",
        *table(result["rows"], "images", case.batch),
    ]
    if case.task == "mae":
        lines += ["", f"Our step on the visible patches: {result['over_all_patches']:.2f}× that on all patches."]
    return "\n".join(lines)
