from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifarzoo.data.loaders import TensorLoader
from cifarzoo.errors import OptionError, ShapeError
from cifarzoo.spec import Augmentation
from cifarzoo.viz import plot_augmentation

IMAGES = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
STRONG = Augmentation(flip="alternating", translate=2, cutout=4, padding="reflect")


def test_shows_what_the_loader_gives(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_augmentation(IMAGES, STRONG, epochs=2, seed=5)
    loader = TensorLoader(
        IMAGES, torch.zeros(3, dtype=torch.int64), batch_size=3, augmentation=STRONG, seed=5
    )
    epochs = [next(iter(loader))[0] for _ in range(2)]
    pictures = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert len(pictures) == 9
    for row in range(3):
        wanted = [IMAGES[row].float() / 255, epochs[0][row], epochs[1][row]]
        for picture, image in zip(pictures[3 * row : 3 * row + 3], wanted, strict=True):
            np.testing.assert_allclose(picture, image.permute(1, 2, 0), atol=1e-6)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "epoch 1", "epoch 2"]
    assert_fits(figure)


@pytest.mark.parametrize(
    ("augmentation", "words"),
    [
        (Augmentation(), "no augmentation"),
        (Augmentation(flip="random", translate=2), "mirrored by chance; shifted by up to 2 pixels"),
        (STRONG, "a square of 4 pixels cut out"),
    ],
)
def test_the_title_says_what_happens(augmentation: Augmentation, words: str) -> None:
    title = plot_augmentation(IMAGES, augmentation, epochs=1).get_suptitle()
    assert words in title.replace("\n", " ")


def test_float_images_are_the_same() -> None:
    one, two = (plot_augmentation(each, STRONG, epochs=1) for each in (IMAGES, IMAGES / 255))
    for left, right in zip(one.axes, two.axes, strict=True):
        one_shown, two_shown = (np.asarray(axis.images[0].get_array()) for axis in (left, right))
        np.testing.assert_allclose(one_shown, two_shown)


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(OptionError, match="augmentation is 'flip'"):
        plot_augmentation(IMAGES, "flip")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="epochs is 0"):
        plot_augmentation(IMAGES, STRONG, epochs=0)
    with pytest.raises(ShapeError, match="empty"):
        plot_augmentation(IMAGES[:0], STRONG)
