"""Translating lines: their order, blank ones, batches, and mistakes."""

import io
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_seqmodels.data.translation_tokenizers import train_joint_bpe
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig
from hf_seqmodels.models.modeling_seq2seq import AttentionSeq2SeqForConditionalGeneration
from hf_seqmodels.tasks.translate import TranslateArguments, load, main, translate
from hf_seqmodels.tasks.translation_evaluation import Decoding

LINES = ["a short one", "", "a line that is quite a bit longer than the others are", "  ", "two words", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model, whose translations depend on the source."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = train_joint_bpe(LINES, 300)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = AttentionSeq2SeqConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        initializer_range=1.0,
    )
    AttentionSeq2SeqForConditionalGeneration(config).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_lines_are_translated_in_order_and_each_by_itself(folder: str, num_beams: int) -> None:
    model, tokenizer = load(folder)
    together = translate(model, tokenizer, LINES, Decoding(num_beams, 4, max_length=8))
    assert [bool(text) for text in together] == [True, False, True, False, True, True]
    assert len(set(together)) == 5  # else the order would not show
    alone = [translate(model, tokenizer, [line], Decoding(num_beams, 1, max_length=8))[0] for line in LINES]
    assert together == alone
    for line, text in zip(LINES, together):
        if line.strip():
            ids = model.generate(**tokenizer(line, return_tensors="pt"), num_beams=num_beams, max_new_tokens=8)
            assert text == " ".join(tokenizer.decode(ids[0], skip_special_tokens=True).strip().splitlines())


def test_length_follows_the_source(folder: str) -> None:
    assert Decoding().options(20)["max_new_tokens"] == 40
    assert Decoding(max_length=7).options(20)["max_new_tokens"] == 7
    assert Decoding(num_beams=1).options(4)["num_beams"] == 1


def test_files_and_standard_streams(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    main(TranslateArguments(folder, input_file=str(source), output_file=str(target), num_beams=1))
    assert len(target.read_text(encoding="utf-8").split("\n")) == len(LINES) + 1
    stdin = io.TextIOWrapper(io.BytesIO(source.read_bytes()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    main(TranslateArguments(folder, num_beams=1))
    assert capsys.readouterr().out == target.read_text(encoding="utf-8")
    main(TranslateArguments(folder, input_file=str(source), lowercase=True, num_beams=1))
    assert capsys.readouterr().out == target.read_text(encoding="utf-8")


def test_mistakes(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("fine\nUmlaut \xfc\n".encode("latin-1"))
    long = tmp_path / "long.txt"
    long.write_text("x\n" + "many words " * 50 + "\n")
    for arguments, message in (
        ({"model_name_or_path": str(tmp_path / "none")}, "is no translation model that can be loaded"),
        ({"input_file": str(tmp_path / "none")}, "no such file"),
        ({"input_file": str(latin)}, "line 2: not UTF-8"),
        ({"input_file": str(long), "max_source_length": 50}, r"Line 2 has \d+ tokens, above max_source_length=50"),
        ({"input_file": str(long), "output_file": str(tmp_path)}, "cannot be written"),
    ):
        with pytest.raises(ValueError, match=message):
            main(TranslateArguments(**{"model_name_or_path": folder, "num_beams": 1, **arguments}))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(latin.read_bytes()), encoding="utf-8"))
    with pytest.raises(ValueError, match="stdin is not UTF-8"):
        main(TranslateArguments(folder, num_beams=1))
    for wrong in ({"num_beams": 0}, {"batch_size": 0}, {"max_source_length": 1}, {"max_length": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TranslateArguments(folder, **wrong)


def test_the_tokenizer_must_mark_the_end(folder: str, tmp_path: Path) -> None:
    AutoModelForSeq2SeqLM.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its tokenizer has no eos_token"):
        load(str(tmp_path))
