"""Figures of the page: lines over seeds with their spread, one colour for each model everywhere."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .claim import Labels, Row
from .rows import summarise, values_of

# Okabe and Ito's palette, which people with colour-blindness tell apart; each with a marker, for print in grey.
STYLES: dict[str, tuple[str, str]] = {
    "rnn": ("#D55E00", "o"),
    "lstm": ("#0072B2", "s"),
    "gru": ("#009E73", "^"),
    "seq2seq": ("#E69F00", "v"),
    "attention_seq2seq": ("#CC79A7", "D"),
    "vanilla_transformer": ("#56B4E9", "P"),
    "seq_bert": ("#332288", "X"),
    "seq_vit": ("#117733", "*"),
    "cnn": ("#999999", "h"),
}
_OTHERS = (("#882255", "<"), ("#44AA99", ">"), ("#AA4499", "p"), ("#DDCC77", "d"))
_FEW_DECADES = 1e3
WIDTH, HEIGHT = 5.2, 3.4  # inches of a panel


def panels(count: int = 1, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """An empty figure of `count` panels, in rows of `columns`."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def style_of(name: str, others: Sequence[str] = ()) -> tuple[str, str]:
    """Colour and marker of a line; what is no model takes one by its place among `others`."""
    if name in STYLES:
        return STYLES[name]
    return _OTHERS[list(others).index(name) % len(_OTHERS)] if name in others else _OTHERS[0]


def draw_lines(
    axes: Axes,
    rows: Sequence[Row],
    labels: Labels,
    *,
    x: str,
    y: str,
    by: str = "model",
    log_x: bool = False,
    log_y: bool = False,
    legend: bool = True,
) -> None:
    """A line for each value of `by`: the mean of `y` over seeds, their standard deviation as bars.

    Args:
        rows: of any order.
        labels: has the words for `x`, `y` and the values of `by`.
    """
    names = values_of(rows, by)
    others = [name for name in names if name not in STYLES]
    for name in names:
        own = sorted(summarise([row for row in rows if row.get(by) == name], y, [x]), key=lambda s: s.keys[x])
        colour, marker = style_of(str(name), others)
        axes.errorbar(
            [summary.keys[x] for summary in own],
            [summary.mean for summary in own],
            yerr=[summary.spread for summary in own] if any(summary.count > 1 for summary in own) else None,
            color=colour,
            marker=marker,
            markersize=5,
            capsize=3,
            label=labels(str(name)),
        )
    finish(axes, labels, x=x, y=y, log_x=log_x, log_y=log_y, legend=legend)


def draw_bars(
    axes: Axes, rows: Sequence[Row], labels: Labels, *, y: str, by: str = "model", horizontal: bool = True
) -> None:
    """A bar for each value of `by`: the mean of `y` over seeds, their standard deviation as its whisker."""
    summaries = summarise(rows, y, [by])
    names = [str(summary.keys[by]) for summary in summaries]
    others = [name for name in names if name not in STYLES]
    places = range(len(summaries))
    means, spreads = [s.mean for s in summaries], [s.spread for s in summaries]
    colours = [style_of(name, others)[0] for name in names]
    if horizontal:
        axes.barh(places, means, xerr=spreads if any(spreads) else None, color=colours, capsize=3)
        axes.set_yticks(list(places), [labels(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(labels(y))
    else:
        axes.bar(places, means, yerr=spreads if any(spreads) else None, color=colours, capsize=3)
        axes.set_xticks(list(places), [labels(name) for name in names])
        axes.set_ylabel(labels(y))
    axes.grid(alpha=0.3, axis="x" if horizontal else "y")


def finish(axes: Axes, labels: Labels, *, x: str, y: str, log_x: bool, log_y: bool, legend: bool = True) -> None:
    """Names and scales of a panel's axes, its grid and its legend."""
    axes.set_xlabel(labels(x))
    axes.set_ylabel(labels(y))
    if log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    if log_y:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < _FEW_DECADES * low:  # powers of ten alone would leave one or two numbers on the axis
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(FuncFormatter(_plain))
            axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(fontsize=8)


def _plain(value: float, place: int | None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def show_ticks(axes: Axes, values: Sequence[int]) -> None:
    """Marks these places of the x axis, and no others."""
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()


def close(value: Any, digits: int = 3) -> float:
    """A number as a text shows it: rounded to so many significant digits."""
    return float(f"{float(value):.{digits}g}")


__all__ = [
    "HEIGHT",
    "STYLES",
    "WIDTH",
    "close",
    "draw_bars",
    "draw_lines",
    "finish",
    "panels",
    "show_ticks",
    "style_of",
]
