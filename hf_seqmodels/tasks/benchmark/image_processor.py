"""Images per second of SeqViTImageProcessor and of transformers' ViTImageProcessorPil."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_seqmodels.models.image_processing_vit import SeqViTImageProcessor
from hf_seqmodels.tasks.benchmark.measure import Step, time_interleaved


def photographs(count: int, side: int) -> list[Image.Image]:
    """RGB images, each of a size of its own: sides from 1 to 2 times `side`."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(side, 2 * side + 1, (count, 2))
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def arrays(count: int, side: int) -> list[np.ndarray]:
    """uint8 `(side, side, 3)` each: images that need no resizing, as data sets of small images have them."""
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def run(side: int, count: int, rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[dict[str, Any]]:
    """Brings `count` images to `side` × `side` pixel values.

    Returns:
        A row for each kind of image and processor: `images`, `name`, `seconds`, `spread`, `speed_ratio`.
    """
    size = {"height": side, "width": side}
    processors = {"transformers": ViTImageProcessorPil(size=size), "ours": SeqViTImageProcessor(size=size)}
    rows = []
    for kind, images in (("PIL images", photographs(count, side)), ("arrays", arrays(count, side))):
        steps = {name: _step(processor, images) for name, processor in processors.items()}
        timings = time_interleaved(steps, rounds, clock=clock)
        rows += [
            {
                "images": kind,
                "name": name,
                "seconds": timing.median / count,
                "spread": timing.spread / count,
                "speed_ratio": timings["transformers"].median / timing.median,
            }
            for name, timing in timings.items()
        ]
    return rows


def _step(processor: Any, images: list[Any]) -> Step:
    def step() -> None:
        processor(images, return_tensors="pt")

    return step


def report(side: int, count: int, rows: list[dict[str, Any]]) -> str:
    """The rows as a table (Markdown)."""
    lines = [
        f"{count} images to {side}×{side}, {torch.get_num_threads()} threads",
        "",
        "| images | | ms/image (± half IQR) | images/s | speed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['images']} | {row['name']} | {row['seconds'] * 1e3:.2f} ± {row['spread'] * 1e3:.2f} | "
            f"{1 / row['seconds']:.0f} | {row['speed_ratio']:.2f}× |"
        )
    return "\n".join(lines)
