"""Tokenizers of encoder-decoders: one vocabulary for both sides, of subwords or of characters."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from .errors import CorpusError

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
# In the order of their ids, which the models' configurations share.
TRANSLATION_SPECIAL_TOKENS = (PAD, BOS, EOS, UNK)
_NUM_BYTES = 256


def train_joint_bpe(texts: Iterable[str], vocab_size: int, lowercase: bool = False) -> PreTrainedTokenizerFast:
    """Trains byte-level BPE on sources and targets together (Sennrich et al. 2016, section 3.2.1).

    Every text is put behind a space, so that a word has the same pieces at the beginning of a sentence and inside;
    decoding takes that space away and so gives each text back as it was, folded case apart. `</s>` is put behind each
    text, source or target. Nothing is ever `<unk>`. The same texts give the same vocabulary, ids included.

    Args:
        texts: of both sides; read once.
        vocab_size: entries at most: 4 special tokens, 256 bytes and the pieces learnt.
        lowercase: fold case, here and whenever the tokenizer is used.

    Returns:
        A tokenizer with `<pad>`, `<s>`, `</s>` and `<unk>` as ids 0 to 3, that `AutoTokenizer` loads once saved.

    Raises:
        ValueError: `vocab_size` cannot hold the special tokens and the bytes.
        CorpusError: no text.
    """
    smallest = _NUM_BYTES + len(TRANSLATION_SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} must be at least {smallest}: the special tokens and all bytes.")
    folding = [normalizers.Lowercase()] if lowercase else []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([*folding, normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # The first decoder makes one string of the pieces; the second takes the space in front of it away.
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(TRANSLATION_SPECIAL_TOKENS),
        initial_alphabet=sorted(bytes_to_unicode().values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer)
    return _fast_tokenizer(tokenizer)


def train_characters(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Makes a tokenizer of characters, spaces among them, for sources and targets together.

    Each character of a text is a token, so that an attention map has a row or column for each. `</s>` is put behind
    each text; a character that `texts` had not is `<unk>`.

    Args:
        texts: of both sides; read once.

    Returns:
        A tokenizer with `<pad>`, `<s>`, `</s>` and `<unk>` as ids 0 to 3 and the characters sorted behind them, that
        `AutoTokenizer` loads once saved.

    Raises:
        CorpusError: no text.
    """
    counts: Counter[str] = Counter()
    for text in _not_empty(texts):
        counts.update(text)
    vocabulary = {token: index for index, token in enumerate([*TRANSLATION_SPECIAL_TOKENS, *sorted(counts)])}
    # BPE without merges is what cuts a text into characters.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNK))
    tokenizer.decoder = decoders.Fuse()
    return _fast_tokenizer(tokenizer)


def _not_empty(texts: Iterable[str]) -> Iterable[str]:
    found = False
    for text in texts:
        found = found or bool(text.strip())
        yield text
    if not found:
        raise CorpusError("The corpus is empty: there is no text to train a tokenizer on.")


def _fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}",
        pair=f"$A {EOS} $B:1 {EOS}:1",
        special_tokens=[(EOS, TRANSLATION_SPECIAL_TOKENS.index(EOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        # "</s>" in a text is four characters like any other.
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
