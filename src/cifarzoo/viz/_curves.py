"""Curves over training steps: one run, or the mean over several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.record import Check, History, RunRecord
from cifarzoo.viz._figure import legend_below
from cifarzoo.viz.theme import palette, series_style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AnyRun: TypeAlias = History | RunRecord
Runs: TypeAlias = AnyRun | Sequence[AnyRun]
LineStyle: TypeAlias = Literal["-", "--"]

MAX_MARKERS = 40  # per line; more would hide it


def check_runs(label: str, value: object) -> tuple[History, ...]:
    """Return the histories of one run or several."""
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    runs = tuple(run.history if isinstance(run, RunRecord) else run for run in given)
    for run in runs:
        if not isinstance(run, History):
            expected = "expected a Run or a History"
            raise InvalidTypeError(f"{label} contains a {type(run).__name__}: {expected}")
    if not runs or not all(run.checks for run in runs):
        raise InvalidValueError(f"{label} has no checks: expected runs with one check or more")
    return runs


def check_histories(histories: object) -> dict[str, tuple[History, ...]]:
    """Return the runs of each label, as `check_runs` does."""
    if not isinstance(histories, Mapping) or not histories:
        expected = "a mapping of labels to runs, such as {'before': a, 'after': b}"
        raise InvalidTypeError(f"histories is a {type(histories).__name__}: expected {expected}")
    return {label: check_runs(repr(label), value) for label, value in histories.items()}


def draw_runs(
    axis: Axes,
    runs: Sequence[History],
    value: Callable[[Check], float | None],
    *,
    series: int,
    line: LineStyle = "-",
    label: str | None = None,
) -> None:
    """Draw a value of each check over the training steps of one or more runs.

    Checks where the value is None are left out. Several runs are drawn as their mean with a band of
    one standard deviation, at the steps where all of them were checked: past the end of the
    shortest run, the mean would jump. Thin lines show the runs that continue. The position in the
    figure, `series`, sets colour and marker.
    """
    points = [{c.step: v for c in run.checks if (v := value(c)) is not None} for run in runs]
    shared = sorted(set[int].intersection(*map(set, points)))
    values = np.array([[point[step] for step in shared] for point in points], dtype=np.float64)
    values[np.isinf(values)] = np.nan  # a gap
    mean = values.mean(0)
    colour, marker = series_style(series)
    if shared:
        axis.plot(
            shared,
            mean,
            color=colour,
            linestyle=line,
            linewidth=1.6,
            marker=marker,
            markersize=_marker_size(marker),
            markevery=1 + len(shared) // MAX_MARKERS,
            label=label,
        )
    if shared and len(runs) > 1:
        std = values.std(0, ddof=1)
        axis.fill_between(shared, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
    for point in points:
        tail = [step for step in sorted(point) if not shared or step >= shared[-1]]
        if len(tail) > 1:
            heights = [point[step] for step in tail]
            axis.plot(tail, heights, color=colour, linestyle=line, linewidth=0.7, alpha=0.7)


def _marker_size(marker: str) -> float:
    return 2.5 if marker == "o" else 5.0  # so that other shapes are recognised


def draw_legend(
    figure: Figure,
    histories: Mapping[str, tuple[History, ...]],
    lines: Mapping[str, LineStyle] | None = None,
) -> None:
    """Draw a legend of the labels and of the meanings of the line styles."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    labels: list[str] = []
    for series, (label, runs) in enumerate(histories.items()):
        colour, marker = series_style(series)
        size = _marker_size(marker)
        handles.append(Line2D([], [], color=colour, lw=1.6, marker=marker, markersize=size))
        labels.append(f"{label} ({len(runs)} runs)" if len(runs) > 1 else label)
    for meaning, style in (lines or {}).items():
        handles.append(Line2D([], [], color=palette().grey, linestyle=style))
        labels.append(meaning)
    if any(len(runs) > 1 for runs in histories.values()):
        uneven = any(len({run.checks[-1].step for run in r}) > 1 for r in histories.values())
        handles.append(Patch(color=palette().grey, alpha=0.25, linewidth=0))
        labels.append("± standard deviation" + (" (thin: single runs)" if uneven else ""))
    legend_below(figure, handles, labels)
