from __future__ import annotations

import numpy as np
import pytest
import torch

from cifarzoo.errors import LabelError, OptionError, RangeError, ShapeError
from cifarzoo.viz._inputs import check_indices, check_labels, check_names, one_image, rgb


def test_uint8_and_float_give_the_same_picture() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    pictures = rgb(images)
    assert pictures.shape == (2, 4, 5, 3)
    assert pictures.dtype == np.float32
    np.testing.assert_allclose(pictures, rgb(images.double() / 255), atol=1e-6)
    assert pictures[1, 2, 3, 0] == pytest.approx(images[1, 0, 2, 3].item() / 255)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.zeros((1, 3, 4, 4)), OptionError, "ndarray"),
        (torch.zeros(0, 3, 4, 4), ShapeError, "empty"),
        (torch.zeros(1, 4, 4, 3), ShapeError, "channels come first"),
        (torch.full((1, 3, 4, 4), 200.0), RangeError, "divide by 255"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), RangeError, "int64"),
    ],
)
def test_images_that_cannot_be_drawn(
    images: torch.Tensor, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        rgb(images)


def test_one_image_gets_a_batch_dimension() -> None:
    assert one_image(torch.zeros(3, 4, 5)).shape == (1, 3, 4, 5)
    with pytest.raises(ShapeError, match=r"images\[0\]"):
        one_image(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ShapeError, match="needed is"):
        one_image(torch.zeros(4, 4))
    with pytest.raises(RangeError, match="plain pixels"):
        one_image(torch.full((3, 4, 4), -1.0))


def test_indices() -> None:
    assert check_indices(None, 3, what="filter", first=10) == [0, 1, 2]
    assert check_indices(None, 30, what="filter", first=2) == [0, 1]
    assert check_indices(range(4, 6), 30, what="filter", first=2) == [4, 5]
    with pytest.raises(OptionError, match="filter 3 does not exist; allowed: 0 to 2"):
        check_indices([3], 3, what="filter", first=1)
    with pytest.raises(OptionError, match="filter -1"):
        check_indices([-1], 3, what="filter", first=1)
    with pytest.raises(OptionError, match="empty"):
        check_indices([], 3, what="filter", first=1)


def test_labels() -> None:
    assert check_labels(torch.tensor([1, 0]), 2, classes=2) == [1, 0]
    with pytest.raises(LabelError, match="label 2 does not exist; allowed: 0 to 1"):
        check_labels(torch.tensor([2]), 1, classes=2)
    with pytest.raises(LabelError, match="label -1 does not exist; allowed: 0 or more"):
        check_labels(torch.tensor([-1]), 1, classes=None)
    with pytest.raises(LabelError, match="float32"):
        check_labels(torch.tensor([1.0]), 1, classes=2)
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        check_labels(torch.tensor([1]), 2, classes=2)


def test_names() -> None:
    assert check_names(None, 2) == ["0", "1"]
    assert check_names(("cat", "dog"), 2) == ["cat", "dog"]
    for names in (["cat"], "ab"):
        with pytest.raises(OptionError, match="2 names"):
            check_names(names, 2)
