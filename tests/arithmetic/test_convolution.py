from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.arithmetic import convolve2d
from cifarzoo.errors import InvalidTypeError, InvalidValueError

Ints = npt.NDArray[np.int64]

IMAGE = [[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]


@st.composite
def grids(draw: st.DrawFn, sides: tuple[int, ...]) -> Ints:
    shape = draw(st.sampled_from(sides)), draw(st.sampled_from(sides))
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(-99, 100, shape)


def test_answers_of_task_1a() -> None:
    answer = convolve2d(IMAGE, SOBEL)
    assert answer.tolist() == [[-2, 1, -11, 2, 13], [-10, 4, -8, -2, 18], [-14, 1, 5, -6, 9]]
    answer = convolve2d(IMAGE, SOBEL, boundary="reflect")
    assert answer.tolist() == [[0, 4, -16, 2, 0], [0, 4, -8, -2, 0], [0, 4, 0, -6, 0]]


@given(grids((1, 2, 3, 4, 7)), grids((1, 3, 5)))
def test_zero_boundary_equals_scipy_signal(image: Ints, kernel: Ints) -> None:
    expected = scipy.signal.convolve2d(image, kernel, mode="same")
    # For a kernel larger than the image, scipy centres "same" differently.
    if all(k <= n for k, n in zip(kernel.shape, image.shape, strict=True)):
        assert np.array_equal(convolve2d(image, kernel).numpy(), expected)


@given(grids((3, 4, 7)), grids((1, 3, 5)))
def test_reflect_boundary_equals_torchs_padding(image: Ints, kernel: Ints) -> None:
    rows, columns = (side // 2 for side in kernel.shape)
    pixels, weights = torch.from_numpy(image).double(), torch.from_numpy(kernel).double()
    padded = torch.nn.functional.pad(pixels[None], (columns, columns, rows, rows), mode="reflect")
    expected = torch.nn.functional.conv2d(padded[None], weights.flip(0, 1)[None, None])[0, 0]
    assert torch.equal(convolve2d(image, kernel, boundary="reflect").double(), expected)


def test_uint8_does_not_overflow_and_floats_remain_floats() -> None:
    bright = torch.full((3, 3), 255, dtype=torch.uint8)
    assert convolve2d(bright, torch.ones(3, 3, dtype=torch.uint8))[1, 1].item() == 9 * 255
    assert convolve2d(IMAGE, [[0.5]]).tolist() == [[x / 2 for x in row] for row in IMAGE]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ([1, 2], InvalidValueError),
        (torch.zeros(3, 4, 4), InvalidValueError),
        ([[]], InvalidValueError),
        ([[1, 2], [3]], InvalidTypeError),
        ([["a"]], InvalidTypeError),
    ],
)
def test_invalid_grids_are_rejected(image: Any, error: type[Exception]) -> None:  # noqa: ANN401
    with pytest.raises(error, match="image"):
        convolve2d(image, SOBEL)


def test_even_kernels_and_unknown_boundaries_are_rejected() -> None:
    with pytest.raises(InvalidValueError, match="odd"):
        convolve2d(IMAGE, torch.ones(3, 4))
    with pytest.raises(InvalidValueError, match="boundary is 'reflekt'"):
        convolve2d(IMAGE, SOBEL, boundary="reflekt")  # type: ignore[arg-type]
