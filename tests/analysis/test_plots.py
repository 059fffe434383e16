"""Figures: everything is drawn, in its place, without matplotlib's global state; and the error without matplotlib."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from hf_seqmodels.analysis import PrincipalFilters, Reconstruction, plots


def test_a_mosaic_has_every_tile_in_its_place() -> None:
    similarity = np.random.uniform(-1, 1, (4, 3, 4, 3))
    (panel, _) = plots.positions_figure(similarity, patch_size=(2, 4)).axes
    (drawn,) = panel.images
    picture = np.asarray(drawn.get_array().filled(np.nan))
    tile_height, tile_width = 4 + 1, 3 + 1
    for row, column in np.ndindex(4, 3):
        corner = picture[row * tile_height :, column * tile_width :][:4, :3]
        np.testing.assert_array_equal(corner, similarity[row, column])
    assert np.isnan(picture).sum() == picture.size - similarity.size
    # A tile's centre is a whole number, and a patch as wide and as high as it is in the image.
    left, right, bottom, top = drawn.get_extent()
    assert left == pytest.approx(-0.5 * 3 / tile_width) and top == pytest.approx(-0.5 * 4 / tile_height)
    cell_height, cell_width = (bottom - top) / picture.shape[0], (right - left) / picture.shape[1]
    assert panel.get_aspect() * cell_height / cell_width == pytest.approx(2 / 4)


@pytest.mark.parametrize("num_channels", [1, 3, 5])
@pytest.mark.parametrize("count", [1, 7])
def test_every_image_is_drawn(count: int, num_channels: int) -> None:
    images = np.random.rand(count, 8, 12, num_channels).astype(np.float32)
    figure = plots.rollout_figure(images, np.random.rand(count, 4, 3))
    *panels, _ = figure.axes
    drawn = [len(panel.images) for panel in panels]
    assert drawn == [1, 2] * count + [0, 0] * (len(panels) // 2 - count)
    reconstruction = Reconstruction(images, images, images, images, np.zeros((count, 4, 3), bool))
    panels = plots.reconstruction_figure(reconstruction).axes
    assert [len(panel.images) for panel in panels] == [1] * 4 * count
    shown = np.asarray(panels[0].images[0].get_array())
    expected = {1: images[0, ..., 0], 3: images[0], 5: images[0].mean(-1)}[num_channels]
    np.testing.assert_array_equal(shown, expected)


def test_heads_are_shown_relative_to_their_mean() -> None:
    maps = np.full((2, 3, 4, 3), 0.01)
    maps[1, 2, 0, 0] = 0.0  # a patch without any weight is no -inf
    figure = plots.heads_figure(np.zeros((8, 12, 3)), maps)
    picture = figure.axes[1].images[0].get_array()
    assert np.isfinite(picture.compressed()).all()
    np.testing.assert_allclose(picture[:4, :3], 0, atol=1e-6)


def test_distances_and_filters() -> None:
    distance = np.array([[1.0, 2.0], [3.0, np.nan]])
    panel = plots.distance_figure(distance).axes[0]
    assert panel.get_ylim()[1] > 3
    drawn = np.concatenate([dots.get_offsets().filled(np.nan) for dots in panel.collections])
    np.testing.assert_array_equal(drawn, [[1, 1], [2, 3], [1, 2], [np.nan, np.nan]])
    filters = np.random.randn(9, 2, 4, 1)
    panels = plots.filters_figure(PrincipalFilters(filters, np.full(9, 1 / 9))).axes
    assert sum(len(panel.images) for panel in panels) == 9


def test_pyplot_knows_nothing_of_it(tmp_path: Path) -> None:
    plots.distance_figure(np.ones((1, 1))).savefig(tmp_path / "distance.png")
    assert not Gcf.get_all_fig_managers()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "hf_seqmodels.analysis.plots")
    with pytest.raises(ImportError, match=re.escape("needs the extra: pip install 'hf_seqmodels[plot]'.")):
        importlib.import_module("hf_seqmodels.analysis.plots")
