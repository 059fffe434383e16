"""Figures as pieces of a page: each panel an inline SVG whose text is text, in the reader's own fonts."""

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG, RendererSVG
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

_POINTS = 72  # an inch; a unit of the SVG
_MARGIN = 5  # points around a panel
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a85",
    "axes.labelcolor": "#33332f",
    "xtick.color": "#55554f",
    "ytick.color": "#55554f",
    "text.color": "#33332f",
    "grid.color": "#c8c8c2",
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Args:
        svg: an `<svg>` element.
        width: in points, of its view box; panels of one row are of equal height.
    """

    svg: str
    width: float


@contextmanager
def page_style() -> Iterator[None]:
    """How figures look that are made inside."""
    with matplotlib.rc_context(_STYLE):
        yield


def svg_panels(figure: Figure, name: str, title: str) -> list[Panel]:
    """Draws a figure of one or several panels, one SVG for each, so that they fit beside or below each other.

    Args:
        figure: it is laid out, and stays so.
        name: prefix of every id, different for each figure of a page.
        title: what those are told who do not see it.

    Returns:
        The panels, row by row; one if its axes are not cells of one grid.
    """
    figure.dpi = _POINTS
    renderer = _Canvas(figure).get_renderer()
    figure.draw(renderer)
    figure.set_layout_engine("none")
    groups = _groups(figure, renderer)
    panels = []
    for number, (axes, box) in enumerate(groups, start=1):
        hidden = [other for other in figure.axes if other not in axes and other.get_visible()]
        for other in hidden:
            other.set_visible(False)
        prefix = f"{name}-{number}" if len(groups) > 1 else name
        panels.append(_draw(figure, box, prefix, title if len(groups) == 1 else f"{title} ({number}/{len(groups)})"))
        for other in hidden:
            other.set_visible(True)
    return panels


class _Renderer(RendererSVG):
    """Measures East Asian letters, which matplotlib's own font lacks, as wide as the fonts of readers draw them."""

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        wide = "".join("W" if unicodedata.east_asian_width(letter) in "WF" else letter for letter in s)
        return super().get_text_width_height_descent(wide, prop, ismath)


class _Canvas(FigureCanvasSVG):
    def get_renderer(self) -> _Renderer:
        """What figures are measured by as they are laid out."""
        width, height = self.figure.get_size_inches() * _POINTS
        return _Renderer(width, height, io.StringIO(), image_dpi=2 * _POINTS)


def _groups(figure: Figure, renderer: RendererSVG) -> list[tuple[list[Axes], Bbox]]:
    """Axes that belong together, such as a panel and its colour bar, with their part of the figure."""
    visible = [axes for axes in figure.axes if axes.get_visible()]
    whole = [(visible, Bbox.from_bounds(0, 0, *(figure.get_size_inches() * _POINTS)))]
    cells: dict[tuple[int, int], list[Axes]] = {}
    bars = {
        bar.ax: axes
        for axes in visible
        for child in axes.get_children()
        if (bar := getattr(child, "colorbar", None)) is not None
    }
    grids = []
    for axes in visible:
        spec = bars.get(axes, axes).get_subplotspec()
        if spec is None or len(spec.rowspan) > 1 or len(spec.colspan) > 1:
            return whole
        grids.append(spec.get_gridspec())
        cells.setdefault((spec.rowspan.start, spec.colspan.start), []).append(axes)
    # What belongs to the figure as a whole can't be taken apart.
    if (
        len(cells) < 2
        or any(grid is not grids[0] for grid in grids)
        or figure.legends
        or figure.texts
        or figure.subfigs
    ):
        return whole
    boxes = {cell: _union(own, renderer) for cell, own in cells.items()}
    groups = []
    for row, column in sorted(cells):
        beside = Bbox.union([box for cell, box in boxes.items() if cell[0] == row])
        above = Bbox.union([box for cell, box in boxes.items() if cell[1] == column])
        extent = Bbox.from_extents(above.x0, beside.y0, above.x1, beside.y1)
        groups.append((cells[row, column], extent.padded(_MARGIN)))
    return groups


def _union(axes: Sequence[Axes], renderer: RendererSVG) -> Bbox:
    return Bbox.union([box for each in axes if (box := each.get_tightbbox(renderer)) is not None])


def _draw(figure: Figure, box: Bbox, prefix: str, title: str) -> Panel:
    file = io.StringIO()
    width, height = figure.get_size_inches() * _POINTS
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}):
        renderer = _Renderer(width, height, file, image_dpi=2 * _POINTS)
        figure.patch.set_visible(False)
        figure.draw(renderer)
        renderer.finalize()
    body = file.getvalue()
    body = body[body.index(">", body.index("<svg")) + 1 : body.rindex("</svg>")]
    # A page has its own head and style; comments repeat formulas.
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.S)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    left, top = box.x0, height - box.y1
    view = f"{left:.1f} {top:.1f} {box.width:.1f} {box.height:.1f}"
    head = f'<svg role="img" aria-label="{escape(title)}" viewBox="{view}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Panel(f"{head}<title>{escape(title)}</title>{body.strip()}</svg>", float(box.width))


__all__ = ["Panel", "page_style", "svg_panels"]
