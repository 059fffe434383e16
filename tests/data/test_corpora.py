"""Text as documents: every format read, every bad file named."""

import json
import logging
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from hf_seqmodels.data.corpora import TextSource, load_documents, split_documents
from hf_seqmodels.data.embedded import embedded_text
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.layouts import Layout, documents_from_lines, recognise_layout, sentences_of_text

WIKITEXT = Path(__file__).parents[3] / "shared" / "data" / "wikitext-2" / "valid.txt"
PROSE = [
    "The first paragraph of this text has two sentences. They run over",
    "the ends of lines, as in a letter.",
    "",
    "The second paragraph is another document. It is short, and",
    "so is this.",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def sentences(documents: Dataset | IterableDataset) -> list[list[str]]:
    return [row["sentences"] for row in documents]


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_embedded_text_is_a_real_corpus() -> None:
    documents = embedded_text()
    flat = [sentence for document in documents for sentence in document]
    assert len(documents) > 150 and len(flat) > 2000 and min(map(len, documents)) >= 2
    assert len(set(flat)) == len(flat), "a sentence in two documents may be in training and held out"
    assert not [sentence for sentence in flat if "::=" in sentence or ">>>" in sentence or "***" in sentence]
    assert sum(sentence[-1] in '.:!?)"”' for sentence in flat) > 0.96 * len(flat)


def test_one_sentence_per_line(sentence_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        documents = load_documents(TextSource(files=(str(sentence_file),)))
    assert "read as one sentence per line" in caplog.text
    assert [len(document) for document in sentences(documents)] == [d % 5 + 1 for d in range(12)]
    assert documents[1]["sentences"] == ["Sentence 0 of document 1 is here.", "Sentence 1 of document 1 is here."]


def test_raw_text_of_fixed_width(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "prose.txt", "\n".join(PROSE))
    with caplog.at_level(logging.INFO):
        found = sentences(load_documents(TextSource(files=(path,))))
    assert "raw text, split into sentences, lines joined to paragraphs" in caplog.text
    assert found == [
        [
            "The first paragraph of this text has two sentences.",
            "They run over the ends of lines, as in a letter.",
        ],
        ["The second paragraph is another document.", "It is short, and so is this."],
    ]


def test_two_blank_lines_separate_documents_where_there_are_any() -> None:
    lines = ["One here. Two here.", "", "Three. Four.", "", "", "Five. Six."]
    layout = recognise_layout(lines)
    assert layout == Layout("raw", "two blank")
    assert list(documents_from_lines(lines, layout)) == [
        ["One here.", "Two here.", "Three.", "Four."],
        ["Five.", "Six."],
    ]


def test_wikitext_titles_begin_documents() -> None:
    lines = [" ", " = One = ", " ", " First . Second . ", " = = Part = = ", " Third . ", " ", " = Two = ", " Fourth ."]
    layout = recognise_layout(lines)
    assert layout == Layout("raw", "title")
    assert list(documents_from_lines(lines, layout)) == [["First .", "Second .", "Third ."], ["Fourth ."]]


@pytest.mark.skipif(not WIKITEXT.exists(), reason="wikitext-2 is not here")
def test_wikitext_file() -> None:
    found = sentences(load_documents(TextSource(files=(str(WIKITEXT),))))
    assert len(found) == 60  # articles of the validation file
    assert found[0][1] == "It is closely related to the American lobster , H. americanus ."
    assert not [s for document in found for s in document if s.startswith("=")]
    assert 15 < sum(len(s.split()) for d in found for s in d) / sum(map(len, found)) < 30


def test_prescribed_format_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "prose.txt", "\n".join(PROSE))
    assert sentences(load_documents(TextSource(files=(path,), format="sentences"))) == [PROSE[:2], PROSE[3:]]


def test_several_files_do_not_share_a_document(tmp_path: Path) -> None:
    paths = tuple(write(tmp_path / f"{n}.txt", f"File {n} is here.\nIt goes on.") for n in range(3))
    assert len(load_documents(TextSource(files=paths))) == 3


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bom.txt").write_bytes("Hello there.\r\nBye now.\r\n".encode("utf-8-sig"))
    found = load_documents(TextSource(files=(str(tmp_path / "bom.txt"),)))
    assert sentences(found) == [["Hello there.", "Bye now."]]


ROWS = [{"text": "One here. Two here.", "id": 1}, {"text": "", "id": 2}, {"text": "Three.\nFour. Five.", "id": 3}]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet", "saved", "saved dict"])
def test_tables(kind: str, streaming: bool, tmp_path: Path) -> None:
    table = Dataset.from_list(ROWS)
    path = str(tmp_path / f"rows.{kind}")
    if kind == "json":
        write(Path(path), json.dumps(ROWS))
    elif kind == "jsonl":
        table.to_json(path)
    elif kind == "csv":
        table.to_csv(path)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        (DatasetDict({"train": table}) if kind == "saved dict" else table).save_to_disk(path)
    where = {"dataset_name": path} if kind.startswith("saved") else {"files": (path,)}
    documents = load_documents(TextSource(**where, format="raw", streaming=streaming))  # type: ignore[arg-type]
    assert isinstance(documents, IterableDataset) == streaming
    assert sentences(documents) == [["One here.", "Two here."], ["Three.", "Four.", "Five."]]


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_are_lines(streaming: bool, tmp_path: Path) -> None:
    rows = ["One here.", "Two here.", "", "Three here."]
    Dataset.from_dict({"body": rows}).save_to_disk(str(tmp_path / "lines"))
    source = TextSource(dataset_name=str(tmp_path / "lines"), text_column="body", streaming=streaming)
    assert sentences(load_documents(source)) == [["One here.", "Two here."], ["Three here."]]


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_a_dataset(streaming: bool, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS if row["text"]))
    found = load_documents(TextSource(dataset_name=str(tmp_path), streaming=streaming))
    assert sentences(found) == [["One here.", "Two here."], ["Three.", "Four.", "Five."]]


def test_streamed_file_gives_the_same_documents(sentence_file: Path) -> None:
    sources = [TextSource(files=(str(sentence_file),), streaming=streaming) for streaming in (False, True)]
    kept, streamed = (load_documents(source) for source in sources)
    assert isinstance(streamed, IterableDataset) and sentences(kept) == sentences(streamed)


def test_sentences_of_a_wrapped_row() -> None:
    assert sentences_of_text("\n".join(PROSE[:2])) == [
        "The first paragraph of this text has two sentences.",
        "They run over the ends of lines, as in a letter.",
    ]


def test_split_is_by_document_and_reproducible(embedded: Dataset) -> None:
    train, held_out = split_documents(embedded, 0.1, seed=3)
    again = split_documents(embedded, 0.1, seed=3)
    assert len(held_out) == round(0.1 * len(embedded)) and len(train) + len(held_out) == len(embedded)
    assert sentences(again[1]) == sentences(held_out)
    assert sentences(split_documents(embedded, 0.1, seed=4)[1]) != sentences(held_out)
    assert not {d[0] for d in sentences(train)} & {d[0] for d in sentences(held_out)}
    assert len(split_documents(embedded, 7)[1]) == 7


def test_split_of_a_stream_takes_the_first_documents(embedded: Dataset) -> None:
    train, held_out = split_documents(embedded.to_iterable_dataset(), 5)
    assert sentences(held_out) == embedded["sentences"][:5]
    assert sentences(train) == embedded["sentences"][5:]


@pytest.mark.parametrize(("held_out", "message"), [(0, "must be positive"), (-0.1, "must be positive")])
def test_bad_splits(held_out: float, message: str, embedded: Dataset) -> None:
    with pytest.raises(ValueError, match=message):
        split_documents(embedded, held_out)


def test_split_that_leaves_nothing(embedded: Dataset) -> None:
    with pytest.raises(ValueError, match="at least 2 must remain"):
        split_documents(embedded, len(embedded) - 1)
    with pytest.raises(ValueError, match="only a number of documents"):
        split_documents(embedded.to_iterable_dataset(), 0.1)


@pytest.mark.parametrize("streaming", [False, True])
def test_other_encoding_is_named_with_its_line(streaming: bool, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"A line.\n" * 3000 + "Ein schöner Tag.\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin.txt, line 3001: not UTF-8 \(byte 0xf6 at column 8\)"):
        sentences(load_documents(TextSource(files=(str(path),), streaming=streaming)))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_tables_of_other_encoding(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    good = b'{"text": "One. Two."}\n' if kind == "jsonl" else b"text\nOne. Two.\n"
    path.write_bytes(good + "Sch\xf6n".encode("latin-1"))
    with pytest.raises(CorpusError, match=rf"rows.{kind}, line [23]: not UTF-8"):
        load_documents(TextSource(files=(str(path),)))


def test_broken_json_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"text": "One. Two."}\n{"text": oops}\n')
    with pytest.raises(CorpusError, match=r"rows.jsonl, line 2: not JSON"):
        load_documents(TextSource(files=(path,)))


def test_broken_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", "no parquet at all")
    with pytest.raises(CorpusError, match=r"rows.parquet cannot be read"):
        load_documents(TextSource(files=(path,)))


@pytest.mark.parametrize("streaming", [False, True])
def test_missing_files_folders_and_columns(streaming: bool, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere.txt: no such file"):
        load_documents(TextSource(files=(str(tmp_path / "nowhere.txt"),), streaming=streaming))
    with pytest.raises(CorpusError, match="is not a file"):
        load_documents(TextSource(files=(str(tmp_path),), streaming=streaming))
    path = write(tmp_path / "rows.jsonl", '{"body": "One.", "id": 3}\n')
    with pytest.raises(CorpusError, match="no column 'text'; it has body, id"):
        load_documents(TextSource(files=(path,), streaming=streaming))
    with pytest.raises(CorpusError, match="column 'id' holds int, not text"):
        load_documents(TextSource(files=(path,), text_column="id", streaming=streaming))


@pytest.mark.parametrize(("name", "content"), [("empty.txt", ""), ("blank.txt", " \n\n\t\n"), ("rows.csv", "text\n")])
def test_empty_corpus(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus is empty"):
        load_documents(TextSource(files=(write(tmp_path / name, content),)))


def test_mixed_kinds_and_contradictions(tmp_path: Path) -> None:
    paths = (write(tmp_path / "a.txt", "One."), write(tmp_path / "b.csv", "text\nTwo."))
    with pytest.raises(CorpusError, match="several kinds"):
        load_documents(TextSource(files=paths))
    with pytest.raises(ValueError, match="give one of the two"):
        TextSource(files=paths, dataset_name="x")
    with pytest.raises(ValueError, match="format='prose' must be one of auto, sentences, raw"):
        TextSource(format="prose")
    with pytest.raises(CorpusError, match="no split 'test'; it has train"):
        DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
        load_documents(TextSource(dataset_name=str(tmp_path / "saved"), split="test"))
