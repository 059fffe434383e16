"""Tokenizers of words and of word pieces: trained reproducibly, and what masking must know of a vocabulary."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .errors import CorpusError
from .masking import MaskingVocabulary

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION_PREFIX = "##"
MAX_ALPHABET = 1000
_WORD_START_MARKS = ("▁", "Ġ")


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = True, model_max_length: int = 512
) -> PreTrainedTokenizerFast:
    """Trains a WordPiece tokenizer as BERT's: its normaliser, pre-tokenizer, special tokens and templates.

    The same text gives the same vocabulary, ids included. (The `tokenizers` library's trainer alone does not: pieces
    of one character get their ids in a hash map's order, and merges of equal count are chosen by id.)

    Args:
        texts: sentences or paragraphs; read twice, so no bare iterator. `SentencesOf(documents)` makes one.
        vocab_size: entries at most, special tokens included; fewer if the text has not so many pieces.
        lowercase: fold case and strip accents.
        model_max_length: longest sequence of the model, in tokens.

    Returns:
        A tokenizer with [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4, that `AutoTokenizer` loads again once saved.

    Raises:
        ValueError: `vocab_size` cannot hold the special tokens, or these and the characters of the text.
        CorpusError: no text.
    """
    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"vocab_size={vocab_size} must be above {len(SPECIAL_TOKENS)}, the number of special tokens "
            f"({' '.join(SPECIAL_TOKENS)})."
        )
    tokenizer = _bare_tokenizer({token: index for index, token in enumerate(SPECIAL_TOKENS)}, lowercase)
    alphabet = _alphabet(texts, tokenizer)
    # These come first and sorted, so that the trainer's ids don't depend on its hash map.
    first_entries = [*SPECIAL_TOKENS, *alphabet, *_continuations(alphabet, tokenizer)]
    if vocab_size < len(first_entries):
        raise ValueError(
            f"vocab_size={vocab_size} is too small for this text: the {len(SPECIAL_TOKENS)} special tokens and the "
            f"{len(alphabet)} different characters, at a word's head and inside, need {len(first_entries)}."
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first_entries,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION_PREFIX,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = _bare_tokenizer(tokenizer.get_vocab(), lowercase)
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return _fast_tokenizer(trained, model_max_length, ["input_ids", "token_type_ids", "attention_mask"])


def train_words(
    texts: Iterable[str],
    vocab_size: int,
    *,
    lowercase: bool = False,
    min_frequency: int = 2,
    model_max_length: int = 512,
) -> PreTrainedTokenizerFast:
    """Makes a tokenizer of whole words: what stands between spaces, from frequent to rare.

    A text is its words and nothing else; between the two of a pair comes [SEP].

    Args:
        texts: sentences or paragraphs, punctuation apart by spaces (or it is part of its word); read once.
        vocab_size: entries at most, special tokens included.
        lowercase: fold case.
        min_frequency: rarer words are [UNK], which so learns what to make of a word never seen.
        model_max_length: longest sequence of the model, in tokens.

    Returns:
        A tokenizer with [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4, that `AutoTokenizer` loads again once saved.

    Raises:
        ValueError: `vocab_size` cannot hold the special tokens and a word.
        CorpusError: no word is that frequent.
    """
    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size={vocab_size} must be above {len(SPECIAL_TOKENS)}, the number of special tokens.")
    folding = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    normalizer = normalizers.Sequence(folding)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text).split())
    words = sorted(word for word in counts if counts[word] >= min_frequency and word not in SPECIAL_TOKENS)
    if not words:
        raise CorpusError(f"The corpus holds no word at least {min_frequency} times (min_frequency).")
    words.sort(key=lambda word: -counts[word])
    entries = [*SPECIAL_TOKENS, *words][:vocab_size]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A [SEP] $B:1", special_tokens=[("[SEP]", SPECIAL_TOKENS.index("[SEP]"))]
    )
    return _fast_tokenizer(tokenizer, model_max_length, ["input_ids", "attention_mask"])


class SentencesOf:
    """All sentences of some documents, as often as they are asked for.

    Args:
        documents: rows with a column `sentences`.
    """

    def __init__(self, documents: Iterable[dict[str, list[str]]]) -> None:
        self._documents = documents

    def __iter__(self) -> Iterator[str]:
        return (sentence for document in self._documents for sentence in document["sentences"])


def _fast_tokenizer(tokenizer: Tokenizer, model_max_length: int, inputs: list[str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=model_max_length,
        model_input_names=inputs,
    )


def _bare_tokenizer(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=CONTINUATION_PREFIX)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION_PREFIX)
    return tokenizer


def _alphabet(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    """The most frequent characters of the normalised text, sorted."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    characters = [character for character in counts if not character.isspace()]
    if not characters:
        raise CorpusError("The corpus is empty: there is no text to train a tokenizer on.")
    return sorted(sorted(characters, key=lambda character: (-counts[character], character))[:MAX_ALPHABET])


def _continuations(alphabet: list[str], tokenizer: Tokenizer) -> list[str]:
    """The pieces `##x` of characters that can stand inside a word; punctuation and Chinese stand alone."""

    def joins(character: str) -> bool:
        return len(tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str("a" + character))) == 1

    return [CONTINUATION_PREFIX + character for character in alphabet if joins(character)]


def special_ids(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The ids of all special tokens, sorted, int64."""
    flagged = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return np.array(sorted(flagged | set(tokenizer.all_special_ids)), dtype=np.int64)


def continuation_table(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Which ids continue a word.

    WordPiece marks them by its prefix (`##`); SentencePiece and byte-level BPE mark the others, which begin a word.

    Returns:
        `(vocabulary,)` bool.

    Raises:
        ValueError: a tokenizer that marks neither.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    if prefix:
        return np.array([token.startswith(prefix) and len(token) > len(prefix) for token in tokens])
    for mark in _WORD_START_MARKS:
        if any(token.startswith(mark) for token in tokens):
            table = np.array([not token.startswith(mark) for token in tokens])
            table[special_ids(tokenizer)] = False
            return table
    raise ValueError(
        f"{type(tokenizer).__name__} marks neither word heads nor continuations: words cannot be told from its tokens."
    )


def masking_vocabulary(tokenizer: PreTrainedTokenizerFast) -> MaskingVocabulary:
    """What masking must know of a tokenizer's vocabulary.

    Raises:
        ValueError: the tokenizer lacks [CLS], [SEP] or [MASK], or see `continuation_table`.
    """
    missing = [name for name in ("cls_token", "sep_token", "mask_token") if getattr(tokenizer, name) is None]
    if missing:
        raise ValueError(
            f"The tokenizer has no {', '.join(missing)}: BERT's pretraining needs [CLS], [SEP] and [MASK]."
        )
    special = np.zeros(len(tokenizer), dtype=bool)
    special[special_ids(tokenizer)] = True
    return MaskingVocabulary(tokenizer.mask_token_id, special, continuation_table(tokenizer))
