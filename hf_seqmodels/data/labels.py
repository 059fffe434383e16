"""Labelled text to model inputs: label names to ids, word pieces to the tags of their words."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_seqmodels.models.losses import IGNORE_INDEX


def label_names(dataset: Dataset) -> list[str]:
    """The labels (or tags) in a dataset of `read_labelled`: numbers by value, others in alphabetical order."""
    seen: set[str] = set()
    for value in dataset["label"]:
        seen.update([value] if isinstance(value, str) else value)
    if all(name.isdecimal() for name in seen):
        return sorted(seen, key=int)
    return sorted(seen)


def encode_labels(dataset: Dataset, names: Sequence[str], source: str) -> list[Any]:
    """Label ids, one per example, or a list per example for tags.

    Raises:
        ValueError: a label that is not among `names`; says where it is.
    """
    ids = {name: index for index, name in enumerate(names)}

    def encode(name: str, line: int) -> int:
        if name not in ids:
            raise ValueError(
                f"{source}, line {line}: label {name!r} is not among those of the training data: {', '.join(names)}."
            )
        return ids[name]

    return [
        encode(value, line) if isinstance(value, str) else [encode(tag, line) for tag in value]
        for value, line in zip(dataset["label"], dataset["line"])
    ]


def encode_texts(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], source: str, max_length: int
) -> Dataset:
    """Sentences or pairs with their class ids as model inputs, unpadded; of a long pair the longer text is cut first.

    Returns:
        The tokenizer's columns (`input_ids`, …) and `labels`.
    """
    second = list(dataset["pair"]) if "pair" in dataset.column_names else None
    encoding = tokenizer(list(dataset["text"]), second, truncation=True, max_length=max_length)
    return Dataset.from_dict({**encoding, "labels": encode_labels(dataset, names, source)})


def encode_tags(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], source: str, max_length: int
) -> tuple[Dataset, int]:
    """Tagged tokens as model inputs, unpadded: the first piece of a word has its tag, other pieces and specials -100.

    Returns:
        The tokenizer's columns and `labels`; and how many words have no piece in the input, being beyond `max_length`
        or made of characters that the tokenizer drops.
    """
    encoding = tokenizer(list(dataset["text"]), is_split_into_words=True, truncation=True, max_length=max_length)
    labels: list[list[int]] = []
    lost = 0
    for row, tags in enumerate(encode_labels(dataset, names, source)):
        previous: int | None = None
        aligned: list[int] = []
        for word in encoding.word_ids(row):
            aligned.append(IGNORE_INDEX if word is None or word == previous else tags[word])
            previous = word
        labels.append(aligned)
        lost += len(tags) - sum(label != IGNORE_INDEX for label in aligned)
    return Dataset.from_dict({**encoding, "labels": labels}), lost
