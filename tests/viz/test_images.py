from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cifarzoo.data.loader import TensorLoader
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.recipe import Augmentation
from cifarzoo.viz import plot_augmentation, plot_images

IMAGES = torch.arange(3 * 3 * 16 * 16).view(3, 3, 16, 16).remainder(256).to(torch.uint8)
STRONG = Augmentation(flip="alternating", translate=2, cutout=4, padding="reflect")


def test_images_have_their_labels_above_them() -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    figure = plot_images(images, torch.arange(9) % 2, ["cat", "dog"])
    assert [axis.get_title() for axis in figure.axes] == ["cat", "dog"] * 4 + ["cat"]
    drawn = np.asarray(figure.axes[3].images[0].get_array())
    np.testing.assert_allclose(drawn, images[3].permute(1, 2, 0).numpy() / 255, atol=1e-6)
    assert figure.get_suptitle() == ""


def test_names_and_labels_are_optional() -> None:
    images = torch.rand(2, 3, 8, 8)
    numbered = plot_images(images, torch.tensor([7, 0]))
    assert [axis.get_title() for axis in numbered.axes] == ["7", "0"]
    many = plot_images(torch.rand(1000, 3, 2, 2))
    assert [axis.get_title() for axis in many.axes] == [""] * 64
    assert many.get_suptitle() == "first 64 of 1,000 images"


def test_unsuitable_images_are_rejected() -> None:
    images: Any = torch.rand(1, 3, 4, 4)
    for wrong in (images.numpy(), images.to_sparse(), images.to("meta")):
        with pytest.raises(InvalidTypeError, match="images"):
            plot_images(wrong)
    for wrong in (images.long(), images[:0], images[0], 200 * images):
        with pytest.raises(InvalidValueError, match="images"):
            plot_images(wrong)


def test_unsuitable_labels_and_names_are_rejected() -> None:
    images, names = torch.rand(2, 3, 8, 8), ["cat", "dog"]
    for wrong in ([0, 1], torch.tensor([0.0, 1.0])):
        with pytest.raises(InvalidTypeError, match="labels"):
            plot_images(images, wrong, names)  # type: ignore[arg-type]
    for bad in ([2, 0], [-1, 0], [1]):
        with pytest.raises(InvalidValueError, match="labels"):
            plot_images(images, torch.tensor(bad), names)
    with pytest.raises(InvalidValueError, match="2 names"):
        plot_images(images, torch.tensor([1, 0]), "ab")


@pytest.mark.parametrize("images", [IMAGES, IMAGES / 255])
def test_augmentation_shows_what_the_loader_yields(images: torch.Tensor) -> None:
    figure = plot_augmentation(images, STRONG, epochs=2)
    labels = torch.zeros(3, dtype=torch.int64)
    loader = TensorLoader(IMAGES, labels, batch_size=3, augmentation=STRONG)
    columns = [IMAGES / 255, *(next(iter(loader))[0] for _ in range(2))]
    assert [axis.get_title() for axis in figure.axes[:4]] == ["image", "epoch 1", "epoch 2", ""]
    for i, axis in enumerate(figure.axes):
        expected = columns[i % 3][i // 3].permute(1, 2, 0)
        drawn = np.asarray(axis.images[0].get_array())
        np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-6)


def test_the_title_describes_the_augmentation() -> None:
    strong = Augmentation(flip="random", rand_augment=2)
    expected = "RandAugment (operations: 2, magnitude: 9); random horizontal flips"
    new = Augmentation(trivial_augment=True, rotation=15, sharpness=0.2, erase=0.25)
    others = (
        "TrivialAugment; rotated by up to 15° (zero padding); changed sharpness; "
        "rectangles erased in 0.25 of the images"
    )
    cases = ((Augmentation(), "no augmentation"), (strong, expected), (new, others))
    for augmentation, words in cases:
        title = plot_augmentation(IMAGES, augmentation, epochs=1).get_suptitle()
        assert title.replace("\n", " ") == words


def test_other_settings_and_numbers_of_epochs_are_rejected() -> None:
    with pytest.raises(InvalidTypeError, match="augmentation"):
        plot_augmentation(IMAGES, "flip")  # type: ignore[arg-type]
    for epochs in (0, 13):
        with pytest.raises(InvalidValueError, match="epochs"):
            plot_augmentation(IMAGES, STRONG, epochs=epochs)
