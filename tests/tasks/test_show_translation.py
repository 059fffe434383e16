"""The translator's demonstration reads a model folder and prints what it does."""

from pathlib import Path

import numpy as np
import pytest

from hf_seqmodels import AttentionSeq2SeqConfig, AttentionSeq2SeqForConditionalGeneration
from hf_seqmodels.analysis.alignment import AttentionMap
from hf_seqmodels.data.dates import date_pairs
from hf_seqmodels.data.translation_tokenizers import train_characters
from hf_seqmodels.tasks.show_translation import ShowTranslationArguments, main, shaded


def test_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = date_pairs(50, 0)
    tokenizer = train_characters([*pairs["source"], *pairs["target"]])
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = AttentionSeq2SeqConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, **tokens)
    AttentionSeq2SeqForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    maps = main(ShowTranslationArguments(str(tmp_path), count=2))
    assert len(maps) == 2
    printed = capsys.readouterr().out
    assert "AttentionSeq2SeqForConditionalGeneration" in printed
    assert shaded(maps[0])[0] in printed


def test_shades() -> None:
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    found = AttentionMap(("a", "</s>"), ("b", "</s>"), weights, "b", ((0, 1), (1, 1)))
    assert shaded(found) == ["         a¶", "       b █ ", "       ¶ ▒▒"]
