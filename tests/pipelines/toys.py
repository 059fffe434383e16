"""Toy models, saved with a tokenizer, whose answers depend on what they are given."""

import pathlib
import string
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

import hf_seqmodels

TEXT = [
    "The cat sat on the mat and the dog lay by the door.",
    "A dog chased the cat around the old house in the rain.",
    "The rain fell on the house while the cat slept on the mat.",
]


def bert_tokenizer() -> BertTokenizerFast:
    """WordPiece of the texts."""
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXT * 4, vocab_size=120, min_frequency=1, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=32)


def letter_tokenizer() -> BertTokenizerFast:
    """WordPiece that knows few words, and cuts all others into letters."""
    letters = string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", *".?", *letters]
    vocabulary = {token: index for index, token in enumerate([*words, *(f"##{letter}" for letter in letters)])}
    return BertTokenizerFast(tokenizer_object=BertWordPieceTokenizer(vocabulary)._tokenizer, model_max_length=150)


def saved_bert(head: str, tokenizer: PreTrainedTokenizerFast, folder: pathlib.Path, **fields: Any) -> tuple[Any, str]:
    """A model with weights far from zero, and where it was saved with the tokenizer."""
    torch.manual_seed(0)
    config = hf_seqmodels.SeqBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
        **{"initializer_range": 0.5, **fields},
    )
    return saved(getattr(hf_seqmodels, f"SeqBert{head}")(config), tokenizer, folder)


def saved_recurrent(
    name: str, head: str, tokenizer: PreTrainedTokenizerFast, folder: pathlib.Path, **fields: Any
) -> tuple[Any, str]:
    """A model with weights far from zero, and where it was saved with the tokenizer."""
    torch.manual_seed(0)
    config = getattr(hf_seqmodels, f"{name}Config")(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        initializer_range=2.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **fields,
    )
    return saved(getattr(hf_seqmodels, f"{name}{head}")(config), tokenizer, folder)


def saved(model: Any, processor: Any, folder: pathlib.Path) -> tuple[Any, str]:
    """A model in eval mode, and where it was saved with its tokenizer or image processor."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval(), str(folder)


def forget_unused_weights(said: list[str]) -> None:
    """Takes the report out that a file has weights for which the model has no place; of nothing else."""
    assert len(said) == 1 and "LOAD REPORT" in said[0] and "MISSING" not in said[0] and "MISMATCH" not in said[0]
    said.clear()
