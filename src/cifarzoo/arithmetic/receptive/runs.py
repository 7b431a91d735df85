"""Stretches of positions and of pixels: what a field is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from typing import TypeAlias

__all__ = ["Run", "Runs", "Span", "axes_of", "extent_of", "join", "plain", "refine", "scattered"]
__all__ += ["take"]

_tokens = count(1)


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of positions along one dimension of a tensor, or along a part of one.

    Attributes:
        extent: number of positions.
        axes: the image axes that a step moves over; none for channels.
        step: pixels per position; 0 for channels, and where the positions are in no order.
        token: 0 if they are in order; else the same number on two tensors says that their
            positions correspond.
    """

    extent: int
    axes: frozenset[int] = frozenset()
    step: Fraction = Fraction(0)
    token: int = 0

    def follows(self, outer: Run) -> bool:
        """Whether this run continues `outer`, so that the two are one longer run."""
        return (
            outer.axes == self.axes
            and not (outer.token or self.token)
            and outer.step == self.step * self.extent
        )

    def split(self, inner: int) -> tuple[Run, Run]:
        """Cut into an outer run and an inner one with `inner` positions."""
        if self.token:
            return scattered(self.extent // inner, self.axes), scattered(inner, self.axes)
        outer = Run(self.extent // inner, self.axes, self.step * inner)
        return outer, Run(inner, self.axes, self.step)


Runs: TypeAlias = tuple[Run, ...]


def scattered(extent: int, axes: frozenset[int]) -> Run:
    """Make a run whose positions are in no order over the axes that it moves over."""
    return Run(extent, axes, token=next(_tokens) if axes else 0)


@dataclass(frozen=True, slots=True)
class Span:
    """What a tensor's first element sees along one image axis, in pixels.

    Attributes:
        start: left end; negative in the padding.
        size: how far it reaches from there; the right end itself is not part of it.
    """

    start: Fraction
    size: Fraction

    def pixels(self, shift: Fraction) -> int:
        """Count the pixels whose centres lie in the interval, moved by `shift`."""
        left = self.start + shift - Fraction(1, 2)
        return math.ceil(left + self.size) - math.ceil(left)

    def hull(self, other: Span) -> Span:
        """Give the shortest interval that holds both."""
        start = min(self.start, other.start)
        stop = max(self.start + self.size, other.start + other.size)
        return Span(start, stop - start)


def plain(extent: int) -> Runs:
    """Make the runs of a dimension along which nothing moves over the image."""
    return (Run(extent),) if extent > 1 else ()


def extent_of(runs: Sequence[Run]) -> int:
    """Count the positions of all the runs together."""
    return math.prod(run.extent for run in runs)


def axes_of(runs: Iterable[Run]) -> frozenset[int]:
    """Collect the image axes that any of the runs moves over."""
    return frozenset[int]().union(*(run.axes for run in runs))


def join(runs: Sequence[Run]) -> list[Run]:
    """Join neighbours that are one longer run."""
    joined: list[Run] = []
    for run in runs:
        if joined and run.follows(joined[-1]):
            run = replace(run, extent=run.extent * joined.pop().extent)
        joined.append(run)
    return joined


def take(left: list[Run], extent: int) -> Runs | None:
    """Take the innermost positions off `left`; None if that would cut a run unevenly."""
    taken: list[Run] = []
    while extent > 1:
        run = left.pop()
        if extent % run.extent and run.extent % extent == 0:
            outer, run = run.split(extent)
            left.append(outer)
        if extent % run.extent:
            return None
        taken.insert(0, run)
        extent //= run.extent
    return tuple(taken)


def refine(mine: Runs, its: Runs) -> list[tuple[Run, Run]] | None:
    """Cut two lists of runs over the same positions so that they pair up; None if they cannot."""
    left, right, pairs = list(mine), list(its), list[tuple[Run, Run]]()
    while left:
        a, b = left.pop(), right.pop()
        shorter = min(a.extent, b.extent)
        if a.extent % shorter or b.extent % shorter:
            return None
        if a.extent > shorter:
            outer, a = a.split(shorter)
            left.append(outer)
        if b.extent > shorter:
            outer, b = b.split(shorter)
            right.append(outer)
        pairs.insert(0, (a, b))
    return pairs
