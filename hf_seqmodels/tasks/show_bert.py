"""A pretrained SeqBert shown at work: reloaded through the Auto classes, filling masks."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForPreTraining, AutoTokenizer, pipeline

SENTENCES = [
    "If no exception [MASK] raised, the else clause is executed.",
    "The expression list is evaluated from left to [MASK].",
    "This method should [MASK] a string.",
    "A class [MASK] is executed when the class is defined.",
]


@dataclass
class ShowArguments:
    """What to show"""

    model: str = field(metadata={"help": "Folder of a pretrained SeqBert."})
    sentences: list[str] = field(
        default_factory=lambda: list(SENTENCES), metadata={"help": "Sentences, each with one [MASK]."}
    )
    top_k: int = field(default=3, metadata={"help": "Guesses for each mask."})


def main(args: ShowArguments) -> list[list[str]]:
    """Prints the run's evaluation, the guesses for each mask and whether two sentences follow each other.

    Returns:
        The guesses for each sentence, best first.
    """
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForPreTraining.from_pretrained(args.model).eval()
    print(f"\nLoaded {type(model).__name__} from {args.model} by AutoModelForPreTraining.\n")
    _print_evaluation(Path(args.model))
    _print_pairs(model, tokenizer)
    fill = pipeline("fill-mask", model=args.model, tokenizer=args.model, top_k=args.top_k)
    guesses = []
    print('pipeline("fill-mask"):')
    for sentence in args.sentences:
        found = fill(sentence)
        guesses.append([guess["token_str"] for guess in found])
        shown = ", ".join(f"{guess['token_str']} {guess['score']:.0%}" for guess in found)
        print(f"  {sentence}\n      -> {shown}")
    return guesses


def _print_evaluation(folder: Path) -> None:
    states = sorted(folder.glob("checkpoint-*/training_state.json"))
    if not states:
        return
    history = json.loads(states[-1].read_text(encoding="utf-8"))["history"]
    rows = [entry for entry in history if any(name.startswith("eval_") for name in entry)]
    names = [name for name in rows[-1] if name.startswith("eval_")] if rows else []
    print("held-out documents, fixed masks:")
    print("  " + "".join(f"{name.removeprefix('eval_'):>14}" for name in ["step", *names]))
    for row in rows:
        values = "".join(f"{row[name]:14.3f}" for name in names)
        print(f"  {row['step']:>14}{values}")
    print()


def _print_pairs(model: torch.nn.Module, tokenizer: object) -> None:
    pairs = [
        (
            "The with statement is used to wrap the execution of a block.",
            "The context manager's exit method is called.",
        ),
        ("The with statement is used to wrap the execution of a block.", "Octal digits are limited to three."),
    ]
    encoded = tokenizer([a for a, _ in pairs], [b for _, b in pairs], return_tensors="pt", padding=True)  # type: ignore[operator]
    with torch.no_grad():
        outputs = model(**encoded)
    if "seq_relationship_logits" not in outputs:
        return
    print("does B follow A?")
    for (first, second), probability in zip(pairs, outputs.seq_relationship_logits.softmax(-1)[:, 0].tolist()):
        print(f"  {probability:4.0%}  {first} | {second}")
    print()
