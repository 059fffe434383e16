"""Figures of long-range behaviour: learning curves, losses against the length, gradients. Needs the extra [plot]."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .gradient_flow import GradientFlow
from .long_range import LongRangeRun, loss_name, summarise
from .plots import Figure

_COLOURS = {"rnn": "tab:red", "lstm": "tab:blue", "gru": "tab:green", "seq_bert": "tab:orange"}
_WIDTH, _HEIGHT = 5.0, 3.6  # inches of a panel


def learning_curves_figure(runs: Sequence[LongRangeRun]) -> Figure:
    """A panel for each length, a line for each run: the training loss, on examples never seen before."""
    lengths = list(dict.fromkeys(run.length for run in runs))
    figure, panels = _panels(len(lengths))
    for panel, length in zip(panels, lengths):
        named = set[str]()
        for run in (run for run in runs if run.length == length):
            label = None if run.model in named else run.model
            named.add(run.model)
            panel.plot(*run.training_curve, color=_COLOURS.get(run.model), alpha=0.8, label=label)
        _finish_loss_panel(panel, runs, f"T = {length}")
        panel.axhline(_baseline(runs, length), color="grey", linestyle="--", label="without memory")
        panel.set_xlabel("optimiser steps")
        panel.legend(fontsize=8)
    figure.suptitle(f"Learning curves, {runs[0].problem} problem")
    return figure


def loss_by_length_figure(runs: Sequence[LongRangeRun]) -> Figure:
    """The held-out loss against T, a line for each model, the deviation over seeds as bars."""
    figure, (panel,) = _panels(1)
    summaries = summarise(runs)
    for model in dict.fromkeys(entry.model for entry in summaries):
        own = sorted((entry for entry in summaries if entry.model == model), key=lambda entry: entry.length)
        panel.errorbar(
            [entry.length for entry in own],
            [entry.loss for entry in own],
            yerr=[entry.loss_deviation for entry in own],
            marker="o",
            capsize=3,
            color=_COLOURS.get(model),
            label=model,
        )
    lengths = sorted({run.length for run in runs})
    panel.plot(lengths, [_baseline(runs, length) for length in lengths], "--", color="grey", label="without memory")
    _finish_loss_panel(panel, runs, f"{runs[0].problem} problem, held-out examples")
    panel.set_xlabel("T")
    panel.set_xticks(lengths)
    panel.legend(fontsize=8)
    return figure


def gradient_figure(flows: dict[str, dict[str, GradientFlow]]) -> Figure:
    """Norms of the first layer's gradients against T - t; cells dotted.

    Args:
        flows: title of a panel -> name of a line -> what `gradient_flow` gives.
    """
    figure, panels = _panels(len(flows))
    for panel, (title, lines) in zip(panels, flows.items()):
        for name, flow in lines.items():
            colour = _COLOURS.get(name)
            panel.plot(flow.distances, _positive(flow.hidden[0]), color=colour, label=name)
            if flow.cell is not None:
                panel.plot(flow.distances, _positive(flow.cell[0]), ":", color=colour, label=f"{name}, cell")
        panel.set_yscale("log")
        panel.set(title=title, xlabel="T - t", ylabel="norm of the gradient at step t")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle("What of the last step's loss reaches each step")
    return figure


def _panels(count: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(_WIDTH * count, _HEIGHT), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False).flat)


def _finish_loss_panel(panel: Any, runs: Sequence[LongRangeRun], title: str) -> None:
    panel.set_yscale("log")
    panel.set(title=title, ylabel=loss_name(runs[0].problem))
    panel.grid(alpha=0.3)


def _baseline(runs: Sequence[LongRangeRun], length: int) -> float:
    return next(run.baseline for run in runs if run.length == length)


def _positive(norms: np.ndarray) -> np.ndarray:
    """A logarithmic axis has no place for a gradient that doesn't arrive: a gap."""
    return np.where(norms > 0, norms, np.nan)


__all__ = ["gradient_figure", "learning_curves_figure", "loss_by_length_figure"]
