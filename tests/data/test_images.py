"""Tests of the checks on labelled images."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from cifarzoo.data.images import check_labelled_images, labelled_batch
from cifarzoo.errors import (
    CifarZooError,
    EmptyLoaderError,
    LabelError,
    OptionError,
    RangeError,
    ShapeError,
)

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
        (IMAGES.permute(0, 2, 3, 1), LABELS, ShapeError, "permute(0, 3, 1, 2)"),
        (IMAGES.to_sparse(), LABELS, OptionError, "images: a tensor that"),
        (IMAGES, LABELS.to("meta"), OptionError, "labels: a tensor that"),
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


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_pair_of_tensors_is_a_labelled_batch(kind: type) -> None:
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([1, 2])
    found = labelled_batch(kind((images, labels)))
    assert found[0] is images
    assert found[1] is labels


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ({"images": 1, "labels": 2}, "the loader gave a dict;"),
        ("ab", "the loader gave a str;"),
        (torch.rand(2, 3), "the loader gave a Tensor;"),
        ((torch.rand(2, 3), [1, 2]), "the loader gave a tuple of 2: Tensor, list;"),
        (([[0.5]], torch.tensor([1])), "the loader gave a tuple of 2: list, Tensor;"),
        ([1, 2, 3, 4, 5], "the loader gave a list of 5: int, int, int, int;"),
        ((torch.rand(2, 3).to_sparse(), torch.tensor([1, 2])), "a batch of images: a tensor that"),
        ((torch.rand(2, 3), torch.tensor([1, 2]).to("meta")), "a batch of labels: a tensor that"),
        ((torch.tensor(0.5), torch.tensor([1])), "images of shape () and labels of shape (1,)"),
        ((torch.rand(1, 3), torch.tensor(1)), "images of shape (1, 3) and labels of shape ()"),
    ],
)
def test_what_is_no_labelled_batch_is_told(batch: object, told: str) -> None:
    with pytest.raises((OptionError, ShapeError), match=re.escape(told)):
        labelled_batch(batch)
