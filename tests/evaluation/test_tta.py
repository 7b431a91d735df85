from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cifarzoo import OptionError, ShapeError
from cifarzoo.evaluation.tta import views
from cifarzoo.spec import TtaName

NAMES = st.sampled_from(["none", "flip", "flip_translate"])


@given(NAMES, st.integers(2, 6), st.integers(2, 6), st.booleans())
def test_weights_add_up_to_one_and_views_keep_shape_and_type(
    tta: TtaName, height: int, width: int, as_bytes: bool
) -> None:
    images = torch.arange(2 * 3 * height * width).view(2, 3, height, width)
    images = images.to(torch.uint8 if as_bytes else torch.float32)
    made = list(views(images, tta))
    assert sum(weight for weight, _ in made) == 1
    assert len(made) == {"none": 1, "flip": 2, "flip_translate": 6}[tta]
    assert all(view.shape == images.shape and view.dtype == images.dtype for _, view in made)


@given(NAMES)
def test_the_image_itself_is_the_first_view(tta: TtaName) -> None:
    images = torch.rand(2, 3, 5, 5)
    assert torch.equal(next(views(images, tta))[1], images)


def test_flip_is_the_image_and_its_mirror_image() -> None:
    images = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    (one, image), (two, mirrored) = views(images, "flip")
    assert one == two == 0.5
    assert torch.equal(image, images)
    assert mirrored.tolist() == [[[[3.0, 2, 1], [6, 5, 4]]]]


def _shifted(image: Tensor, down: int, right: int) -> list[list[float]]:
    """Move an image's content by one pixel, the border mirrored, index by index."""
    height, width = image.shape
    rows = [abs(i - down) if i - down < height else height - 2 for i in range(height)]
    columns = [abs(j - right) if j - right < width else width - 2 for j in range(width)]
    return [[image[i, j].item() for j in columns] for i in rows]


def test_translation_is_one_pixel_each_way_with_half_the_weight() -> None:
    image = torch.arange(12.0).view(3, 4)
    made = [(weight, view[0, 0]) for weight, view in views(image[None, None], "flip_translate")]
    assert [weight for weight, _ in made] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert made[2][1].tolist() == _shifted(image, 1, 1)
    assert made[4][1].tolist() == _shifted(image, -1, -1)
    for i in (0, 2, 4):
        assert torch.equal(made[i + 1][1], made[i][1].flip(-1))


def test_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(OptionError, match="did you mean 'flip_translate'"):
        list(views(torch.zeros(1, 1, 2, 2), "flip_translat"))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 12), (4, 3, 8), (4, 3, 1, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"test-time augmentation needs \(N,C,H,W\)"):
        next(views(torch.zeros(shape), "flip"))
