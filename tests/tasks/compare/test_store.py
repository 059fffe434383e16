"""Finished cells: kept whole, refused under other settings, a table of all."""

from pathlib import Path

import pytest

from hf_seqmodels.tasks.compare.claim import Cell
from hf_seqmodels.tasks.compare.store import Store, write_csv
from tests.tasks.compare.toys import forget

CELL = Cell("one", forget, {"lengths": (4, 8), "model": "rnn", "seed": 0})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path, "quick")
    assert not store.has(CELL)
    store.write(CELL, [{"length": 4}], 1.5)
    assert store.has(CELL) and store.read(CELL) == [{"length": 4}] and store.seconds(CELL) == 1.5
    assert not Store(tmp_path, "full").has(CELL), "each budget has cells of its own"


def test_a_half_written_cell_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, "quick")
    store.write(CELL, [], 1.0)
    store.path(CELL).rename(store.path(CELL).with_suffix(".writing"))
    assert not store.has(CELL)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path, "quick")
    store.write(CELL, [], 1.0)
    with pytest.raises(ValueError, match=r"one\.json was measured with seed=0, not 1"):
        store.has(Cell("one", forget, {**CELL.settings, "seed": 1}))
    with pytest.raises(ValueError, match="warmup=None, not 3"):
        store.has(Cell("one", forget, {**CELL.settings, "warmup": 3}))


def test_a_table_has_a_column_for_every_key(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [{"model": "lstm", "x": 1}, {"x": 2, "map": [[1, 2]], "name": 'a, "b"'}])
    lines = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["model,x,map,name", "lstm,1,,", ',2,"[[1, 2]]","a, ""b"""']
