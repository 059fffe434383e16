"""Images from every source: what they become, what is refused, and that nothing is done twice."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.datasets import load_digits

from hf_seqmodels.data import images as images_module
from hf_seqmodels.data.errors import CorpusError
from hf_seqmodels.data.image_dataset import ImageDataset, PixelRows
from hf_seqmodels.data.image_decoding import decode_image
from hf_seqmodels.data.images import ImageSource, channel_statistics, load_images, subset
from hf_seqmodels.data.random import Key
from hf_seqmodels.data.stratification import class_order

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0), "test": (0, 255, 0)}
PER_CLASS = 4


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four plain images, 6 × 4 pixels; one class and some files are called after splits."""
    for name, colour in COLOURS.items():
        (tmp_path / "photos [1]" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            array = np.tile(np.array(colour, dtype=np.uint8), (6, 4, 1))
            (tmp_path / "photos [1]" / name / f"{number}_train.png").write_bytes(_png(array))
    return tmp_path / "photos [1]"


def _load(source: ImageSource, size: tuple[int, int] = (6, 4), channels: int = 3, share: float = 0.25) -> Any:
    return load_images(source, size, channels, share, seed=3)


def _source(folder: Path, **settings: Any) -> ImageSource:
    return ImageSource(train_folder=str(folder), cache_dir=str(folder.parent / "cache"), **settings)


def _parquet(path: Path, images: list[Any], labels: list[Any] | None, features: Features | None = None) -> str:
    columns = {"image": images} | ({} if labels is None else {"label": labels})
    Dataset.from_dict(columns, features=features).to_parquet(str(path))
    return str(path)


def test_digits() -> None:
    splits = load_images(ImageSource(), (8, 8), 1, 0.1, seed=0)
    digits = load_digits()
    assert splits.names == [str(digit) for digit in range(10)]
    assert {split: len(dataset) for split, dataset in splits.datasets.items()} == {"train": 1437, "validation": 360}
    found = [(row["pixels"], row["label"]) for dataset in splits.datasets.values() for row in dataset]
    expected = [
        (bytes(round(value * 255 / 16) for value in image.ravel()), label)
        for image, label in zip(digits.images, digits.target.tolist())
    ]
    assert sorted(found) == sorted(expected)
    held_out = np.bincount(splits.datasets["validation"]["label"][:])
    assert abs(held_out - np.bincount(digits.target) * 360 / 1797).max() < 1
    again = load_images(ImageSource(embedded=True), (8, 8), 1, 0.5, seed=9)
    assert again.datasets["validation"]["pixels"][:] == splits.datasets["validation"]["pixels"][:]


def test_digits_without_labels_and_in_another_shape() -> None:
    splits = load_images(ImageSource(label_column=None), (12, 16), 3, 0.1, seed=0)
    assert splits.names is None
    assert splits.datasets["train"].column_names == ["pixels"]
    pixels = np.frombuffer(splits.datasets["train"][0]["pixels"], np.uint8).reshape(3, 12, 16)
    assert (pixels == pixels[0]).all()


def test_image_folder(folder: Path) -> None:
    splits = _load(_source(folder))
    assert splits.names == ["blue", "red", "test"]
    assert len(splits.datasets["train"]) == 9
    # A quarter of each class is validated on.
    assert sorted(splits.datasets["validation"]["label"][:]) == [0, 1, 2]
    for dataset in splits.datasets.values():
        for row in dataset:
            pixels = np.frombuffer(row["pixels"], np.uint8).reshape(3, 6, 4)
            assert tuple(pixels[:, 0, 0]) == COLOURS[splits.names[row["label"]]]
            assert (pixels == pixels[:, :1, :1]).all()


def test_flat_folder_is_unlabelled(folder: Path) -> None:
    splits = _load(_source(folder / "red"))
    assert splits.names is None
    assert splits.datasets["train"].column_names == ["pixels"]
    assert len(splits.datasets["train"]) == 3


def test_metadata_file_of_a_folder(folder: Path) -> None:
    lines = [f"{number}_train.png,{'ab'[number % 2]}" for number in range(PER_CLASS)]
    (folder / "red" / "metadata.csv").write_text("\n".join(["file_name,kind", *lines]))
    splits = _load(_source(folder / "red", label_column="kind"), share=0.5)
    assert splits.names == ["a", "b"]
    assert sorted(splits.datasets["validation"]["label"][:]) == [0, 1]
    with pytest.raises(CorpusError, match="red has no column 'label'; it has image, kind"):
        _load(_source(folder / "red"))


def test_validation_folder_with_one_class_keeps_its_label(folder: Path) -> None:
    validation = folder.parent / "validation"
    (validation / "red").mkdir(parents=True)
    (validation / "red" / "a.png").write_bytes((folder / "red" / "0_train.png").read_bytes())
    splits = _load(_source(folder, validation_folder=str(validation)))
    assert splits.datasets["validation"]["label"][:] == [1]
    (validation / "red").rename(validation / "violet")
    with pytest.raises(CorpusError, match=r"validation, row 1: label 'violet' is not among .*: blue, red, test"):
        _load(_source(folder, validation_folder=str(validation)))
    (validation / "violet" / "a.png").rename(validation / "a.png")
    (validation / "violet").rmdir()
    with pytest.raises(CorpusError, match="validation has no labels, while the training images have"):
        _load(_source(folder, validation_folder=str(validation)))


def test_preparation_is_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any) -> bytes:
        calls.append(arguments)
        return decode_image(*arguments)

    monkeypatch.setattr(images_module, "decode_image", counted)
    first = _load(_source(folder))
    assert len(calls) == 12
    second = _load(_source(folder))
    assert len(calls) == 12, "the images were decoded again"
    assert first.datasets["train"][:] == second.datasets["train"][:]
    _load(_source(folder), size=(3, 2))
    assert len(calls) == 24
    (folder / "red" / "new.png").write_bytes((folder / "red" / "0_train.png").read_bytes())
    assert sum(map(len, _load(_source(folder)).datasets.values())) == 13


def test_processes_make_no_difference(folder: Path) -> None:
    one = _load(_source(folder))
    two = _load(ImageSource(train_folder=str(folder), cache_dir=str(folder.parent / "cache2"), num_proc=2))
    assert one.datasets["train"][:] == two.datasets["train"][:]


@pytest.mark.parametrize("kind", ["truncated", "garbage"])
def test_corrupt_file(folder: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "red" / "2_train.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path.write_bytes(_png(noise)[:2000] if kind == "truncated" else b"no image")
    with pytest.raises(CorpusError, match=r"red/2_train\.png: the image cannot be decoded"):
        _load(_source(folder))
    splits = _load(_source(folder, on_corrupt_image="skip"))
    assert sum(map(len, splits.datasets.values())) == 11
    assert "1 of 12 images are corrupt, left out" in caplog.text


def test_corrupt_row_of_a_parquet_file(tmp_path: Path) -> None:
    good = _png(np.zeros((4, 4), dtype=np.uint8))
    features = Features({"image": ImageFeature(), "label": Value("int64")})
    path = _parquet(
        tmp_path / "a.parquet", [{"bytes": b, "path": None} for b in (good, good, b"x")], [0, 1, 0], features
    )
    source = ImageSource(train_file=path, cache_dir=str(tmp_path))
    with pytest.raises(CorpusError, match=r"a\.parquet, row 3, column 'image'"):
        _load(source)
    empty = _parquet(tmp_path / "b.parquet", [{"bytes": b"x", "path": None}], [0], features)
    with pytest.raises(CorpusError, match="has no images that can be decoded"):
        _load(ImageSource(train_file=empty, on_corrupt_image="skip", cache_dir=str(tmp_path)))


@pytest.mark.parametrize("form", ["image", "struct", "bytes"])
def test_parquet_round_trip(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (5, 7, 3), dtype=np.uint8) for _ in range(6)]
    contents = [_png(array) for array in arrays]
    values = contents if form == "bytes" else [{"bytes": content, "path": None} for content in contents]
    features = Features({"image": ImageFeature(), "label": Value("string")}) if form == "image" else None
    labels = ["ten", "two", "ten", "two", "two", "ten"]
    train = _parquet(tmp_path / "train.parquet", values, labels, features)
    test = _parquet(tmp_path / "test.parquet", values[:2], labels[:2], features)
    splits = _load(ImageSource(train_file=train, validation_file=test, cache_dir=str(tmp_path)), (5, 7))
    assert splits.names == ["ten", "two"]
    dataset = ImageDataset(splits.datasets["train"], (3, 5, 7), seed=0)
    for index, array in enumerate(arrays):
        example = dataset[Key(0, 0, index)]
        assert np.array_equal(example["image"].numpy(), array.transpose(2, 0, 1))
        assert example["label"] == splits.names.index(labels[index])


@pytest.mark.parametrize("splits", [False, True], ids=["one split", "several"])
def test_saved_to_disk(tmp_path: Path, splits: bool) -> None:
    table = Dataset.from_dict({"image": [[[1, 2], [3, 4]]] * 6, "label": [0, 1] * 3})
    saved = DatasetDict({"train": table, "validation": table.select(range(2))}) if splits else table
    saved.save_to_disk(str(tmp_path / "saved"))
    loaded = _load(ImageSource(dataset_name=str(tmp_path / "saved")), (2, 2), 1, 0.34).datasets
    assert {split: len(part) for split, part in loaded.items()} == {"train": 6 if splits else 4, "validation": 2}


def test_arrays_of_five_channels(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(number).integers(0, 256, (4, 6, 5)) for number in range(4)]
    path = _parquet(tmp_path / "a.parquet", [array.tolist() for array in arrays], [0, 2, 0, 2])
    splits = _load(ImageSource(train_file=path, cache_dir=str(tmp_path)), (4, 6), 5)
    assert splits.names == ["0", "1", "2"]
    rows = {row["pixels"] for dataset in splits.datasets.values() for row in dataset}
    assert rows == {array.transpose(2, 0, 1).astype(np.uint8).tobytes() for array in arrays}


def test_a_test_set_with_hidden_labels_is_left_out(tmp_path: Path) -> None:
    image = np.zeros((4, 4), dtype=np.uint8).tolist()
    paths = {
        f"{split}_file": _parquet(tmp_path / f"{split}.parquet", [image] * 4, labels)
        for split, labels in {"train": [0, 1, 0, 1], "test": [-1] * 4}.items()
    }
    assert set(_load(ImageSource(**paths, cache_dir=str(tmp_path)), (4, 4), 1).datasets) == {"train", "validation"}


def test_resizing_keeps_the_aspect_ratio() -> None:
    """As when the shorter side is brought to size and the rest is cut off; to within rounding."""
    y, x = np.mgrid[:10, :40]
    wide = (128 + 60 * np.sin(0.7 * x + 0.4 * y)).astype(np.uint8)  # never beyond a byte, where passes are cut off
    resized = np.asarray(Image.fromarray(wide).resize((80, 20), Image.Resampling.BICUBIC)).astype(int)
    fitted = np.frombuffer(decode_image(_png(wide), (20, 40), 1), np.uint8).reshape(20, 40)
    assert abs(fitted - resized[:, 20:60]).max() <= 1
    tall = decode_image(_png(np.ascontiguousarray(wide.T)), (40, 20), 1)
    assert abs(np.frombuffer(tall, np.uint8).reshape(40, 20).T.astype(int) - fitted).max() <= 1
    array = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert decode_image(array, (9, 11), 3) == decode_image(_png(array), (9, 11), 3)
    assert decode_image(array, (6, 5), 3) == decode_image(_png(array), (6, 5), 3)


def test_modes_orientation_and_depth() -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    assert decode_image(_png(deep), (8, 8), 1) == (deep >> 8).astype(np.uint8).tobytes()
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    picture.save(buffer, "PNG", exif=exif)
    turned = np.rot90(np.asarray(picture), -1)
    assert decode_image(buffer.getvalue(), (4, 3), 1) == turned.tobytes()
    buffer = io.BytesIO()
    picture.convert("P").save(buffer, "GIF")
    assert decode_image(buffer.getvalue(), (3, 4), 3) == np.asarray(picture)[None].repeat(3, 0).tobytes()


@pytest.mark.parametrize(
    ("value", "channels", "message"),
    [
        (None, 1, "there is no image"),
        ({"bytes": None, "path": None}, 1, "there is no image"),
        (np.zeros((4, 4, 2), dtype=np.uint8), 3, r"shape \(4, 4, 2\)"),
        (np.full((4, 4), 256), 1, "integers in 0..255"),
        (np.zeros((4, 4)), 1, "integers in 0..255"),
        (_png(np.zeros((4, 4), dtype=np.uint8)), 5, "5 channels"),
    ],
)
def test_refuses_what_is_no_image(value: Any, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_image(value, (4, 4), channels)


def test_refuses_sources(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such folder"):
        _load(ImageSource(train_folder=str(tmp_path / "nowhere")))
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "a" / "notes.txt").write_text("no image")
    with pytest.raises(CorpusError, match="empty has no images"):
        _load(ImageSource(train_folder=str(tmp_path / "empty")))
    (folder / "stray.png").write_bytes((folder / "red" / "0_train.png").read_bytes())
    with pytest.raises(CorpusError, match="at different depths"):
        _load(_source(folder))
    with pytest.raises(CorpusError, match=r"no\.parquet: no such file"):
        _load(ImageSource(train_file=str(tmp_path / "no.parquet")))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(CorpusError, match=r"broken\.parquet cannot be read"):
        _load(ImageSource(train_file=str(tmp_path / "broken.parquet"), cache_dir=str(tmp_path)))
    path = _parquet(tmp_path / "a.parquet", [[[1, 2], [3, 4]]] * 3, None)
    with pytest.raises(
        CorpusError, match=r"no column 'label'; it has image\. Name one with label_column, or label_co"
    ):
        _load(ImageSource(train_file=path, cache_dir=str(tmp_path)))
    with pytest.raises(CorpusError, match="no column 'img'; it has image"):
        _load(ImageSource(train_file=path, image_column="img", label_column=None, cache_dir=str(tmp_path)))
    with pytest.raises(ValueError, match=r"validation_share=0\.1 of 3 training images"):
        _load(ImageSource(train_file=path, label_column=None, cache_dir=str(tmp_path)), (2, 2), 1, 0.1)
    path = _parquet(tmp_path / "b.parquet", [[[1, 2], [3, 4]]] * 3, [0, 1, -1])
    with pytest.raises(CorpusError, match="label -1 in column 'label' must be"):
        _load(ImageSource(train_file=path, cache_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedded": True, "train_file": "a"}, "embedded and files: give one"),
        ({"train_folder": "a", "dataset_name": "b"}, "folders and dataset_name: give one"),
        ({"test_folder": "a"}, "train_folder is missing beside test_folder"),
        ({"on_corrupt_image": "ignore"}, "on_corrupt_image='ignore' must be one of stop, skip"),
        ({"num_proc": 0}, "num_proc=0"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSource(**settings)


def _prepared(images: np.ndarray, labels: list[int] | None = None) -> Dataset:
    columns = {"pixels": [image.tobytes() for image in images]} | ({} if labels is None else {"label": labels})
    return Dataset.from_dict(columns)


def test_channel_statistics() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    images[:, 2] = 51
    mean, std = channel_statistics(_prepared(images), (3, 4, 5))
    scaled = images / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std[:2], scaled.std((0, 2, 3))[:2], rtol=1e-12)
    assert std[2] == 1


def test_subset_is_balanced_and_nested() -> None:
    labels = [0] * 50 + [1] * 30 + [2] * 4
    dataset = _prepared(np.arange(84, dtype=np.uint8).reshape(84, 1), labels)
    small, large = subset(dataset, 9, seed=1), subset(dataset, 0.25, seed=1)
    assert np.bincount(small["label"][:]).tolist() == [3, 3, 3]
    assert sorted(np.bincount(large["label"][:]).tolist()) == [4, 8, 9]
    assert set(small["pixels"][:]) < set(large["pixels"][:])
    assert set(subset(dataset, 9, seed=2)["pixels"][:]) != set(small["pixels"][:])
    with pytest.raises(ValueError, match="size=100 makes 100 of 84"):
        subset(dataset, 100, seed=1)


def test_class_order_keeps_proportions() -> None:
    labels = np.repeat(np.arange(3), [60, 30, 10])
    order = class_order(labels, np.random.default_rng(0), equal=False)
    assert sorted(order) == list(range(100))
    for count in (10, 37, 90):
        assert abs(np.bincount(labels[order[:count]], minlength=3) - count * np.array([0.6, 0.3, 0.1])).max() <= 1


def test_pixel_rows_of_selections_and_pieces(tmp_path: Path) -> None:
    images = np.arange(60, dtype=np.uint8).reshape(20, 3)
    table = _prepared(images)
    table.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    for dataset in (table, Dataset.load_from_disk(str(tmp_path / "saved"))):
        order = [7, 3, 19, 0, 3]
        assert [PixelRows(dataset, 3)[row].tolist() for row in range(20)] == images.tolist()
        rows = PixelRows(dataset.select(order), 3)
        assert [rows[row].tolist() for row in range(len(rows))] == images[order].tolist()
        rows = PixelRows(dataset.select(range(5, 18)), 3)
        assert [rows[row].tolist() for row in range(len(rows))] == images[5:18].tolist()
    with pytest.raises(ValueError, match=r"have \[3\] bytes, not 4"):
        PixelRows(table, 4)
