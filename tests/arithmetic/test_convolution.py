from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.arithmetic import convolve2d
from cifarzoo.arithmetic.convolution import BoundaryName
from cifarzoo.errors import OptionError, ShapeError

Ints = npt.NDArray[np.int64]

IMAGE = [[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]


@st.composite
def grids(draw: st.DrawFn, low: int = 1, *, odd: bool = False) -> Ints:
    sides = st.sampled_from([1, 3, 5]) if odd else st.integers(low, 7)
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(-99, 100, (draw(sides), draw(sides)))


def test_answer_1a() -> None:
    answer = convolve2d(IMAGE, SOBEL)
    assert answer.tolist() == [[-2, 1, -11, 2, 13], [-10, 4, -8, -2, 18], [-14, 1, 5, -6, 9]]


def test_answer_1a_with_reflection() -> None:
    answer = convolve2d(IMAGE, SOBEL, boundary="reflect")
    assert answer.tolist() == [[0, 4, -16, 2, 0], [0, 4, -8, -2, 0], [0, 4, 0, -6, 0]]


@given(grids(), grids(odd=True))
def test_zero_boundary_is_scipys(image: Ints, kernel: Ints) -> None:
    expected = scipy.signal.convolve2d(image, kernel, mode="same")
    assert np.array_equal(convolve2d(image, kernel).numpy(), expected)


@given(grids(low=5), grids())
def test_valid_is_scipys(image: Ints, kernel: Ints) -> None:
    kernel = kernel[:5, :5]
    expected = scipy.signal.convolve2d(image, kernel, mode="valid")
    assert np.array_equal(convolve2d(image, kernel, boundary="valid").numpy(), expected)


@given(grids(low=3), grids(odd=True))
def test_reflection_is_scipys_mirror(image: Ints, kernel: Ints) -> None:
    expected = scipy.ndimage.convolve(image, kernel, mode="mirror")
    assert np.array_equal(convolve2d(image, kernel, boundary="reflect").numpy(), expected)


@given(grids(low=3), grids(odd=True))
def test_reflection_is_torchs_reflect_padding(image: Ints, kernel: Ints) -> None:
    pixels, weights = torch.tensor(image)[None].double(), torch.tensor(kernel)
    rows, columns = (side // 2 for side in kernel.shape)
    padded = torch.nn.functional.pad(pixels, (columns, columns, rows, rows), mode="reflect")[0]
    expected = convolve2d(padded.long(), weights, boundary="valid")
    assert torch.equal(convolve2d(image, kernel, boundary="reflect"), expected)


def test_torchs_layer_does_not_flip() -> None:
    image, kernel = torch.rand(1, 1, 6, 7), torch.rand(1, 1, 3, 3)
    layer = torch.nn.functional.conv2d(image, kernel.flip(2, 3), padding=1)[0, 0]
    torch.testing.assert_close(convolve2d(image[0, 0], kernel[0, 0]), layer)


@pytest.mark.parametrize("boundary", ["zero", "reflect", "valid"])
def test_types(boundary: BoundaryName) -> None:
    bright = torch.full((3, 3), 255, dtype=torch.uint8)
    ones = torch.ones(3, 3, dtype=torch.uint8)
    summed = convolve2d(bright, ones, boundary=boundary)
    assert summed.dtype == torch.int64
    assert summed.max() == (9 * 255)
    assert convolve2d(bright, ones.half(), boundary=boundary).dtype == torch.float16
    assert convolve2d(np.ones((3, 3)), ones, boundary=boundary).dtype == torch.float64
    assert convolve2d([[0.5] * 3] * 3, [[True]], boundary=boundary).dtype == torch.float32


def test_exact_where_floats_are_not() -> None:
    big = 2**53
    assert convolve2d([[big, 1]], [[1, 1, 0]]).tolist() == [[big + 1, 1]]


def test_flipped_and_read_only_arrays() -> None:
    array = np.array(SOBEL)
    array.flags.writeable = False
    assert convolve2d(IMAGE, array[::-1, ::-1]).tolist() == (-convolve2d(IMAGE, SOBEL)).tolist()


def test_gradients_flow() -> None:
    kernel = torch.ones(3, 3, requires_grad=True)
    convolve2d(torch.ones(3, 3), kernel, boundary="valid").sum().backward()  # type: ignore[no-untyped-call]
    assert kernel.grad is not None
    assert kernel.grad.tolist() == [[1.0] * 3] * 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2], r"image has shape \(2,\); needed is \(height, width\)"),
        (torch.zeros(3, 4, 4), "take one channel of one image at a time"),
        ([], "both 1 or more"),
        ([[]], "both 1 or more"),
        ([[1, 2], [3]], "image cannot be read as a grid of numbers"),
        ([["a"]], "image cannot be read as a grid of numbers"),
        (None, "image cannot be read as a grid of numbers"),
    ],
)
def test_bad_images(bad: list[list[float]], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        convolve2d(bad, SOBEL)


@pytest.mark.parametrize("boundary", ["zero", "reflect"])
def test_even_kernels_have_no_centre(boundary: BoundaryName) -> None:
    with pytest.raises(ShapeError, match="use 3 or 5 instead of 4, or boundary='valid'"):
        convolve2d(IMAGE, torch.ones(3, 4), boundary=boundary)
    assert convolve2d(IMAGE, torch.ones(3, 4), boundary="valid").shape == (1, 2)


def test_kernels_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"at most \(3, 5\), or boundary='zero'"):
        convolve2d(IMAGE, torch.ones(4, 4), boundary="valid")
    with pytest.raises(ShapeError, match=r"side of 3 .* needed is 4 or more, .* at most 5"):
        convolve2d(IMAGE, torch.ones(7, 1), boundary="reflect")
    assert convolve2d(IMAGE, torch.ones(5, 9), boundary="reflect").shape == (3, 5)


def test_unknown_boundary() -> None:
    with pytest.raises(OptionError, match="did you mean 'reflect'"):
        convolve2d(IMAGE, SOBEL, boundary="reflekt")  # type: ignore[arg-type]
