"""Translating text with a trained model: lines in, lines out, in the same order."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_seqmodels.data.readers import check_readable, read_lines
from hf_seqmodels.tasks.translation_evaluation import Decoding, translate_ids

# Lines that are sorted by length together; output begins after the first so many.
_WINDOW = 4096


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class TranslateArguments:
    """Translation"""

    model_name_or_path: str = field(metadata={"help": "A trained encoder-decoder with its tokenizer."})
    input_file: str | None = _option(None, "Text, a sentence a line, perhaps packed (.gz); by default stdin.")
    output_file: str | None = _option(None, "Where the translations go; by default stdout.")
    num_beams: int = _option(5, "Beams; 1 is greedy.")
    length_penalty: float = _option(1.0, "Exponent of the length by which a beam's score is divided.")
    gnmt_length_penalty: float | None = _option(
        None, "Take the best beam by GNMT's score with this alpha (Wu et al. 2016, section 7), such as 0.6."
    )
    coverage_penalty: float = _option(
        0.0, "Beta of GNMT's score: the price of source tokens left unseen, such as 0.2."
    )
    batch_size: int = _option(32, "Sentences at a time.")
    max_length: int | None = _option(
        None, "Tokens of a translation at most; by default 1.5 times its source's and 10 more."
    )
    max_source_length: int = _option(512, "Tokens of a sentence at most.")
    lowercase: bool = _option(False, "Fold the input's case, for models of lower-case text.")

    def __post_init__(self) -> None:
        for name in ("num_beams", "batch_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.coverage_penalty < 0 or (self.coverage_penalty and self.gnmt_length_penalty is None):
            raise ValueError(
                f"coverage_penalty={self.coverage_penalty} must be at least 0, and goes with gnmt_length_penalty."
            )
        if self.max_source_length < 2:
            raise ValueError(f"max_source_length={self.max_source_length} must be at least 2: a token and its end.")


def main(args: TranslateArguments) -> None:
    """Writes a line for each line, an empty one for an empty one.

    Raises:
        ValueError: no such model or file, one that is not UTF-8, a model that is no encoder–decoder, or a sentence
            that is too long (its line is named).
    """
    if args.input_file is not None:
        check_readable(args.input_file)
    model, tokenizer = load(args.model_name_or_path)
    lines = _stdin() if args.input_file is None else read_lines(args.input_file)
    if args.output_file is None:
        _translate(model, tokenizer, lines, args, sys.stdout)
        return
    try:
        with Path(args.output_file).open("w", encoding="utf-8") as output:
            _translate(model, tokenizer, lines, args, output)
    except OSError as error:
        raise ValueError(f"output_file={args.output_file!r} cannot be written: {error.strerror}.") from error


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode, on the GPU if there is one, and its tokenizer.

    Raises:
        ValueError: there is no such model, it is no encoder–decoder, or it has no tokenizer with padding and end.
    """
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"model_name_or_path={name!r} is no translation model that can be loaded: {error}") from error
    for token in ("pad_token", "eos_token"):
        if getattr(tokenizer, token) is None:
            raise ValueError(f"model_name_or_path={name!r}: its tokenizer has no {token}.")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    decoding: Decoding,
    max_source_length: int = 512,
    first_line: int = 1,
) -> list[str]:
    """Translations in the order of the sentences; an empty one for an empty one.

    Args:
        model: in eval mode.
        tokenizer: the model's; puts `eos_token` behind a text.
        sentences: texts.
        decoding: the search.
        max_source_length: tokens of a sentence at most.
        first_line: number of the first sentence, for messages.

    Raises:
        ValueError: a sentence is longer.
    """
    given = [index for index, sentence in enumerate(sentences) if sentence.strip()]
    if not given:
        return [""] * len(sentences)
    ids: list[list[int]] = tokenizer([sentences[index].strip() for index in given], verbose=False)["input_ids"]
    for index, tokens in zip(given, ids):
        if len(tokens) > max_source_length:
            raise ValueError(
                f"Line {first_line + index} has {len(tokens)} tokens, above max_source_length={max_source_length}. "
                "Give one sentence a line, or raise the limit."
            )
    translations = [""] * len(sentences)
    for index, text in zip(given, translate_ids(model, tokenizer, ids, decoding)):
        translations[index] = " ".join(text.splitlines())  # a line stays a line
    return translations


def _translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterator[str],
    args: TranslateArguments,
    output: TextIO,
) -> None:
    decoding = Decoding(
        args.num_beams,
        args.batch_size,
        args.max_length,
        args.length_penalty,
        args.gnmt_length_penalty,
        args.coverage_penalty,
    )
    done = 0
    while window := list(islice(lines, _WINDOW)):
        sentences = [line.lower() for line in window] if args.lowercase else window
        for text in translate(model, tokenizer, sentences, decoding, args.max_source_length, done + 1):
            output.write(f"{text}\n")
        output.flush()
        done += len(window)


def _stdin() -> Iterator[str]:
    sys.stdin.reconfigure(encoding="utf-8", errors="strict")  # type: ignore[union-attr]
    line = 0
    try:
        for line, text in enumerate(sys.stdin, start=1):  # noqa: B007
            yield text.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin is not UTF-8 after line {line}: {error.reason}.") from error
