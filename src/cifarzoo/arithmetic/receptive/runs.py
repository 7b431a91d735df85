"""Stretches of positions, and the pixels that positions see: what a field is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from typing import TypeAlias

__all__ = ["Reach", "Run", "Runs", "Windows", "axes_of", "extent_of", "join", "plain", "refine"]
__all__ += ["scattered", "take"]

Reach: TypeAlias = Callable[[int], tuple[int, int]]

_tokens = count(1)


@dataclass(frozen=True, slots=True)
class Windows:
    """What each position along one image axis sees, as intervals of pixels without their end.

    The intervals repeat: `len(ends)` positions on, they lie `shift` pixels further on. They
    never step back, and go on into the padding on both sides.

    Attributes:
        ends: start and stop of what the first positions see.
        shift: pixels from one repetition to the next.
    """

    ends: tuple[tuple[int, int], ...] = ((0, 1),)
    shift: int = 1

    @property
    def pace(self) -> Fraction:
        """Pixels per position, on average."""
        return Fraction(self.shift, len(self.ends))

    @property
    def size(self) -> int:
        """The most pixels that one position sees."""
        return max(stop - start for start, stop in self.ends)

    def at(self, position: int) -> tuple[int, int]:
        """Give start and stop of what one position sees."""
        turns, index = divmod(position, len(self.ends))
        start, stop = self.ends[index]
        return start + turns * self.shift, stop + turns * self.shift

    def slide(self, reach: Reach, *, every: int = 1, rise: int = 1) -> Windows:
        """Let position i see what the positions from reach(i)[0] to reach(i)[1] saw.

        Args:
            reach: first and last position; `every` positions on, both are `rise` higher.
            every: 1 or more.
            rise: 0 or more.
        """
        period = every * (len(self.ends) // math.gcd(len(self.ends), rise))
        pairs = [reach(i) for i in range(period)]
        ends = tuple((self.at(first)[0], self.at(last)[1]) for first, last in pairs)
        return Windows(ends, self.shift * rise * (period // every) // len(self.ends))

    def moved(self, by: int) -> Windows:
        """Count the positions from another one on."""
        return self.slide(lambda i: (i + by, i + by))

    def hull(self, other: Windows) -> Windows:
        """Let each position see what it sees in either; the paces are the same."""
        pairs = [
            (self.at(i), other.at(i)) for i in range(math.lcm(len(self.ends), len(other.ends)))
        ]
        ends = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
        return Windows(ends, self.shift * len(ends) // len(self.ends))

    def adrift(self) -> Windows:
        """Forget where the positions look; only how far is known."""
        return Windows(((0, self.size),), 0)


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of positions along one dimension of a tensor, or along a part of one.

    Attributes:
        extent: number of positions.
        axes: the image axes that a step moves over; none for channels.
        step: positions of the axis' windows per step.
        token: 0 if they are in order; else the same number on two tensors says that their
            positions correspond, and the windows are adrift.
    """

    extent: int
    axes: frozenset[int] = frozenset()
    step: int = 0
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


def plain(extent: int) -> Runs:
    """Make the runs of a dimension along which nothing moves over the image."""
    return (Run(extent),) if extent > 1 else ()


def extent_of(runs: Iterable[Run]) -> int:
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
