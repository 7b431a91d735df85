"""Input, kernel and output sizes of convolution and pooling layers, in pixels.

Sizes are rounded down, as in PyTorch. A size is an int, or a tuple of ints for several sides; other
arguments are then ints for all sides or tuples of the same length. A wrong type raises
`InvalidTypeError`; a value out of range or a tuple of another length raises `InvalidValueError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from cifarzoo.errors import InvalidValueError
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate

__all__ = ["conv_output_size", "kernel_size_for", "same_padding"]

Sides: TypeAlias = tuple[int, ...]
Size = TypeVar("Size", int, Sides)


def conv_output_size(
    size: Size,
    kernel_size: int | Sides,
    *,
    stride: int | Sides = 1,
    padding: int | Sides = 0,
    dilation: int | Sides = 1,
) -> Size:
    """Return the output size of a convolution or pooling layer.

    The size is floor((size + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.

    Args:
        size: input size in pixels, 1 or more.
        kernel_size: kernel size in pixels, 1 or more.
        stride: stride in pixels, 1 or more.
        padding: pixels added at each end, 0 or more.
        dilation: distance between neighbouring kernel elements in pixels, 1 or more.

    Raises:
        InvalidValueError: the dilated kernel is larger than the padded input.

    Example:
        >>> conv_output_size((32, 48), 2, stride=2)
        (16, 24)
    """

    def formula(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> int:
        spanned, available = dilation * (kernel_size - 1) + 1, size + 2 * padding
        if spanned > available:
            raise InvalidValueError(
                f"kernel_size is {kernel_size} and spans {spanned} pixels: expected at most the "
                f"padded input, {available}"
            )
        return (available - spanned) // stride + 1

    arguments = {"stride": stride, "padding": padding, "dilation": dilation}
    result: Size = _per_side(formula, size=size, kernel_size=kernel_size, **arguments)
    return result


def same_padding(kernel_size: Size) -> Size:
    """Return the padding at each end that preserves the size, for stride 1 and dilation 1.

    Raises:
        InvalidValueError: the kernel size is even, which would need more padding at one end.

    Example:
        >>> same_padding(5)
        2
    """

    def formula(kernel_size: int) -> int:
        if kernel_size % 2 == 0:
            raise InvalidValueError(f"kernel_size is {kernel_size}: expected an odd number")
        return kernel_size // 2

    result: Size = _per_side(formula, kernel_size=kernel_size)
    return result


def kernel_size_for(
    size_in: Size, size_out: int | Sides, *, stride: int | Sides = 1, padding: int | Sides = 0
) -> Size:
    """Return the smallest kernel size that turns one size into another, for dilation 1.

    With stride s, up to s consecutive kernel sizes have the same output size.

    Raises:
        InvalidValueError: no kernel size has that output size.

    Example:
        >>> kernel_size_for((512, 512), (504, 504))
        (9, 9)
    """

    def formula(size_in: int, size_out: int, stride: int, padding: int) -> int:
        available = size_in + 2 * padding
        largest = (available - 1) // stride + 1
        if size_out > largest:
            raise InvalidValueError(f"size_out is {size_out}: expected at most {largest}")
        return max(1, available - stride * size_out + 1)

    result: Size = _per_side(
        formula, size_in=size_in, size_out=size_out, stride=stride, padding=padding
    )
    return result


def _per_side(formula: Callable[..., int], **values: int | Sides) -> Any:  # noqa: ANN401
    """Apply a formula to each side of the first value; return an int or a tuple like it."""
    first = next(iter(values.values()))
    n = len(first) if isinstance(first, tuple) else 1
    columns = []
    for name, value in values.items():
        sides = value if isinstance(value, tuple) and isinstance(first, tuple) else (value,) * n
        if len(sides) != n:
            raise InvalidValueError(f"{name} is {value}: expected an int, or a tuple of {n}")
        kind = NonNegativeInt if name == "padding" else PositiveInt
        columns.append([validate(name, side, kind) for side in sides])
    results = tuple(formula(*side) for side in zip(*columns, strict=True))
    return results if isinstance(first, tuple) else results[0]
