"""Tests of the checks on labelled images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifarzoo.data.images import check_labelled_images
from cifarzoo.errors import CifarZooError, EmptyLoaderError, LabelError, RangeError, ShapeError

IMAGES = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 2, 1])


def test_good_ones_pass() -> None:
    check_labelled_images(IMAGES, LABELS)
    check_labelled_images(IMAGES, LABELS, classes=("a", "b", "c"))


@pytest.mark.parametrize(
    ("images", "labels", "error", "told"),
    [
        (IMAGES[0], LABELS, ShapeError, "(3, 8, 8)"),
        (IMAGES.permute(0, 2, 3, 1), LABELS, ShapeError, "(N, 3, H, W)"),
        (IMAGES[:, :1], LABELS, ShapeError, "(4, 1, 8, 8)"),
        (IMAGES[:0], LABELS[:0], EmptyLoaderError, "one or more"),
        (IMAGES[..., :0], LABELS, EmptyLoaderError, "one or more"),
        (IMAGES.float(), LABELS, RangeError, "torch.uint8"),
        (IMAGES, LABELS[:3], ShapeError, "(3,); needed is (4,)"),
        (IMAGES, LABELS[:, None], ShapeError, "(4, 1)"),
        (IMAGES, LABELS.int(), LabelError, "labels.long()"),
        (IMAGES, LABELS - 1, LabelError, "lowest label is -1"),
        (IMAGES, LABELS + 1, LabelError, "highest label is 3; allowed: 0 to 2"),
    ],
)
def test_bad_ones_are_refused(
    images: Tensor, labels: Tensor, error: type[CifarZooError], told: str
) -> None:
    with pytest.raises(error) as caught:
        check_labelled_images(images, labels, classes=("a", "b", "c"))
    assert told in str(caught.value)
