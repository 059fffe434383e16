"""A trained date translator shown at work: reloaded through the Auto classes, with what it looks at as it writes."""

from dataclasses import dataclass, field
from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_seqmodels.analysis.alignment import AttentionMap, attention_map
from hf_seqmodels.data.dates import date_pairs

_SHADES = " ░▒▓█"
_SEED = 0


@dataclass
class ShowTranslationArguments:
    """What to show"""

    model: str = field(metadata={"help": "Folder of a translation model with attention, trained on dates."})
    count: int = field(default=6, metadata={"help": "Held-out dates to translate."})


def main(args: ShowTranslationArguments) -> list[AttentionMap]:
    """Prints translations of held-out dates, and the attention map of the first."""
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(args.model)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    print(f"\nLoaded {type(model).__name__} from {args.model} by AutoModelForSeq2SeqLM.\n")
    pairs = date_pairs(args.count, _SEED, split="test")
    maps = [attention_map(model, tokenizer, source, max_new_tokens=16) for source in pairs["source"]]
    for source, found, reference in zip(pairs["source"], maps, pairs["target"]):
        print(f"  {source:<40} {found.text}" + ("" if found.text == reference else f"  (is {reference})"))
    print("\nWhat it looks at as it writes (a row for each character; the darker, the more attention):\n")
    print("\n".join(shaded(maps[0])) + "\n")
    return maps


def shaded(found: AttentionMap) -> list[str]:
    """An attention map as lines of text."""
    lines = [" " * 9 + "".join(_character(token) for token in found.source)]
    for token, row in zip(found.target, found.weights):
        shades = "".join(_SHADES[min(int(weight * len(_SHADES)), len(_SHADES) - 1)] for weight in row)
        lines.append(f"{_character(token):>8} {shades}")
    return lines


def _character(token: str) -> str:
    return token if len(token) == 1 else "¶"
