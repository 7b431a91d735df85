"""Which pixels each element of a tensor can depend on, as a rule that layers transform.

A `Field` says it for a whole tensor at once: for each axis of the image (rows, columns) what
pixels the positions along it see, and for each dimension of the tensor how it runs over those
positions. A convolution lets each position see what its neighbours saw, flattening puts two runs
into one dimension, and a sum over a dimension lets every element see what all of them saw.
Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cifarzoo.arithmetic.receptive.runs import (
    Reach,
    Run,
    Runs,
    Windows,
    axes_of,
    extent_of,
    join,
    plain,
    refine,
    scattered,
    take,
)

__all__ = ["Field"]


@dataclass(frozen=True)
class Field:
    """What every element of one tensor can depend on.

    Attributes:
        dims: the runs of each dimension, outermost first; extents multiply to its length.
        windows: what the positions along each image axis see.
        sides: the image's length along each axis, in pixels.
    """

    dims: tuple[Runs, ...]
    windows: tuple[Windows, ...]
    sides: tuple[int, ...]

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> Field:
        """Start with an image batch (N,C,*sides): each element sees its own pixel."""
        sides = tuple(shape[2:])
        channels = [plain(n) for n in shape[:2]]
        places = [(Run(n, frozenset({axis}), 1),) for axis, n in enumerate(sides)]
        return cls((*channels, *places), (Windows(),) * len(sides), sides)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(extent_of(runs) for runs in self.dims)

    def moves(self) -> bool:
        """Whether different elements can see different pixels."""
        return any(run.axes for runs in self.dims for run in runs)

    def receptive_field(self) -> int | None:
        """Give the longest side in pixels of what one element sees; None without image axes."""
        sides = (min(self._size(axis), side) for axis, side in enumerate(self.sides))
        return max(sides, default=None)

    def area(self, position: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
        """Give what one place of a tensor (N,C,*sides) sees, along each axis of the image.

        Args:
            position: of the place, one index for each dimension after the channels.

        Returns:
            Start and stop in pixels for each axis of the image; beyond the image is padding. None
            where the tensor is not laid out like the image, or it is not known.
        """
        places = self.dims[2:]
        if len(places) != len(self.sides) or (self.dims[1] and any(r.axes for r in self.dims[1])):
            return None
        ends = []
        for axis, (runs, index) in enumerate(zip(places, position, strict=True)):
            if len(runs) > 1 or any(run.token or run.axes != {axis} for run in runs):
                return None
            ends.append(self.windows[axis].at(index * runs[0].step if runs else 0))
        return tuple(ends)

    def _size(self, axis: int) -> int:
        windows, positions = self.windows[axis], {0}
        for run in (run for runs in self.dims for run in runs if axis in run.axes):
            steps = [i * run.step for i in range(min(run.extent, len(windows.ends)))]
            positions = {(p + step) % len(windows.ends) for p in positions for step in steps}
        ends = [windows.at(position) for position in positions]
        return max(stop - start for start, stop in ends)

    def contract(self, *dims: int) -> Field:
        """Let every element see what all elements along these dimensions saw."""
        result = self
        for dim in dims:
            for run in self.dims[dim]:
                result = result._widen(run)
            result = result._with(dim, plain(extent_of(self.dims[dim])))
        return result

    def _widen(self, run: Run) -> Field:
        """Let each position see what all positions of the run, from there on, saw."""
        windows, last = list(self.windows), (run.extent - 1) * run.step
        for axis in run.axes:
            if run.token:
                windows[axis] = Windows(((0, self.sides[axis]),), 0)
            else:
                windows[axis] = windows[axis].slide(lambda i: (i, i + last))
        return replace(self, windows=tuple(windows))

    def taps(self, dim: int, extent: int, reach: Reach, *, every: int = 1, rise: int = 1) -> Field:
        """Slide a window along a dimension.

        Args:
            dim: the dimension.
            extent: its length in the result.
            reach: for a position of the result, the first and the last position that it sees.
            every: after so many positions,
            rise: both ends of the reach are so many positions further on.
        """
        axes = axes_of(self.dims[dim])
        if not axes:
            return self._with(dim, plain(extent))
        if not self._is_regular(dim) or self._elsewhere(dim, axes):
            return self.contract(dim)._with(dim, plain(extent))
        (run,), (axis,) = self.dims[dim], axes
        windows, step = list(self.windows), run.step
        on_run = windows[axis].slide(lambda i: (i * step, i * step), rise=step)
        windows[axis] = on_run.slide(reach, every=every, rise=rise)
        moved = (Run(extent, axes, 1),) if extent > 1 else ()
        return replace(self, windows=tuple(windows))._with(dim, moved)

    def narrow(self, dim: int, start: int, length: int, step: int = 1) -> Field:
        """Keep every `step`-th of the positions from `start` on; negative ones are padding."""
        if (start, length, step) == (0, self.shape[dim], 1):
            return self
        if not self._is_regular(dim):
            return self.scatter(dim, length)
        windows = list(self.windows)
        for run in self.dims[dim]:
            for axis in run.axes:
                windows[axis] = windows[axis].moved(start * run.step)
        kept = [replace(run, extent=length, step=run.step * step) for run in self.dims[dim]]
        moved = replace(self, windows=tuple(windows))
        return moved._with(dim, (kept or plain(length)) if length > 1 else ())

    def select(self, dim: int, index: int) -> Field:
        """Keep one position along a dimension, and drop the dimension."""
        field = self if self._is_regular(dim) else self.contract(dim)
        return field.narrow(dim, index, 1).drop(dim)

    def _is_regular(self, dim: int) -> bool:
        return len(self.dims[dim]) < 2 and not any(run.token for run in self.dims[dim])

    def _elsewhere(self, dim: int, axes: frozenset[int]) -> list[int]:
        """List the other dimensions that run over any of these axes."""
        return [i for i, runs in enumerate(self.dims) if i != dim and axes & axes_of(runs)]

    def scatter(self, dim: int, extent: int) -> Field:
        """Reorder, repeat or drop positions along a dimension, in a way that is not followed."""
        axes = axes_of(self.dims[dim])
        if not axes:
            return self._with(dim, plain(extent))
        apart = self.contract(*self._elsewhere(dim, axes))
        return apart._adrift(axes)._with(dim, (scattered(extent, axes),))

    def append(self, others: Sequence[Field], dim: int, extent: int) -> Field:
        """Put tensors one after the other along a dimension, which then has `extent` positions."""
        fields = [self, *others]
        axes = axes_of(run for each in fields for run in each.dims[dim])
        first, *rest = (
            each.contract(*each._elsewhere(dim, axes))._adrift(axes)._with(dim, ())
            for each in fields
        )
        for each in rest:
            first = first.merge(each)
        return first._with(dim, (scattered(extent, axes),) if axes else plain(extent))

    def _adrift(self, axes: frozenset[int]) -> Field:
        windows = [w.adrift() if axis in axes else w for axis, w in enumerate(self.windows)]
        return replace(self, windows=tuple(windows))

    def regroup(self, shape: Sequence[int]) -> Field:
        """Take another shape with the same elements in the same order."""
        if tuple(shape) == self.shape:
            return self
        left = join([run for runs in self.dims for run in runs])
        dims: list[Runs] = []
        for extent in reversed(shape):
            taken = take(left, extent)
            if taken is None:  # the cuts fall within a run: keep only which axes there are
                axes = axes_of(run for runs in self.dims for run in runs)
                loose = tuple((scattered(n, axes),) if n > 1 else () for n in shape)
                return replace(self._adrift(axes), dims=loose)
            dims.append(taken)
        return replace(self, dims=tuple(reversed(dims)))

    def permute(self, order: Sequence[int]) -> Field:
        """Reorder the dimensions."""
        return replace(self, dims=tuple(self.dims[dim] for dim in order))

    def expand(self, shape: Sequence[int]) -> Field:
        """Repeat along dimensions of length 1, and along new leading ones."""
        missing = len(shape) - len(self.dims)
        dims = [()] * missing + list(self.dims)
        pairs = zip(dims, shape, strict=True)
        kept = tuple(runs if extent_of(runs) == n else plain(n) for runs, n in pairs)
        return replace(self, dims=kept)

    def drop(self, dim: int) -> Field:
        """Remove a dimension of length 1, or one along which nothing moves over the image."""
        return replace(self, dims=self.dims[:dim] + self.dims[dim + 1 :])

    def insert(self, dim: int, extent: int = 1) -> Field:
        """Add a dimension along which nothing moves over the image."""
        return replace(self, dims=(*self.dims[:dim], plain(extent), *self.dims[dim:]))

    def merge(self, other: Field) -> Field:
        """Combine two tensors of one shape: each element sees what either one saw.

        Where the two move differently over the image along a run, that run is contracted in
        both: exact where one of them sees the whole image, else an upper bound.
        """
        one, two, dims = self, other, list[Runs]()
        for dim, (mine, its) in enumerate(zip(self.dims, other.dims, strict=True)):
            pairs = refine(mine, its)
            if pairs is None:
                one, two, pairs = one.contract(dim), two.contract(dim), []
                dims.append(plain(extent_of(mine)))
                continue
            kept: list[Run] = []
            for a, b in pairs:
                alike = a == b and self._paces(a.axes) == other._paces(a.axes)
                one, two = (one, two) if alike else (one._widen(a), two._widen(b))
                kept.append(a if alike else Run(a.extent))
            dims.append(tuple(join(kept)))
        axes = axes_of(run for runs in dims for run in runs)
        return replace(one, dims=tuple(dims), windows=tuple(_hulls(one, two, axes)))

    def _paces(self, axes: frozenset[int]) -> list[object]:
        return [self.windows[axis].pace for axis in sorted(axes)]

    def _with(self, dim: int, runs: Sequence[Run]) -> Field:
        return replace(self, dims=(*self.dims[:dim], tuple(runs), *self.dims[dim + 1 :]))


def _hulls(one: Field, two: Field, axes: frozenset[int]) -> Iterable[Windows]:
    """Join the windows of two fields; on axes that nothing runs over, those at position 0."""
    for axis, (a, b) in enumerate(zip(one.windows, two.windows, strict=True)):
        fixed = axis not in axes
        yield Windows((a.at(0),), 0).hull(Windows((b.at(0),), 0)) if fixed else a.hull(b)
