"""The figure of `bottleneck`: accuracy against length. Needs the extra [plot]."""

from collections.abc import Sequence

from .bottleneck import BottleneckRun
from .plots import Figure

_COLOURS = {"seq2seq": "tab:red", "attention_seq2seq": "tab:blue", "vanilla_transformer": "tab:orange"}
_MEASURES = {"exact_match": "exact match", "token_accuracy": "token accuracy"}
_WIDTH, _HEIGHT = 5.0, 3.2  # inches of a panel


def accuracy_by_length_figure(runs: Sequence[BottleneckRun]) -> Figure:
    """A column of panels for each task, a row for each measure, a line for each model."""
    tasks = list(dict.fromkeys(run.task for run in runs))
    size = (_WIDTH * len(tasks), _HEIGHT * len(_MEASURES))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(_MEASURES), len(tasks), squeeze=False, sharex=True)
    for row, (measure, title) in zip(panels, _MEASURES.items()):
        for panel, task in zip(row, tasks):
            for run in (run for run in runs if run.task == task):
                lengths = [score.middle for score in run.scores]
                shares = [getattr(score, measure) for score in run.scores]
                panel.plot(lengths, shares, marker="o", color=_COLOURS.get(run.model), label=run.model)
            panel.set(title=f"{task}: {title}", ylabel=title, ylim=(-0.03, 1.03))
            panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("symbols of the source")
    panels[0, 0].legend(fontsize=8)
    return figure


__all__ = ["accuracy_by_length_figure"]
