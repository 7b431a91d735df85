from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import cifarzoo.arithmetic.shapes as shapes_module
from cifarzoo.arithmetic import conv_output_size, kernel_size_for, same_padding
from cifarzoo.errors import ShapeError

sizes = st.integers(1, 24)
kernels = st.integers(1, 7)
strides = st.integers(1, 4)
paddings = st.integers(0, 4)


def test_answers_of_task_1() -> None:
    assert same_padding(5) == 2  # 1c
    assert conv_output_size(32, 5, padding=same_padding(5)) == 32
    kernel = kernel_size_for((512, 512), (504, 504))  # 1d
    assert kernel == (9, 9)
    first = conv_output_size((512, 512), kernel)
    assert first == (504, 504)
    pooled = conv_output_size(first, 2, stride=2)  # 1e
    assert pooled == (252, 252)
    assert conv_output_size(pooled, 3) == (250, 250)  # 1f


@given(sizes, kernels, strides, paddings, st.integers(1, 3))
def test_output_size_is_torchs_own(n: int, k: int, s: int, p: int, d: int) -> None:
    image, kernel = torch.zeros(1, 1, n), torch.zeros(1, 1, k)
    if d * (k - 1) + 1 > n + 2 * p:
        with pytest.raises(ShapeError):
            conv_output_size(n, k, stride=s, padding=p, dilation=d)
        return
    out = torch.nn.functional.conv1d(image, kernel, stride=s, padding=p, dilation=d)
    assert conv_output_size(n, k, stride=s, padding=p, dilation=d) == out.shape[-1]


@given(st.tuples(sizes, sizes), st.tuples(kernels, kernels), st.tuples(strides, strides))
def test_sides_are_independent(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    both = conv_output_size(size, kernel, stride=stride, padding=3)
    alone = [
        conv_output_size(n, k, stride=s, padding=3)
        for n, k, s in zip(size, kernel, stride, strict=True)
    ]
    assert both == tuple(alone)


@pytest.mark.parametrize("size", [(7, 9), torch.Size([7, 9])])
def test_any_tuple_gives_a_tuple(size: tuple[int, ...]) -> None:
    assert conv_output_size(size, 3) == (5, 7)
    assert same_padding((3, 5)) == (1, 2)
    assert kernel_size_for(size, 5) == (3, 5)


@given(st.integers(0, 10))
def test_same_padding_keeps_the_size(half: int) -> None:
    kernel = 2 * half + 1
    assert conv_output_size(32, kernel, padding=same_padding(kernel)) == 32


@given(sizes, st.integers(1, 30), strides, paddings)
def test_kernel_is_the_smallest_that_gives_the_size(n: int, out: int, s: int, p: int) -> None:
    room = n + 2 * p
    fits = [k for k in range(1, room + 1) if conv_output_size(n, k, stride=s, padding=p) == out]
    if fits:
        assert kernel_size_for(n, out, stride=s, padding=p) == fits[0]
    else:
        largest = conv_output_size(n, 1, stride=s, padding=p)
        with pytest.raises(ShapeError, match=f"possible are 1 to {largest} "):
            kernel_size_for(n, out, stride=s, padding=p)


@given(sizes, st.integers(1, 30), strides, paddings)
def test_the_padding_named_in_the_error_is_the_least_that_works(
    n: int, out: int, s: int, p: int
) -> None:
    assume(out > conv_output_size(n, 1, stride=s, padding=p))
    with pytest.raises(ShapeError) as caught:
        kernel_size_for(n, out, stride=s, padding=p)
    needed = int(str(caught.value).split("needs padding of ")[1].split()[0])
    assert kernel_size_for(n, out, stride=s, padding=needed) >= 1
    with pytest.raises(ShapeError):
        kernel_size_for(n, out, stride=s, padding=needed - 1)


@given(sizes, st.integers(1, 40), paddings, st.integers(1, 3))
def test_what_would_fit_does_fit(n: int, k: int, p: int, d: int) -> None:
    assume(d * (k - 1) + 1 > n + 2 * p)
    with pytest.raises(ShapeError) as caught:
        conv_output_size(n, k, padding=p, dilation=d)
    offer = r"kernel_size up to (\d+), or padding of (\d+) or more, or size of (\d+) or more"
    found = re.search(offer, str(caught.value))
    assert found is not None
    kernel, padding, size = map(int, found.groups())
    assert conv_output_size(n, kernel, padding=p, dilation=d) >= 1
    assert conv_output_size(n, k, padding=padding, dilation=d) >= 1
    assert conv_output_size(size, k, padding=p, dilation=d) == 1
    with pytest.raises(ShapeError):
        conv_output_size(n, kernel + 1, padding=p, dilation=d)
    with pytest.raises(ShapeError):
        conv_output_size(n, k, padding=padding - 1, dilation=d)


@pytest.mark.parametrize("kernel", [2, 4, (3, 6)])
def test_even_kernel_names_the_nearest_odd_ones(kernel: int | tuple[int, ...]) -> None:
    even = kernel if isinstance(kernel, int) else kernel[1]
    with pytest.raises(ShapeError, match=f"are {even - 1} and {even + 1}$"):
        same_padding(kernel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "stride is 0; allowed: 1 or more"),
        ({"padding": -1}, "padding is -1; allowed: 0 or more"),
        ({"dilation": 0}, "dilation is 0; allowed: 1 or more"),
        ({"stride": 1.5}, "stride is 1.5; needed is an int"),
        ({"stride": True}, "stride is True; needed is an int"),
        ({"padding": "same"}, "padding is 'same'; needed is an int"),
        ({"padding": (1, 2, 3)}, r"padding is \(1, 2, 3\); needed is an int or a tuple of 2"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        conv_output_size((8, 8), 3, **arguments)  # type: ignore[call-overload]


def test_int_and_tuple_do_not_mix() -> None:
    with pytest.raises(ShapeError, match="but size is an int; make size a tuple of 2"):
        conv_output_size(8, (3, 3))  # type: ignore[call-overload]
    with pytest.raises(ShapeError, match="1 or more"):
        conv_output_size((), 3)
    with pytest.raises(ShapeError, match="size_out is 0"):
        kernel_size_for(8, 0)


def test_the_file_does_not_need_torch() -> None:
    path = Path(shapes_module.__file__)
    code = (
        "import runpy, sys; "
        f"sys.path.insert(0, {str(path.parents[2])!r}); "
        f"print(runpy.run_path({str(path)!r})['same_padding'](5), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv_output_size(0, 3, padding=2), "size is 0; allowed: 1"),
        (lambda: conv_output_size(8, 0), "kernel_size is 0; allowed: 1"),
        (lambda: conv_output_size(8, 3, stride=0), "stride is 0; allowed: 1"),
        (lambda: conv_output_size(8, 3, dilation=0), "dilation is 0; allowed: 1"),
        (lambda: conv_output_size(8, 3, padding=-1), "padding is -1; allowed: 0"),
        (lambda: same_padding(-1), "kernel_size is -1; allowed: 1"),
        (lambda: kernel_size_for(0, 3, padding=2), "size_in is 0; allowed: 1"),
        (lambda: kernel_size_for(8, 0), "size_out is 0; allowed: 1"),
        (lambda: kernel_size_for(8, 3, stride=0), "stride is 0; allowed: 1"),
        (lambda: kernel_size_for(8, 3, padding=-1), "padding is -1; allowed: 0"),
        (lambda: conv_output_size((8, 2.5), 3), r"size is 2\.5; needed is an int"),  # type: ignore[arg-type]
        (lambda: conv_output_size(8, 3, stride=None), "stride is None; needed is"),  # type: ignore[call-overload]
    ],
)
def test_each_value_that_is_out_of_range_is_named(call: Callable[[], int], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()
