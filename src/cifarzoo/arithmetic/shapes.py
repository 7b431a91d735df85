"""Sizes of convolutions and poolings, by PyTorch's own floor rule.

Sizes are in pixels and are computed per side. One side is an int; several are a tuple, and then
every other argument is an int (for all sides alike) or a tuple of the same length. Nothing here
needs torch.
"""

from __future__ import annotations

import operator
from typing import TypeAlias, overload

from cifarzoo.errors import ShapeError

__all__ = ["conv_output_size", "kernel_size_for", "same_padding"]

Sides: TypeAlias = tuple[int, ...]


@overload
def conv_output_size(
    size: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int: ...
@overload
def conv_output_size(
    size: Sides,
    kernel_size: int | Sides,
    *,
    stride: int | Sides = 1,
    padding: int | Sides = 0,
    dilation: int | Sides = 1,
) -> Sides: ...
def conv_output_size(
    size: int | Sides,
    kernel_size: int | Sides,
    *,
    stride: int | Sides = 1,
    padding: int | Sides = 0,
    dilation: int | Sides = 1,
) -> int | Sides:
    """Compute the size of what a convolution or pooling layer puts out.

    The rule is PyTorch's: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
    Where the stride leaves a remainder, the last pixels are not looked at.

    Args:
        size: of the input, in pixels, 1 or more.
        kernel_size: in pixels, 1 or more.
        stride: 1 or more.
        padding: pixels added at each end, 0 or more.
        dilation: distance between neighbouring pixels under the kernel, 1 or more.

    Returns:
        The output's size: an int for an int, a tuple for a tuple.

    Raises:
        ShapeError: the kernel does not fit into the padded input, a value is out of range, or
            the lengths differ.

    Example:
        >>> conv_output_size(504, 2, stride=2)
        252
        >>> conv_output_size((32, 48), 5, padding=2)
        (32, 48)
    """
    sides = _by_side(
        size=size, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    return _like(size, [_output_side(*side) for side in sides])


def _output_side(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    _at_least(1, size=size, kernel_size=kernel, stride=stride, dilation=dilation)
    _at_least(0, padding=padding)
    span, room = dilation * (kernel - 1) + 1, size + 2 * padding
    if span > room:
        missing = -(-(span - size) // 2)
        raise ShapeError(
            f"kernel_size {kernel}{f' with dilation {dilation}' if dilation > 1 else ''} covers "
            f"{span} pixels, but size {size} with padding {padding} has {room}; what fits: "
            f"kernel_size up to {(room - 1) // dilation + 1}, or padding of {missing} or more, "
            f"or size of {span - 2 * padding} or more"
        )
    return (room - span) // stride + 1


@overload
def same_padding(kernel_size: int) -> int: ...
@overload
def same_padding(kernel_size: Sides) -> Sides: ...
def same_padding(kernel_size: int | Sides) -> int | Sides:
    """Compute the padding that keeps the size, at stride 1 and dilation 1.

    Args:
        kernel_size: in pixels; odd, since an even kernel has no centre and would need more
            padding at one end than at the other.

    Returns:
        Pixels to add at each end: an int for an int, a tuple for a tuple.

    Raises:
        ShapeError: the kernel is even or under 1.

    Example:
        >>> same_padding(5)
        2
    """
    return _like(
        kernel_size, [_same_side(kernel) for (kernel,) in _by_side(kernel_size=kernel_size)]
    )


def _same_side(kernel: int) -> int:
    _at_least(1, kernel_size=kernel)
    if kernel % 2 == 0:
        raise ShapeError(
            f"kernel_size {kernel} is even: no padding that is equal at both ends keeps the size; "
            f"the nearest odd kernels are {kernel - 1} and {kernel + 1}"
        )
    return kernel // 2


@overload
def kernel_size_for(size_in: int, size_out: int, *, stride: int = 1, padding: int = 0) -> int: ...
@overload
def kernel_size_for(
    size_in: Sides, size_out: int | Sides, *, stride: int | Sides = 1, padding: int | Sides = 0
) -> Sides: ...
def kernel_size_for(
    size_in: int | Sides,
    size_out: int | Sides,
    *,
    stride: int | Sides = 1,
    padding: int | Sides = 0,
) -> int | Sides:
    """Find the smallest kernel (dilation 1) that turns one size into another.

    At stride 1 there is one such kernel. At stride s up to s neighbouring sizes give the same
    output under the floor rule; the smallest is returned, and it leaves a remainder: 504 to 252
    at stride 2 is met by a kernel of 1 (the last pixel is not looked at) and by one of 2.

    Args:
        size_in: of the input, in pixels, 1 or more.
        size_out: of the output that is wanted, 1 or more.
        stride: 1 or more.
        padding: pixels added at each end, 0 or more.

    Returns:
        The kernel's size: an int for an int, a tuple for a tuple.

    Raises:
        ShapeError: no kernel gives that size, a value is out of range, or the lengths differ.

    Example:
        >>> kernel_size_for((512, 512), (504, 504))
        (9, 9)
    """
    sides = _by_side(size_in=size_in, size_out=size_out, stride=stride, padding=padding)
    return _like(size_in, [_kernel_side(*side) for side in sides])


def _kernel_side(size_in: int, size_out: int, stride: int, padding: int) -> int:
    _at_least(1, size_in=size_in, size_out=size_out, stride=stride)
    _at_least(0, padding=padding)
    room = size_in + 2 * padding
    largest = (room - 1) // stride + 1
    if size_out > largest:
        needed = -(-((size_out - 1) * stride + 1 - size_in) // 2)
        raise ShapeError(
            f"no kernel turns size {size_in} into {size_out} with stride {stride} and padding "
            f"{padding}; possible are 1 to {largest} ({largest} with a kernel of 1); {size_out} "
            f"needs padding of {needed} or more{' or a smaller stride' if stride > 1 else ''}"
        )
    return max(1, room - stride * size_out + 1)


def _by_side(**values: int | Sides) -> list[Sides]:
    """Give one tuple of the values for each side; the first value says how many sides."""
    first, *_ = values.values()
    sides = len(first) if isinstance(first, tuple | list) else None
    rows = [_spread(name, value, sides, next(iter(values))) for name, value in values.items()]
    return list(zip(*rows, strict=True))


def _spread(name: str, value: int | Sides, sides: int | None, first: str) -> Sides:
    if not isinstance(value, tuple | list):
        return (_integer(name, value),) * (1 if sides is None else sides)
    if sides is None:
        raise ShapeError(
            f"{name} is {value}, a tuple, but {first} is an int; make {first} a tuple of "
            f"{len(value)} as well"
        )
    if not value or len(value) != sides:
        raise ShapeError(
            f"{name} is {value}; needed is an int or a tuple of {sides or '1 or more'}"
        )
    return tuple(_integer(name, side) for side in value)


def _integer(name: str, value: object) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ShapeError(f"{name} is {value!r}; needed is an int or a tuple of ints") from None


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise ShapeError(f"{name} is {value}; allowed: {low} or more")


def _like(template: int | Sides, sides: list[int]) -> int | Sides:
    return tuple(sides) if isinstance(template, tuple | list) else sides[0]
