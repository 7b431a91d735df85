"""Which pixels each element of a tensor can depend on, as a rule that layers transform.

A `Field` says it for a whole tensor at once. Its spans give, for each axis of the image (rows,
columns), the interval of pixels that the tensor's first element sees; its runs say by how many
pixels that interval moves per step along each dimension of the tensor. A convolution widens the
interval, a stride lengthens the step, flattening puts two runs into one dimension, and a sum over
a dimension makes every element see what all of them saw. Intervals and steps are exact fractions,
since resized images have pixels that are parts of a pixel. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from cifarzoo.arithmetic.receptive.runs import (
    Run,
    Runs,
    Span,
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
        spans: one for each image axis.
        sides: the image's length along each axis, in pixels.
    """

    dims: tuple[Runs, ...]
    spans: tuple[Span, ...]
    sides: tuple[int, ...]

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> Field:
        """Start with an image batch (N,C,*sides): each element sees its own pixel."""
        sides = tuple(shape[2:])
        channels = [plain(n) for n in shape[:2]]
        places = [(Run(n, frozenset({axis}), Fraction(1)),) for axis, n in enumerate(sides)]
        return cls((*channels, *places), (Span(Fraction(0), Fraction(1)),) * len(sides), sides)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(extent_of(runs) for runs in self.dims)

    def moves(self) -> bool:
        """Whether different elements can see different pixels."""
        return any(run.axes for runs in self.dims for run in runs)

    def receptive_field(self) -> int | None:
        """Give the longest side in pixels of what one element sees; None without image axes."""
        sides = (min(self._reach(axis), side) for axis, side in enumerate(self.sides))
        return max(sides, default=None)

    def _reach(self, axis: int) -> int:
        """Count the pixels in the span: where it moves by parts of one, the most there are."""
        span, runs = self.spans[axis], [run for runs in self.dims for run in runs]
        if any(run.token for run in runs if axis in run.axes):
            return math.ceil(span.size)
        runs = [run for run in runs if axis in run.axes and run.step.denominator > 1]
        shifts = product(*([i * run.step % 1 for i in range(run.extent)] for run in runs))
        return max(span.pixels(shift) for shift in {sum(each, Fraction(0)) for each in shifts})

    def contract(self, *dims: int) -> Field:
        """Let every element see what all elements along these dimensions saw."""
        result = self
        for dim in dims:
            for run in self.dims[dim]:
                result = result._widen(run)
            result = result._with(dim, plain(extent_of(self.dims[dim])))
        return result

    def _widen(self, run: Run) -> Field:
        spans = list(self.spans)
        for axis in run.axes:
            span = spans[axis]
            spans[axis] = (
                Span(Fraction(0), Fraction(self.sides[axis]))
                if run.token
                else replace(span, size=span.size + (run.extent - 1) * run.step)
            )
        return replace(self, spans=tuple(spans))

    def taps(
        self,
        dim: int,
        extent: int,
        *,
        first: Fraction | int,
        stride: Fraction | int,
        span: int,
    ) -> Field:
        """Slide a window along a dimension.

        Position i of the result sees `span` positions from first + i stride on. Where these
        are fractions, the true window is a whole number of positions nearby: `first` is then
        its mean over the phases.

        Args:
            dim: the dimension.
            extent: its length in the result.
            first: where the first window begins, in positions.
            stride: from one window to the next, in positions.
            span: the length of a window, in positions; the largest where it varies.
        """
        runs = self.dims[dim]
        if not any(run.axes for run in runs):
            return self._with(dim, plain(extent))
        if not self._is_regular(dim):
            return self.contract(dim)._with(dim, plain(extent))
        (run,) = runs
        (axis,) = run.axes
        old, spans = self.spans[axis], list(self.spans)
        enlarges = Fraction(stride).denominator > 1
        size = max(old.size, run.step) if enlarges else old.size  # over pixels that were skipped
        spans[axis] = Span(old.start + first * run.step, size + (span - 1) * run.step)
        moved = (Run(extent, run.axes, run.step * stride),) if extent > 1 else ()
        return replace(self, spans=tuple(spans))._with(dim, moved)

    def narrow(self, dim: int, start: int, length: int, step: int = 1) -> Field:
        """Keep every `step`-th of the positions from `start` on; negative ones are padding."""
        if (start, length, step) == (0, self.shape[dim], 1):
            return self
        if self._is_regular(dim):
            return self.taps(dim, length, first=start, stride=step, span=1)
        return self.scatter(dim, length)

    def select(self, dim: int, index: int) -> Field:
        """Keep one position along a dimension, and drop the dimension."""
        field = self if self._is_regular(dim) else self.contract(dim)
        return field.narrow(dim, index, 1).drop(dim)

    def _is_regular(self, dim: int) -> bool:
        return len(self.dims[dim]) < 2 and not any(run.token for run in self.dims[dim])

    def scatter(self, dim: int, extent: int) -> Field:
        """Reorder, repeat or drop positions along a dimension, in a way that is not followed."""
        axes = axes_of(self.dims[dim])
        return self._with(dim, (scattered(extent, axes),) if axes else plain(extent))

    def append(self, others: Sequence[Field], dim: int, extent: int) -> Field:
        """Put tensors one after the other along a dimension, which then has `extent` positions."""
        fields = [self, *others]
        axes = axes_of(run for each in fields for run in each.dims[dim])
        first, *rest = (each._adrift(axes)._with(dim, ()) for each in fields)
        for each in rest:
            first = first.merge(each)
        return first._with(dim, (scattered(extent, axes),) if axes else plain(extent))

    def _adrift(self, axes: frozenset[int]) -> Field:
        """Forget where on these axes the elements look; only how far is known."""
        spans = [
            replace(s, start=Fraction(0)) if a in axes else s for a, s in enumerate(self.spans)
        ]
        return replace(self, spans=tuple(spans))

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
                return replace(
                    self, dims=tuple((scattered(n, axes),) if n > 1 else () for n in shape)
                )
            dims.append(taken)
        return replace(self, dims=tuple(reversed(dims)))

    def permute(self, order: Sequence[int]) -> Field:
        """Reorder the dimensions."""
        return replace(self, dims=tuple(self.dims[dim] for dim in order))

    def expand(self, shape: Sequence[int]) -> Field:
        """Repeat along dimensions of length 1, and along new leading ones."""
        missing = len(shape) - len(self.dims)
        dims = [()] * missing + list(self.dims)
        kept = [
            runs if extent_of(runs) == n else plain(n) for runs, n in zip(dims, shape, strict=True)
        ]
        return replace(self, dims=tuple(kept))

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
                one, two, pairs = (
                    one.contract(dim),
                    two.contract(dim),
                    [(Run(extent_of(mine)),) * 2],
                )
            for a, b in pairs:
                if a != b:
                    one, two = one._widen(a), two._widen(b)
            dims.append(tuple(join([a if a == b else Run(a.extent) for a, b in pairs])))
        spans = [a.hull(b) for a, b in zip(one.spans, two.spans, strict=True)]
        return Field(tuple(dims), tuple(spans), self.sides)

    def _with(self, dim: int, runs: Runs) -> Field:
        return replace(self, dims=(*self.dims[:dim], runs, *self.dims[dim + 1 :]))
