from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.tta import views


@given(
    st.sampled_from(["flip", "flip_translate"]),
    st.integers(2, 6),
    st.integers(2, 6),
    st.sampled_from([torch.uint8, torch.float32]),
)
def test_weights_sum_to_one_and_views_keep_shape_and_dtype(
    tta: Literal["flip", "flip_translate"], height: int, width: int, dtype: torch.dtype
) -> None:
    images = torch.arange(2 * 3 * height * width).view(2, 3, height, width).to(dtype)
    found = list(views(images, tta))
    assert sum(weight for weight, _ in found) == 1
    assert len(found) == {"flip": 2, "flip_translate": 6}[tta]
    assert all(view.shape == images.shape and view.dtype == dtype for _, view in found)
    assert torch.equal(found[0][1], images)


def test_flip_is_the_image_and_its_mirror_image() -> None:
    images = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    (one, image), (two, mirrored) = views(images, "flip")
    assert one == two == 0.5
    assert torch.equal(image, images)
    assert mirrored.tolist() == [[[[3.0, 2, 1], [6, 5, 4]]]]


def _shifted(image: Tensor, down: int, right: int) -> list[list[float]]:
    """Shift an image by one pixel, with the border mirrored, index by index."""
    height, width = image.shape
    rows = [abs(i - down) if i - down < height else height - 2 for i in range(height)]
    columns = [abs(j - right) if j - right < width else width - 2 for j in range(width)]
    return [[image[i, j].item() for j in columns] for i in rows]


def test_translations_are_one_pixel_each_way_with_half_the_weight() -> None:
    image = torch.arange(12.0).view(3, 4)
    found = [(weight, view[0, 0]) for weight, view in views(image[None, None], "flip_translate")]
    assert [weight for weight, _ in found] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert found[2][1].tolist() == _shifted(image, 1, 1)
    assert found[4][1].tolist() == _shifted(image, -1, -1)
    for i in (0, 2, 4):
        assert torch.equal(found[i + 1][1], found[i][1].flip(-1))


@pytest.mark.parametrize("shape", [(4, 12), (4, 3, 8), (4, 3, 1, 8)])
def test_images_of_invalid_shape_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValueError, match=r"expects \(N,C,H,W\)"):
        next(views(torch.zeros(shape), "flip"))
