"""Tokenizers of language models: bytes, byte-level subwords, or words; and text to one array of ids."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .errors import CorpusError

TOKENIZATIONS = ("byte", "subword", "word")
PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
_NUM_BYTES = 256
# Pieces of text are encoded together; longer ones gain nothing and hold more in memory.
_PIECE = 10_000
_PIECES_AT_A_TIME = 100
# A line end between two visible characters: no pre-tokenizer here joins what is before it to what is after it.
_SAFE_CUT = re.compile(r"(?<=\S)\n(?=\S)")


def train_lm_tokenizer(
    texts: Iterable[str], tokenization: str, vocab_size: int, *, bos: bool = False
) -> PreTrainedTokenizerFast:
    """Makes a tokenizer with `<pad>`, `<bos>` and `<eos>`. The same text gives the same vocabulary, ids included.

    Args:
        texts: to train on; read once. "byte" reads nothing.
        tokenization: "byte": ids 0 to 255 are the bytes of UTF-8, the special tokens come behind. "subword":
            byte-level BPE (Sennrich et al. 2016; Radford et al. 2019). Both give every text back as it was. "word":
            what stands between spaces, from frequent to rare, with `<eos>` at the end of each line and `<unk>` for the
            rest, as is the convention for the Penn Treebank and WikiText.
        vocab_size: entries at most, special tokens included; not for bytes, which are 259.
        bos: puts `<bos>` before each text that is tokenised with special tokens: for models of whole documents.

    Raises:
        ValueError: an unknown tokenization, or a `vocab_size` that cannot hold what must be in it.
        CorpusError: no text.
    """
    if tokenization == "byte":
        tokenizer = _byte_level(models.BPE(vocab=_byte_vocabulary(), merges=[]), use_regex=False)
        tokenizer.add_special_tokens([PAD, BOS, EOS])
    elif tokenization == "subword":
        tokenizer = _train_subwords(texts, vocab_size)
    elif tokenization == "word":
        tokenizer = _train_words(texts, vocab_size)
    else:
        raise ValueError(f"tokenization={tokenization!r} must be one of {', '.join(TOKENIZATIONS)}.")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK if tokenization == "word" else None,
        # Elsewhere "<eos>" in a text is five characters like any other.
        split_special_tokens=tokenization != "word",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _byte_level(model: models.BPE, use_regex: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_vocabulary() -> dict[str, int]:
    """Each byte's printable stand-in -> the byte."""
    return {character: byte for byte, character in bytes_to_unicode().items()}


def _train_subwords(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    specials = [PAD, BOS, EOS]
    if vocab_size < _NUM_BYTES + len(specials):
        raise ValueError(f"vocab_size={vocab_size} must be at least {_NUM_BYTES + len(specials)}: the bytes and more.")
    tokenizer = _byte_level(models.BPE(), use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(_byte_vocabulary()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    return tokenizer


def _train_words(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    specials = [PAD, BOS, EOS, UNK]
    if vocab_size <= len(specials):
        raise ValueError(f"vocab_size={vocab_size} must be above {len(specials)}: the special tokens and words.")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    for special in specials:
        counts.pop(special, None)
    if not counts:
        raise CorpusError("The corpus is empty: there is no text to train a tokenizer on.")
    words = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - len(specials)]
    vocabulary = {word: index for index, word in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = normalizers.Replace("\n", f" {EOS} ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _pieces(text: str) -> Iterator[str]:
    """A text cut where no token can lie across, into pieces of some thousand characters where it has such places."""
    start = 0
    for cut in _SAFE_CUT.finditer(text):
        if cut.end() - start >= _PIECE:
            yield text[start : cut.end()]
            start = cut.end()
    if start < len(text):
        yield text[start:]


def tokenize_texts(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[np.ndarray]:
    """The ids of each text, `(tokens,)` int32, without special tokens of the tokenizer's own."""
    for text in texts:
        pieces = list(_pieces(text))
        ids: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
        for first in range(0, len(pieces), _PIECES_AT_A_TIME):
            encoded = tokenizer(
                pieces[first : first + _PIECES_AT_A_TIME],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
            ids += [np.array(piece, dtype=np.int32) for piece in encoded]
        yield np.concatenate(ids)
