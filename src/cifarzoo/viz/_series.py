"""Curves over training steps, of one run or as the mean over several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cifarzoo.errors import OptionError
from cifarzoo.viz import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from cifarzoo.training.history import Check, History

__all__ = [
    "Curve",
    "Floats",
    "Runs",
    "curve",
    "draw_curve",
    "legend_entries",
    "named_runs",
    "runs_of",
]

LineStyle: TypeAlias = Literal["-", "--"]
Floats: TypeAlias = NDArray[np.float64]
Runs: TypeAlias = "History | Sequence[History]"
MOST_MARKED = 40  # points: more markers than that hide the line


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure over training steps.

    Attributes:
        steps: at which every run was checked, (T,).
        mean: over the runs, (T,).
        spread: standard deviation over the runs, (T,); None for a single run.
        tails: (steps, values) of each run from the last of `steps` on, if it went on alone.
    """

    steps: Floats
    mean: Floats
    spread: Floats | None
    tails: tuple[tuple[Floats, Floats], ...]


def runs_of(value: Runs, *, label: str) -> tuple[History, ...]:
    """Give one run or several as a tuple.

    Raises:
        OptionError: there is no run, one of them is not a History, or one has no check.
    """
    runs = tuple(value) if isinstance(value, Sequence) else (value,)
    if not runs:
        raise OptionError(f"{label} holds no run; needed is a History, as fit returns it")
    for run in runs:
        if not hasattr(run, "checks"):
            kind = type(run).__name__
            raise OptionError(f"{label} holds a {kind}; needed is a History, as fit returns it")
        if not run.checks:
            raise OptionError(
                f"{label} holds a run that ended before its first check; leave it out"
            )
    return runs


def named_runs(histories: Mapping[str, Runs]) -> dict[str, tuple[History, ...]]:
    """Give every label its runs.

    Raises:
        OptionError: not a mapping, empty, or a label without a usable run.
    """
    if not hasattr(histories, "items") or not histories:
        raise OptionError(
            f"histories is {_short(histories)}; needed is a mapping from a label to a History or "
            "several, such as {'before': a, 'after': b}"
        )
    return {label: runs_of(value, label=f"{label!r}") for label, value in histories.items()}


def _short(value: object) -> str:
    return f"an empty {type(value).__name__}" if value == {} else f"a {type(value).__name__}"


def curve(runs: Sequence[History], pick: Callable[[Check], float | None]) -> Curve:
    """Draw one figure out of the checks of one run or several.

    The mean is taken only where every run was checked: past the step where the first of them
    stopped, it would jump as runs leave it.

    Args:
        runs: of one kind, such as several seeds.
        pick: takes the figure out of a check; None where it was not measured.
    """
    points = [_points(run, pick) for run in runs]
    shared = sorted(set[int].intersection(*(set(p) for p in points)))
    values = np.array([[p[step] for step in shared] for p in points], dtype=np.float64)
    return Curve(
        steps=np.array(shared, dtype=np.float64),
        mean=values.mean(0),
        spread=values.std(0, ddof=1) if len(runs) > 1 else None,
        tails=tuple(_tail(p, shared[-1] if shared else 0) for p in points if _longer(p, shared)),
    )


def _points(run: History, pick: Callable[[Check], float | None]) -> dict[int, float]:
    picked = ((check.step, pick(check)) for check in run.checks)
    # Infinity would take the axis and the mean with it; NaN leaves a gap.
    return {
        step: value if np.isfinite(value) else float("nan")
        for step, value in picked
        if value is not None
    }


def _longer(points: dict[int, float], shared: list[int]) -> bool:
    return bool(points) and (not shared or max(points) > shared[-1])


def _tail(points: dict[int, float], start: int) -> tuple[Floats, Floats]:
    kept = sorted((step, value) for step, value in points.items() if step >= start)
    steps, values = zip(*kept, strict=True)
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def draw_curve(
    axis: Axes,
    drawn: Curve,
    *,
    colour: str,
    line: LineStyle = "-",
    marker: str = "o",
    label: str | None = None,
) -> Line2D:
    """Draw the mean, a band of one standard deviation, and thin lines where runs went on alone."""
    mean = axis.plot(drawn.steps, drawn.mean, color=colour, linestyle=line, label=label)[0]
    every = 1 + len(drawn.steps) // MOST_MARKED
    mean.set(marker=marker, markersize=marker_size(marker), markevery=every, linewidth=1.6)
    if drawn.spread is not None:
        low, high = drawn.mean - drawn.spread, drawn.mean + drawn.spread
        axis.fill_between(drawn.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    for steps, values in drawn.tails:
        axis.plot(steps, values, color=colour, linestyle=line, linewidth=0.7, alpha=0.7)
    return mean


def marker_size(marker: str) -> float:
    """Points: a dot only shows where a check is, other shapes are to be told apart."""
    return 2.5 if marker == "o" else 5.0


def _sample(colour: str, marker: str) -> Line2D:
    from matplotlib.lines import Line2D

    size = marker_size(marker)
    return Line2D([], [], color=colour, linewidth=1.6, marker=marker, markersize=size)


def legend_entries(
    named: Mapping[str, tuple[History, ...]], *, lines: Mapping[str, LineStyle]
) -> tuple[list[Artist], list[str]]:
    """Give the handles and texts of a legend.

    Args:
        named: labels and their runs, in the order of their colours.
        lines: what the line styles mean, such as {"validation": "-"}.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        _sample(_style.series_colour(i), _style.series_marker(i)) for i in range(len(named))
    ]
    grey = _style.palette().grey
    labels = [f"{x} ({len(runs)} runs)" if len(runs) > 1 else x for x, runs in named.items()]
    handles += [
        Line2D([], [], color=_style.palette().grey, linestyle=style) for style in lines.values()
    ]
    labels += list(lines)
    if any(len(runs) > 1 for runs in named.values()):
        handles.append(Patch(color=grey, alpha=0.25, linewidth=0))
        uneven = any(len({run.checks[-1].step for run in runs}) > 1 for runs in named.values())
        labels.append("± standard deviation" + (" (thin: single runs)" if uneven else ""))
    return handles, labels
