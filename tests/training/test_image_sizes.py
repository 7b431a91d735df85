"""Training on resized images, `Recipe.image_sizes`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo import Loaders, Recipe
from cifarzoo.errors import InvalidValueError
from cifarzoo.training.loss import resize

MakeLoaders = Callable[..., Loaders]

RECIPE = Recipe(epochs=5, batch_size=8, image_sizes=(16, 24, 32))
TAUGHT = replace(
    RECIPE,
    mixing=zoo.Mixing(kind="mixup", share=0.5),
    distillation=zoo.Distillation(teacher="any", views=2),
)
STEPS = 6  # per epoch
SIDES = [side for side in (16, 24, 24, 32, 32) for _ in range(STEPS)]

fit_quietly = partial(zoo.fit, device="cpu", precision="float32", progress=False)


class Network(nn.Sequential):
    """A network for images of any size, which records their sides."""

    def __init__(self, fails_at: int | None = None) -> None:
        torch.manual_seed(0)
        maps = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(*maps, nn.Dropout(0.3), nn.Linear(8, 10))
        self.fails_at = fails_at
        self.trained, self.checked = list[int](), set[int]()

    @override
    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            self.checked.add(images.shape[3])
        elif self.fails_at == len(self.trained):
            raise OSError("the disk was unplugged")
        else:
            self.trained.append(images.shape[3])
        logits: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return logits


def _model(network: Network, **limits: int) -> zoo.ImageClassifier:
    return zoo.ImageClassifier(zoo.Preprocess(), network, **limits)


def test_sizes_share_the_epochs_and_checks_see_whole_images(make_loaders: MakeLoaders) -> None:
    network = Network()
    fit_quietly(_model(network), make_loaders(), RECIPE)
    assert network.trained == SIDES
    assert network.checked == {32}


@pytest.mark.parametrize("recipe", [RECIPE, TAUGHT])
@pytest.mark.parametrize("step", [3, STEPS, 20])
def test_interrupted_run_ends_with_the_same_bits(
    make_loaders: MakeLoaders, tmp_path: Path, recipe: Recipe, step: int
) -> None:
    teacher = _model(Network()) if recipe.distillation else None
    run = partial(fit_quietly, recipe=recipe, teacher=teacher)
    whole, stopped, resumed = Network(), Network(fails_at=step), Network()
    run(_model(whole), make_loaders())
    run = partial(run, checkpoint=tmp_path / "run.pt")
    with pytest.raises(OSError, match="unplugged"):
        run(_model(stopped), make_loaders())
    run(_model(resumed), make_loaders())
    assert stopped.trained[: step // STEPS * STEPS] + resumed.trained == SIDES
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"min_image_size": 17}, "at least 17"), ({"image_size": 32}, "only 32")],
)
def test_models_that_need_larger_images_are_refused(
    make_loaders: MakeLoaders, limits: dict[str, int], expected: str
) -> None:
    model = _model(Network(), **limits)
    with pytest.raises(InvalidValueError, match=rf"\(16, 24, 32\).*the model accepts {expected}"):
        fit_quietly(model, make_loaders(), RECIPE)


class Recorder(Network):
    """A network that keeps the images of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return super().forward(images)


@pytest.mark.parametrize("views", [None, 2])
def test_teacher_sees_the_mixed_images_before_they_are_resized(
    make_loaders: MakeLoaders, views: int | None
) -> None:
    """And each only once, if the images of some epochs come again."""
    teacher, student = Recorder(), Recorder()
    recipe = replace(
        RECIPE,
        mixing=zoo.Mixing(kind="mixup"),
        distillation=zoo.Distillation(teacher="any", views=views),
    )
    loaders = Loaders(make_loaders(augmentation=zoo.Augmentation(translate=4)).train)
    fit_quietly(_model(student), loaders, recipe, teacher=_model(teacher, image_size=32))
    assert student.trained == SIDES
    assert len(teacher.seen) == (len(SIDES) if views is None else views * STEPS)
    whole = itertools.cycle(teacher.seen)
    for images, found, side in zip(whole, student.seen, SIDES, strict=False):
        assert images.shape[2:] == (32, 32)
        torch.testing.assert_close(found, resize(images, side))


def test_images_are_resized_bilinearly() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert resize(images, None) is resize(images, 32) is images
    # Halving averages 2 by 2 pixels.
    expected = nn.functional.avg_pool2d(images.float() / 255, 2)
    torch.testing.assert_close(resize(images, 16), expected)
    normalised = torch.randn(4, 3, 32, 32)
    resized = resize(normalised, 24)
    assert normalised.min() <= resized.min() < resized.max() <= normalised.max()
    with pytest.raises(InvalidValueError, match=r"\(4, 3, 32, 16\).*image_sizes"):
        resize(images[..., :16], 24)
