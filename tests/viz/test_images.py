from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifarzoo.errors import LabelError, ShapeError
from cifarzoo.viz import plot_images


def test_draws_images_under_their_labels(assert_fits: Callable[[Figure], None]) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    figure = plot_images(images, torch.arange(9) % 2, ["cat", "dog"])
    assert [axis.get_title() for axis in figure.axes] == ["cat", "dog"] * 4 + ["cat"]
    drawn = np.asarray(figure.axes[3].images[0].get_array())
    np.testing.assert_allclose(drawn, images[3].permute(1, 2, 0).numpy() / 255, atol=1e-6)
    assert figure.get_suptitle() == ""
    assert_fits(figure)


def test_numbers_or_nothing_where_there_are_no_names(
    assert_fits: Callable[[Figure], None],
) -> None:
    images = torch.rand(2, 3, 8, 8)
    assert [a.get_title() for a in plot_images(images, torch.tensor([7, 0])).axes] == ["7", "0"]
    bare = plot_images(images[:1])
    assert [axis.get_title() for axis in bare.axes] == [""]
    assert_fits(bare)


def test_of_many_images_the_first_are_drawn() -> None:
    figure = plot_images(torch.rand(1000, 3, 2, 2))
    assert len(figure.axes) == 64
    assert figure.get_suptitle() == "the first 64 of 1,000 images"


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ShapeError, match=r"images\[None\]"):
        plot_images(torch.rand(3, 8, 8))
    with pytest.raises(LabelError, match="label 2 does not exist"):
        plot_images(torch.rand(1, 3, 8, 8), torch.tensor([2]), ["cat", "dog"])
