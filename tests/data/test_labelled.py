"""Labelled files of every format, the task embedded in Python, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_seqmodels.data.docstrings import embedded_classification
from hf_seqmodels.data.labelled import Columns, read_labelled
from hf_seqmodels.data.labelled_splits import from_dataset_dict, from_datasets, from_files
from hf_seqmodels.data.labels import encode_tags, encode_texts, label_names
from hf_seqmodels.data.tokenizers import train_wordpiece

TAGGING = Columns(task="tagging", text="tokens", label="tags")
PAIRS = Columns(text="a", label="y", pair="b")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name, content",
    [
        ("x.csv", 'a,b,y\n"one, two",three,1\n"four\nlines",five,0\n'),
        ("x.tsv", 'a\tb\ty\none, two\tthree\t1\n"four\nlines"\tfive\t0\n'),
        ("x.jsonl", '{"a": "one, two", "b": "three", "y": 1}\n\n{"a": "four\\nlines", "b": "five", "y": 0}\n'),
        ("x.json", '[{"a": "one, two", "b": "three", "y": 1},\n {"a": "four\\nlines", "b": "five", "y": 0}]'),
    ],
)
def test_pairs_in_every_table_format(tmp_path: Path, name: str, content: str) -> None:
    dataset = read_labelled(write(tmp_path / name, content), PAIRS)
    assert dataset["text"][:] == ["one, two", "four\nlines"] and dataset["pair"][:] == ["three", "five"]
    assert dataset["label"][:] == ["1", "0"] and label_names(dataset) == ["0", "1"]


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"tokens": [["a", "b"], ["c"]], "tags": [["O", "B-X"], ["O"]]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    dataset = read_labelled(tmp_path / "x.parquet", TAGGING)
    assert dataset["text"][:] == [["a", "b"], ["c"]] and dataset["label"][:] == [["O", "B-X"], ["O"]]


def test_two_columns_keep_the_line_numbers(tmp_path: Path) -> None:
    dataset = read_labelled(write(tmp_path / "stsa.binary.train", "\ufeff1 a b\n\n0  c\u2028d \r\n"), Columns())
    assert dataset["text"][:] == ["a b", "c\u2028d"] and dataset["label"][:] == ["1", "0"]
    assert dataset["line"][:] == [1, 3]


def test_conll_columns(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\t\nPeter\tB-PER\n"
    dataset = read_labelled(write(tmp_path / "x.conll", text), TAGGING)
    assert dataset["text"][:] == [["EU", "rejects"], ["Peter"]]
    assert dataset["label"][:] == [["B-ORG", "O"], ["B-PER"]] and dataset["line"][:] == [3, 6]


@pytest.mark.parametrize(
    "name, content, columns, expected",
    [
        ("x.csv", "a,b,y\n1,2,\n", PAIRS, r"x\.csv, line 2: column 'y' is empty"),
        ("x.csv", "a,b\n1,2\n", PAIRS, r"line 2: no column 'y'; it has a, b\. Name the columns: --text_column"),
        ("x.csv", "a,b,y\n1,2,3,4\n", PAIRS, "line 2: more fields than the header's 3"),
        ("x.csv", 'a,b,y\n"l\nm",2,3\n1,2,\n', PAIRS, "line 4: column 'y' is empty"),
        ("x.csv", "a,b,y\n", PAIRS, "holds no examples"),
        ("x.jsonl", '{"text": "a", "label": 1}\n{"text"\n', Columns(), "line 2: not JSON"),
        ("x.jsonl", "3\n", Columns(), "line 1: expected an object"),
        ("x.jsonl", '{"text": "", "label": 1}\n', Columns(), "line 1: column 'text' is empty"),
        ("x.jsonl", '{"tokens": ["a"], "tags": []}\n', TAGGING, "line 1: column 'tags' is an empty list"),
        ("x.jsonl", '{"tokens": ["a"], "tags": ["O", "O"]}\n', TAGGING, "line 1: 1 tokens but 2 tags"),
        ("x.jsonl", '{"tokens": "a", "tags": "O"}\n', TAGGING, "must hold a list"),
        ("x.jsonl", '{"text": ["a"], "label": 1}\n', Columns(), "--task tagging"),
        ("x.txt", "1 a\n0\n", Columns(), "line 2: expected a label, a space and the text, got '0'"),
        ("x.conll", "EU B-ORG\nrejects\n", TAGGING, "line 2: expected a token and its tag"),
        ("x.conll", "EU B-ORG\n", Columns(), "conll is for tagging, not for classification"),
        ("x.txt", "1 a\n", PAIRS, "two_column is for classification, not for pairs"),
        ("x.txt", b"1 good\n0 caf\xe9\n", Columns(), r"x\.txt, line 2: byte 0xe9 is not utf-8.*--encoding latin-1"),
        ("x.parquet", "nonsense", TAGGING, r"x\.parquet can't be read as parquet"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, columns: Columns, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        read_labelled(write(tmp_path / name, content), columns)


def test_other_encodings_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", b"0 caf\xe9\n")
    assert read_labelled(path, Columns(), encoding="latin-1")["text"][:] == ["caf\xe9"]
    with pytest.raises(ValueError, match="encoding='latin-99' is not known"):
        read_labelled(path, Columns(), encoding="latin-99")
    with pytest.raises(ValueError, match=r"missing\.txt can't be read: No such file"):
        read_labelled(tmp_path / "missing.txt", Columns())


def test_datasets_with_class_labels_and_hidden_tests(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    shown = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    hidden = Dataset.from_dict({"text": ["c"], "label": [-1]}, features=features)
    splits = from_dataset_dict(DatasetDict(train=shown, validation=shown, test=hidden), Columns(), "d")
    assert splits.names == ["no", "yes"] and list(splits.datasets) == ["train", "validation"]
    assert splits.datasets["train"]["label"][:] == ["yes", "no"]
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-X"]))})
    tagged = Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, 0]]}, features=features)
    splits = from_dataset_dict(DatasetDict(train=tagged), TAGGING, "d")
    assert splits.datasets["train"]["label"][:] == [["B-X", "O"]] and splits.names == ["O", "B-X"]
    with pytest.raises(ValueError, match="1 examples leave none"):
        splits.with_validation(0.1, seed=0)
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    assert from_datasets(str(tmp_path / "folder"), None, Columns()).names == ["x", "y"]


def test_a_share_is_held_out_the_same_way_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "train", "".join(f"{i % 2} text {i}\n" for i in range(20)))
    splits = from_files({"train": str(path), "test": None}, Columns(), "auto", "utf-8")
    first, second = (splits.with_validation(0.2, seed=3) for _ in range(2))
    assert len(first.datasets["validation"]) == 4
    assert first.datasets["validation"]["line"][:] == second.datasets["validation"]["line"][:]
    lines = {*first.datasets["train"]["line"], *first.datasets["validation"]["line"]}
    assert lines == set(range(1, 21))


def test_word_pieces_get_the_tag_of_their_word_once() -> None:
    tokenizer = train_wordpiece(["ab ab ab cd abcd"], 40)
    rows: dict[str, Any] = {"text": [["ab", "dcba", "\u200b", "cd"]], "label": [["B-X", "I-X", "O", "O"]], "line": [1]}
    dataset = Dataset.from_dict(rows, features=TAGGING.features())
    encoded, lost = encode_tags(dataset, tokenizer, ["O", "B-X", "I-X"], "d", max_length=32)
    pieces, labels = tokenizer.convert_ids_to_tokens(encoded[0]["input_ids"]), encoded[0]["labels"]
    assert pieces[0] == "[CLS]" and pieces[-1] == "[SEP]" and len(pieces) == len(labels) > 5
    by_piece = [(piece, label) for piece, label in zip(pieces, labels) if label != -100]
    assert [label for _, label in by_piece] == [1, 2, 0] and not any(piece.startswith("##") for piece, _ in by_piece)
    assert lost == 1  # the zero-width space has no piece
    encoded, lost = encode_tags(dataset, tokenizer, ["O", "B-X", "I-X"], "d", max_length=3)
    assert len(encoded[0]["labels"]) == 3 and lost == 3


def test_pairs_become_two_segments() -> None:
    tokenizer = train_wordpiece(["ab ab ab cd abcd"], 40)
    rows = {"text": ["ab"], "pair": ["cd"], "label": ["y"], "line": [1]}
    encoded = encode_texts(Dataset.from_dict(rows), tokenizer, ["n", "y"], "d", max_length=32)[0]
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] ab [SEP] cd [SEP]" and encoded["labels"] == 1
    assert sorted(set(encoded["token_type_ids"])) == [0, 1]


def test_embedded_task_from_a_small_library(tmp_path: Path) -> None:
    for number in range(40):
        body = f'class A{number}:\n    """A thing numbered {number}.\n\n    More."""\n\n    def f(self):\n'
        body += f'        """Return\n        the {number}th thing."""\n'
        write(tmp_path / f"m{number}.py", body)
    write(tmp_path / "broken.py", "def (")
    data = embedded_classification(tmp_path)
    texts = [*data["train"]["text"], *data["validation"]["text"]]
    assert len(texts) == len(set(texts)) == 80 and "More" not in " ".join(texts)
    for split in data.values():
        assert 0 < sum(split["label"]) == len(split) / 2
        for text, label in zip(split["text"], split["label"]):
            assert (label == 0) == text.startswith("A thing")
    assert embedded_classification(tmp_path)["train"]["text"][:] == data["train"]["text"][:]
    with pytest.raises(ValueError, match="too few documented"):
        embedded_classification(tmp_path / "none")


def test_embedded_task_of_this_python() -> None:
    data = embedded_classification()
    assert len(data["train"]) > 1000 and len(data["validation"]) > 200
    assert data["train"].features["label"].names == ["class", "function"]
    assert not set(data["train"]["text"]) & set(data["validation"]["text"])
    assert json.dumps(data["train"]["text"][:])
