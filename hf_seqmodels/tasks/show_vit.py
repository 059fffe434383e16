"""A trained SeqViT shown at work: reloaded through the Auto classes, telling digits apart."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline

from hf_seqmodels.data.image_sources import ImageSource
from hf_seqmodels.data.images import load_images

_SHADES = " .:-=+*#%@"


@dataclass
class ShowViTArguments:
    """What to show"""

    model: str = field(metadata={"help": "Folder of a SeqViT classifier of digits."})
    count: int = field(default=6, metadata={"help": "Held-out digits to show."})


def main(args: ShowViTArguments) -> list[str]:
    """Prints the run's evaluation, and held-out digits with what the model takes them for.

    Returns:
        The best guess for each digit shown.
    """
    model = AutoModelForImageClassification.from_pretrained(args.model)
    print(f"\nLoaded {type(model).__name__} from {args.model} by AutoModelForImageClassification.")
    results = Path(args.model) / "all_results.json"
    if results.is_file():
        figures = json.loads(results.read_text(encoding="utf-8"))
        print("held-out digits: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    held_out = load_images(ImageSource(embedded=True), (8, 8), 1, 0.1, 0).datasets["validation"]
    examples = [held_out[index] for index in range(args.count)]
    digits = [np.frombuffer(example["pixels"], dtype=np.uint8).reshape(8, 8) for example in examples]
    classify = pipeline("image-classification", model=args.model, top_k=1)
    with torch.no_grad():
        guesses = [found[0] for found in classify([Image.fromarray(digit) for digit in digits])]
    print('\npipeline("image-classification"):')
    for row in range(8):
        print(
            "  " + "   ".join("".join(_SHADES[int(value) * 9 // 255] * 2 for value in digit[row]) for digit in digits)
        )
    shown = [
        f"{guess['label']} ({guess['score']:.0%}), is {example['label']}" for guess, example in zip(guesses, examples)
    ]
    print("  " + "   ".join(f"{text:<16}" for text in shown) + "\n")
    return [guess["label"] for guess in guesses]
