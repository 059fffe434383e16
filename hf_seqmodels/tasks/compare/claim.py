"""What a claim is: cells that measure it, a judgement of what they found, and figures that show it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ImportError("the comparison needs the extra: pip install 'hf_seqmodels[plot]'.") from error

BudgetName = Literal["quick", "standard", "full"]
BUDGETS: tuple[str, ...] = get_args(BudgetName)

# One measurement, flat and of JSON's own types. Where they apply, its keys are called `model`, `seed` and `length`.
Row = dict[str, Any]

# Told how much of a cell is done, from 0 to 1.
Progress = Callable[[float], None]

# What a cell runs, given a `Progress` and its settings by name: a function of a module, so that another process can
# run it. It reports progress as the work goes on, but not more often than every few milliseconds.
Measure = Callable[..., list[Row]]


@dataclass(frozen=True)
class Cell:
    """One piece of work: what is kept when a run is interrupted, and what two claims can share.

    Args:
        name: names its file; cells of one name are one cell, whatever claims ask for it.
        measure: what to run.
        settings: its arguments, of JSON's own types. They and the name identify the cell.
        seconds: about how long it takes on one core, for the progress bar.
        exclusive: it takes times, so nothing else may run beside it.
    """

    name: str
    measure: Measure
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 1.0
    exclusive: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim.

    Args:
        holds: whether the measurements bear it out.
        numbers: what the text says of them: a name of a placeholder -> its value.
    """

    holds: bool
    numbers: dict[str, float | int | str]


class Labels(Protocol):
    """The words of figures in the language of the page."""

    def __call__(self, key: str, **values: Any) -> str:
        """The text that is called `key`, its placeholders filled; names of models are known, too."""
        ...


@dataclass(frozen=True)
class Claim:
    """One line of the story.

    Its words are in `texts/<language>/<name>.yaml`: `title`, `claim` (what is usually said), `how` (it is measured),
    `short` (the measurement in a line), `holds` and `fails` (the verdict chooses one), whose placeholders are the
    verdict's numbers; `figures`, a caption for each; and `labels`, the words that are in the figures.

    Args:
        name: of the claim.
        cells: the budget -> what to run. Standard and full have at least three seeds.
        judge: every row of the cells -> the verdict.
        draw: the rows and the words -> figures by name, in the order of the page.
    """

    name: str
    cells: Callable[[BudgetName], list[Cell]]
    judge: Callable[[list[Row]], Verdict]
    draw: Callable[[list[Row], Labels], dict[str, Figure]]


def num_seeds(budget: BudgetName) -> int:
    """Repetitions of what depends on chance."""
    return {"quick": 1, "standard": 3, "full": 5}[budget]


__all__ = ["BUDGETS", "BudgetName", "Cell", "Claim", "Labels", "Measure", "Progress", "Row", "Verdict", "num_seeds"]
