"""Attention maps of a trained translation model, as pictures and as JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.analysis import plots_alignment
from hf_seqmodels.analysis.alignment import AttentionMap, attention_map


@dataclass
class PlotAttentionArguments:
    """What to draw"""

    model: str = field(metadata={"help": "Folder of a translation model with attention."})
    text: list[str] = field(metadata={"help": "Sentences to translate."})
    output_dir: str = field(metadata={"help": "Folder for the pictures and the JSON files."})
    num_beams: int = field(default=1, metadata={"help": "Beams of the search."})
    layer: int = field(default=-1, metadata={"help": "Layer of the decoder; -1 is the last."})
    head: int | None = field(default=None, metadata={"help": "Head of that layer; by default the mean over heads."})
    dpi: int = field(default=120, metadata={"help": "Dots per inch of the pictures."})

    def __post_init__(self) -> None:
        if not (Path(self.model) / "config.json").is_file():
            raise ValueError(f"model={self.model!r} is not a folder with a config.json.")
        if not self.text or not all(line.strip() for line in self.text):
            raise ValueError(f"text={self.text!r} must be sentences, none of them empty.")
        for name in ("num_beams", "dpi"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")


def main(args: PlotAttentionArguments) -> list[AttentionMap]:
    """Draws a map for each sentence: `attention-1.png` and `attention-1.json`, …

    Raises:
        ValueError: the model has no attention to its source, or no such layer or head.
    """
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    maps = []
    for number, text in enumerate(args.text, start=1):
        found = attention_map(model, tokenizer, text, layer=args.layer, head=args.head, num_beams=args.num_beams)
        picture = folder / f"attention-{number}.png"
        plots_alignment.alignment_figure(found).savefig(picture, dpi=args.dpi, bbox_inches="tight")
        values = json.dumps(found.to_dict(), ensure_ascii=False)
        picture.with_suffix(".json").write_text(values, encoding="utf-8")
        print(f"{text} -> {found.text}  ({picture})")
        maps.append(found)
    return maps
