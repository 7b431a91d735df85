from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.arithmetic import conv_output_size, kernel_size_for, same_padding
from cifarzoo.errors import InvalidTypeError, InvalidValueError

sizes = st.integers(1, 24)
kernels = st.integers(1, 7)
strides = st.integers(1, 4)
paddings = st.integers(0, 4)


def test_answers_of_task_1() -> None:
    assert same_padding(5) == 2  # 1c
    assert kernel_size_for((512, 512), (504, 504)) == (9, 9)  # 1d
    assert conv_output_size((504, 504), 2, stride=2) == (252, 252)  # 1e
    assert conv_output_size((252, 252), 3) == (250, 250)  # 1f


@given(sizes, kernels, strides, paddings, st.integers(1, 3))
def test_output_size_equals_that_of_torch(n: int, k: int, s: int, p: int, d: int) -> None:
    layer = torch.nn.Conv1d(1, 1, k, stride=s, padding=p, dilation=d)
    if d * (k - 1) + 1 > n + 2 * p:
        with pytest.raises(InvalidValueError, match="spans"):
            conv_output_size(n, k, stride=s, padding=p, dilation=d)
    else:
        out = layer(torch.zeros(1, 1, n))
        assert conv_output_size(n, k, stride=s, padding=p, dilation=d) == out.shape[-1]


@given(st.tuples(sizes, sizes), st.tuples(kernels, kernels), st.tuples(strides, strides))
def test_sides_are_independent(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    both = conv_output_size(size, kernel, stride=stride, padding=3)
    sides = zip(size, kernel, stride, strict=True)
    assert both == tuple(conv_output_size(n, k, stride=s, padding=3) for n, k, s in sides)


@given(st.integers(0, 10), st.integers(1, 40))
def test_same_padding_preserves_the_size(half: int, n: int) -> None:
    kernel = 2 * half + 1
    assert conv_output_size(n, kernel, padding=same_padding(kernel)) == n


@given(sizes, st.integers(1, 30), strides, paddings)
def test_kernel_size_is_the_smallest_with_that_output(n: int, out: int, s: int, p: int) -> None:
    every = range(1, n + 2 * p + 1)
    fits = [k for k in every if conv_output_size(n, k, stride=s, padding=p) == out]
    if fits:
        assert kernel_size_for(n, out, stride=s, padding=p) == fits[0]
    else:
        with pytest.raises(InvalidValueError, match="size_out"):
            kernel_size_for(n, out, stride=s, padding=p)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"size": 0}, InvalidValueError, "size"),
        ({"stride": 0}, InvalidValueError, "stride"),
        ({"padding": -1}, InvalidValueError, "padding"),
        ({"stride": (1, 2, 3)}, InvalidValueError, "stride"),
        ({"dilation": 1.5}, InvalidTypeError, "dilation"),
        ({"padding": "same"}, InvalidTypeError, "padding"),
        ({"size": 8, "kernel_size": (3, 3)}, InvalidTypeError, "kernel_size"),
    ],
)
def test_errors_name_the_argument(
    arguments: dict[str, Any], error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=name):
        conv_output_size(**{"size": (8, 8), "kernel_size": 3, **arguments})


def test_even_kernel_sizes_have_no_same_padding() -> None:
    with pytest.raises(InvalidValueError, match="expected an odd number"):
        same_padding((3, 4))
