"""Parallel text: every kind of file gives the same pairs, and mistakes are named with their place."""

import gzip
import json
import logging
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.parallel import ParallelSource, load_parallel

SHARED = Path("/work/shared/data")
PAIRS = [("Guten Tag.", "Good day."), ('Er sagte "ja".', 'He said "yes".'), ("안녕, 세계", "Hello, world")]
EXPECTED = {"source": [pair[0] for pair in PAIRS], "target": [pair[1] for pair in PAIRS]}


def _write(path: Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def _lines(side: int) -> str:
    return "".join(f"{pair[side]}\n" for pair in PAIRS)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_two_texts(tmp_path: Path, suffix: str) -> None:
    source = _write(tmp_path / f"a.de{suffix}", "\ufeff" + _lines(0).replace("\n", " \r\n"))
    target = _write(tmp_path / f"a.en{suffix}", _lines(1).removesuffix("\n"))
    assert load_parallel(ParallelSource(files=(source, target))).to_dict() == EXPECTED


def test_tables(tmp_path: Path) -> None:
    plain = _write(tmp_path / "a.txt", "".join(f"x\t{de}\t{en}\n" for de, en in PAIRS))
    headed = _write(tmp_path / "a.tsv.gz", "id\ten\tde\n" + "".join(f"x\t{en}\t{de}\n" for de, en in PAIRS))
    quoted = "".join('"{}","{}"\n'.format(*(text.replace('"', '""') for text in pair)) for pair in PAIRS)
    comma = _write(tmp_path / "a.csv", "de,en\n" + quoted)
    rows = [{"translation": {"en": en, "de": de}} for de, en in PAIRS]
    lines = _write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    listed = _write(tmp_path / "a.json", json.dumps(rows, indent=1))
    Dataset.from_dict(EXPECTED).to_parquet(tmp_path / "a.parquet")
    names = {"source_column": "de", "target_column": "en"}
    for source in (
        ParallelSource(files=(plain,), source_column=2, target_column="3"),
        ParallelSource(files=(headed,), **names),
        ParallelSource(files=(comma,), **names),
        ParallelSource(files=(comma,), source_column=1, target_column=2),
        ParallelSource(files=(lines,), **names),
        ParallelSource(files=(listed,), **names),
        ParallelSource(files=(str(tmp_path / "a.parquet"),)),
    ):
        assert load_parallel(source).to_dict() == EXPECTED, source


def test_datasets(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"id": 1, "translation": {"en": en, "de": de}} for de, en in PAIRS])
    DatasetDict({"train": rows.select([0]), "test": rows}).save_to_disk(tmp_path / "saved")
    source = ParallelSource(dataset_name=str(tmp_path / "saved"), split="test", source_column="de", target_column="en")
    assert load_parallel(source).to_dict() == EXPECTED
    with pytest.raises(CorpusError, match="no column 'source'; it has id, translation; translation has "):
        load_parallel(ParallelSource(dataset_name=str(tmp_path / "saved")))
    with pytest.raises(CorpusError, match="has no split 'dev'; it has train, test"):
        load_parallel(ParallelSource(dataset_name=str(tmp_path / "saved"), split="dev"))


def test_empty_sides_are_named_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = _write(tmp_path / "a.de", "eins\n \ndrei\nvier\n"), _write(tmp_path / "a.en", "one\ntwo\nthree\n\n")
    with pytest.raises(CorpusError, match=r"a\.de, line 2: empty \(2 in all\)"):
        load_parallel(ParallelSource(files=files))
    with caplog.at_level(logging.INFO, logger="hf_seqmodels"):
        pairs = load_parallel(ParallelSource(files=files, skip_empty=True))
    assert pairs.to_dict() == {"source": ["eins", "drei"], "target": ["one", "three"]}
    assert "left out 2 pairs with an empty side" in caplog.text
    with pytest.raises(CorpusError, match=r"a\.tsv, line 2, target: empty \(1 in all\)"):
        load_parallel(ParallelSource(files=(_write(tmp_path / "a.tsv", "a\tb\nc\t\n"),)))
    with pytest.raises(CorpusError, match="has no pairs"):
        load_parallel(ParallelSource(files=(_write(tmp_path / "b.tsv", "\n\n"),), skip_empty=True))


@pytest.mark.parametrize(("more", "counts"), [(0, "3 lines and .* has 5"), (1, "5 lines and .* has 3")])
def test_line_counts(tmp_path: Path, more: int, counts: str) -> None:
    texts = ["a\nb\nc\n", "a\nb\nc\n"]
    texts[1 - more] += "d\ne\n"
    files = _write(tmp_path / "a.de", texts[0]), _write(tmp_path / "a.en", texts[1])
    with pytest.raises(CorpusError, match=counts):
        load_parallel(ParallelSource(files=files, skip_empty=True))


def test_bad_files(tmp_path: Path) -> None:
    good = _write(tmp_path / "good", "a\nb\n")
    with pytest.raises(CorpusError, match=r"bad\.gz, line 2: not UTF-8 \(byte 0xe4 at column 2\)"):
        load_parallel(ParallelSource(files=(good, _write(tmp_path / "bad.gz", b"a\nM\xe4nner\n"))))
    (tmp_path / "plain.gz").write_text("a\nb\n")
    with pytest.raises(CorpusError, match=r"plain\.gz: cannot be unpacked by gzip"):
        load_parallel(ParallelSource(files=(good, str(tmp_path / "plain.gz"))))
    (tmp_path / "half.gz").write_bytes(gzip.compress(b"a\nb\n" * 100)[:-12])
    with pytest.raises(CorpusError, match=r"half\.gz: cannot be unpacked by gzip"):
        load_parallel(ParallelSource(files=(good, str(tmp_path / "half.gz"))))
    with pytest.raises(CorpusError, match="no such file"):
        load_parallel(ParallelSource(files=(good, str(tmp_path / "none"))))
    with pytest.raises(CorpusError, match="line 2: not JSON"):
        load_parallel(ParallelSource(files=(_write(tmp_path / "a.jsonl", '{"source":"a","target":"b"}\n{\n'),)))


def test_missing_columns(tmp_path: Path) -> None:
    table = _write(tmp_path / "a.tsv", "de\ten\na\tb\nc\n")
    with pytest.raises(CorpusError, match=r"no column 'fr'; its first line has de, en"):
        load_parallel(ParallelSource(files=(table,), source_column="de", target_column="fr"))
    with pytest.raises(CorpusError, match=r"a\.tsv, line 3: no column 2; apart by tabs it has 1: 'c'"):
        load_parallel(ParallelSource(files=(table,)))
    rows = _write(tmp_path / "a.jsonl", '{"de": "a", "n": 3}\n')
    with pytest.raises(CorpusError, match="line 1: no column 'en'; it has de, n"):
        load_parallel(ParallelSource(files=(rows,), source_column="de", target_column="en"))
    with pytest.raises(CorpusError, match="column 'n' holds int, not text"):
        load_parallel(ParallelSource(files=(rows,), source_column="de", target_column="n"))


def test_contradictory_sources() -> None:
    with pytest.raises(ValueError, match="give one of the two"):
        ParallelSource()
    with pytest.raises(ValueError, match="give one of the two"):
        ParallelSource(files=("a",), dataset_name="b")
    with pytest.raises(ValueError, match="two text files"):
        ParallelSource(files=("a", "b", "c"))
    with pytest.raises(ValueError, match="which have no columns"):
        ParallelSource(files=("a", "b"), source_column="de")
    with pytest.raises(ValueError, match="name both"):
        ParallelSource(files=("a.tsv",), source_column="de")


@pytest.mark.skipif(not SHARED.exists(), reason="shared data is not on this machine")
def test_shared_data() -> None:
    korean = load_parallel(ParallelSource(files=(str(SHARED / "anki_kor_eng/kor.txt"),)))
    assert len(korean) == 3798 and korean[0] == {"source": "Go.", "target": "가."}
    multi30k = SHARED / "multi30k"
    files = str(multi30k / "val.de.gz"), str(multi30k / "val.en.gz")
    assert len(load_parallel(ParallelSource(files=files))) == 1014
