"""Tests of augmentation against torch and torchvision, and of its random streams."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from cifarzoo.data.augment import Stream, apply, draw, generator_for
from cifarzoo.recipe import Augmentation

FILL = torch.tensor([10, 20, 30], dtype=torch.uint8)
ALL = Augmentation(
    flip="random",
    translate=3,
    cutout=5,
    rand_augment=1,
    brightness=0.3,
    hue=0.1,
    rotation=20,
    sharpness=0.5,
    erase=0.5,
)


def noise(n: int, height: int = 8, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, height, width, 3), generator=generator, dtype=torch.uint8)
    return pixels.permute(0, 3, 1, 2)


augmentations = st.builds(
    Augmentation,
    flip=st.sampled_from(["none", "random", "alternating"]),
    translate=st.integers(0, 4),
    cutout=st.integers(0, 9),
    padding=st.sampled_from(["zero", "reflect"]),
)


def one_image(image: Tensor, augmentation: Augmentation, params: dict[str, Any]) -> Tensor:
    """Augment an image (3,H,W) with torch's functions."""
    height, width = image.shape[1:]
    k = augmentation.translate
    flipped = image.flip(2) if params.get("flip") else image
    mode = "reflect" if augmentation.padding == "reflect" else "constant"
    padded = functional.pad(flipped[None].float(), (k, k, k, k), mode=mode)[0].to(torch.uint8)
    down, right = params.get("shift", (0, 0))
    result = padded[:, k - down : k - down + height, k - right : k - right + width].clone()
    if "centre" in params:
        top, left = (place - augmentation.cutout // 2 for place in params["centre"])
        bottom, end = top + augmentation.cutout, left + augmentation.cutout
        result[:, max(0, top) : bottom, max(0, left) : end] = FILL[:, None, None]
    return result


@given(
    augmentation=augmentations,
    n=st.integers(1, 5),
    size=st.tuples(st.integers(5, 9), st.sampled_from([5, 7, 8, 16])),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 3),
)
def test_every_image_is_augmented_as_by_torch(
    augmentation: Augmentation, n: int, size: tuple[int, int], seed: int, epoch: int
) -> None:
    images = noise(n, *size)
    before = images.clone()
    params = draw(augmentation, n, size=size, seed=seed, epoch=epoch)
    found = apply(images, params, augmentation, fill=FILL)
    assert torch.equal(images, before)
    assert found.dtype == torch.uint8
    assert found.is_contiguous(memory_format=torch.channels_last)
    for i in range(n):
        own = {name: values[i].tolist() for name, values in params.items()}
        assert torch.equal(found[i], one_image(images[i], augmentation, own))
    assert torch.equal(apply(images.contiguous(), params, augmentation, fill=FILL), found)


@given(
    augmentation=augmentations | st.sampled_from([ALL, Augmentation(trivial_augment=True)]),
    epoch=st.integers(0, 9),
)
def test_a_subset_is_augmented_as_within_the_whole_set(
    augmentation: Augmentation, epoch: int
) -> None:
    images, part = noise(30), torch.tensor([3, 29, 4, 11])
    params = draw(augmentation, 30, size=(8, 8), seed=1, epoch=epoch)
    whole = apply(images, params, augmentation, fill=FILL)
    chosen = {name: values[part] for name, values in params.items()}
    alone = apply(images[part], chosen, augmentation, fill=FILL)
    assert torch.equal(whole[part], alone)


@pytest.mark.parametrize(
    ("augmentation", "transform", "kinds"),
    [
        (Augmentation(trivial_augment=True), v2.TrivialAugmentWide(), 674),
        (Augmentation(rand_augment=1, magnitude=7), v2.RandAugment(1, 7), 25),
        (Augmentation(rand_augment=1, magnitude=30), v2.RandAugment(1, 30), 25),
    ],
)
def test_what_torchvision_draws_is_among_what_is_drawn(
    augmentation: Augmentation, transform: nn.Module, kinds: int
) -> None:
    params = draw(augmentation, 9000, size=(12, 16), seed=0, epoch=0)
    drawn = torch.cat(list(params.values()), dim=1)
    rows = {tuple(row): i for i, row in enumerate(drawn.tolist())}
    assert len(rows) == kinds  # 31 strengths, and their signs
    chosen = {name: values[list(rows.values())] for name, values in params.items()}
    image = noise(1, 12, 16)
    ours = apply(image.expand(kinds, -1, -1, -1), chosen, augmentation, fill=FILL).int()
    torch.manual_seed(0)
    for _ in range(100):
        # torchvision rounds saturated colours down twice, and solarizes from 51.000004 on.
        differs = (ours - transform(image).int()).abs() > 2
        assert differs.float().mean((1, 2, 3)).min() < 0.005


def test_operations_are_drawn_equally_often_and_strengths_for_each_image() -> None:
    params = draw(Augmentation(rand_augment=2), 7000, seed=0, epoch=0)
    assert params["operation"].shape == params["strength"].shape == (7000, 2)
    counts = params["operation"].flatten().bincount()
    assert len(counts) == 14
    assert counts.min() > 850  # of 1000
    assert abs(torch.corrcoef(params["operation"].T.double())[0, 1].item()) < 0.06
    signs = params["strength"][params["operation"] == 1].sign()
    assert abs(signs.mean().item()) < 0.15


def test_two_operations_are_applied_one_after_the_other() -> None:
    augmentation, image = Augmentation(rand_augment=2), noise(1, 12, 16)
    params = {"operation": torch.tensor([[5, 9]]), "strength": torch.tensor([[-9.0, 0.5]])}
    found = apply(image, params, augmentation, fill=FILL)
    expected = v2.functional.adjust_sharpness(v2.functional.rotate(image, -9), 1.5)
    assert (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("angle", [-170.0, -33.0, 0.0, 12.5, 90.0])
def test_images_are_rotated_as_by_torchvision(angle: float) -> None:
    image = noise(2, 12, 15)
    found = apply(image, {"angle": torch.full((2,), angle)}, Augmentation(rotation=180), fill=FILL)
    expected = v2.functional.rotate(image, angle, v2.InterpolationMode.BILINEAR)
    assert (found.int() - expected.int()).abs().max() <= 1
    reflected = Augmentation(rotation=180, padding="reflect")
    found = apply(image, {"angle": torch.full((2,), angle)}, reflected, fill=FILL)
    padded = functional.pad(image.float(), (7, 7, 7, 7), mode="reflect").to(torch.uint8)
    expected = v2.functional.rotate(padded, angle, v2.InterpolationMode.BILINEAR)
    assert (found.int() - expected[..., 7:-7, 7:-7].int()).abs().max() <= 1


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 2.0])
def test_sharpness_is_changed_as_by_torchvision(factor: float) -> None:
    image = noise(2, 12, 15)
    params = {"sharpness": torch.full((2,), factor)}
    found = apply(image, params, Augmentation(sharpness=1), fill=FILL)
    expected = v2.functional.adjust_sharpness(image, factor)
    assert (found.int() - expected.int()).abs().max() <= 1


def test_rectangles_are_erased_with_the_ranges_of_random_erasing() -> None:
    """arXiv 1708.04896: 2 to 33 % of the area here, aspect ratio 0.3 to 3.3."""
    augmentation = Augmentation(erase=0.25)
    erased = draw(augmentation, 4000, size=(48, 64), seed=0, epoch=0)["erased"]
    row, column, height, width = erased[erased[:, 2] > 0].T
    assert len(row) == pytest.approx(1000, abs=140)  # five standard errors
    area, aspect = height * width / (48 * 64), height / width
    assert (area.min().item(), area.max().item()) == pytest.approx((0.02, 0.33), abs=0.01)
    assert area.mean().item() == pytest.approx(0.175, abs=0.015)
    assert (aspect.min().item(), aspect.max().item()) == pytest.approx((0.3, 3.3), rel=0.1)
    assert abs(aspect.log().mean().item()) < 0.12
    assert min(row.min().item(), column.min().item()) == 0
    assert (row + height).max() == 48
    assert (column + width).max() == 64
    images = noise(4000, 48, 64)[:50]
    found = apply(images, {"erased": erased[:50]}, augmentation, fill=FILL)
    for image, result, (top, left, high, wide) in zip(images, found, erased.tolist(), strict=False):
        expected = image.clone()
        expected[:, top : top + high, left : left + wide] = FILL[:, None, None]
        assert torch.equal(result, expected)


def test_angles_and_sharpness_are_drawn_from_their_ranges() -> None:
    params = draw(Augmentation(rotation=30, sharpness=0.4), 4000, seed=0, epoch=0)
    for values, low, high in ((params["angle"], -30, 30), (params["sharpness"], 0.6, 1.4)):
        found = [value.item() for value in values.aminmax()]
        assert found == pytest.approx([low, high], abs=0.001 * (high - low))


def test_nothing_depends_on_the_default_dtype() -> None:
    images = noise(30)
    params = draw(ALL, 30, size=(8, 8), seed=1, epoch=0)
    expected = apply(images, params, ALL, fill=FILL)
    torch.set_default_dtype(torch.float64)
    try:
        again = draw(ALL, 30, size=(8, 8), seed=1, epoch=0)
        found = apply(images, again, ALL, fill=FILL)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(again[name], values) for name, values in params.items())
    assert torch.equal(found, expected)


def jitter(images: Tensor, *colour: float) -> Tensor:
    return apply(images, {"colour": torch.tensor([colour])}, Augmentation(hue=0.1), fill=FILL)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.5])
def test_brightness_contrast_and_saturation_are_changed_as_by_torchvision(factor: float) -> None:
    image = noise(1, 16, 16)
    pairs = (
        (jitter(image, factor, 1, 1, 0), v2.functional.adjust_brightness(image, factor)),
        (jitter(image, 1, factor, 1, 0), v2.functional.adjust_contrast(image, factor)),
        (jitter(image, 1, 1, factor, 0), v2.functional.adjust_saturation(image, factor)),
    )
    for found, expected in pairs:
        assert (found.int() - expected.int()).abs().max() <= 1  # torchvision rounds down


def test_brightness_is_changed_before_contrast_before_saturation() -> None:
    image = noise(1, 16, 16) // 2 + 64
    expected = v2.functional.adjust_brightness(image / 255, 0.9)
    expected = v2.functional.adjust_contrast(expected, 0.8)
    expected = v2.functional.adjust_saturation(expected, 1.2)
    assert (jitter(image, 0.9, 0.8, 1.2, 0) / 255 - expected).abs().max() < 0.004


def test_hues_turn_from_red_to_green_to_blue_and_greys_stay() -> None:
    palette = torch.tensor([[140, 80, 80], [80, 140, 80], [80, 80, 140], [100, 100, 100]])
    images = palette.to(torch.uint8).view(1, 4, 1, 3).permute(0, 3, 1, 2)
    turned = jitter(images, 1, 1, 1, 1 / 3)[0, :, :, 0].T
    assert turned[:3].argmax(1).tolist() == [1, 2, 0]
    assert turned[3].tolist() == [100, 100, 100]
    slightly = jitter(images, 1, 1, 1, 0.1)[0, :, :, 0].T
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert (slightly.float() @ luma - palette.float() @ luma).abs().max() < 1
    assert torch.equal(jitter(images, 1, 1, 1, 0), images)


def test_colours_are_drawn_from_their_ranges() -> None:
    strong = Augmentation(brightness=0.5, saturation=1, hue=0.25)
    colour = draw(strong, 4000, seed=0, epoch=0)["colour"]
    ranges = [values.tolist() for values in colour.aminmax(dim=0)]
    assert ranges[0] == pytest.approx([0.5, 1, 0, -0.25], abs=0.002)
    assert ranges[1] == pytest.approx([1.5, 1, 2, 0.25], abs=0.002)


def test_alternating_flips_show_both_versions_in_every_pair_of_epochs() -> None:
    augmentation = Augmentation(flip="alternating")
    flips = [draw(augmentation, 100, seed=0, epoch=epoch)["flip"] for epoch in range(5)]
    for one, other in itertools.pairwise(flips):
        assert torch.equal(one, ~other)


def test_half_of_the_images_are_flipped_independently_of_the_epoch() -> None:
    first, second = (draw(ALL, 4000, seed=0, epoch=epoch)["flip"] for epoch in (0, 1))
    for flipped in (first, second, first == second):
        assert abs(flipped.double().mean().item() - 0.5) < 0.04  # five standard errors


def test_shifts_and_centres_are_uniform() -> None:
    params = draw(ALL, 7000, size=(7, 7), seed=0, epoch=0)
    for values in (params["shift"] + 3, params["centre"]):
        counts = values.flatten().bincount()
        assert len(counts) == 7
        assert counts.min() > 1800  # of 2000
        assert abs(torch.corrcoef(values.T.double())[0, 1].item()) < 0.06


def test_seed_and_epoch_determine_every_stream() -> None:
    first, again, other_seed, other_epoch = (
        draw(ALL, 50, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert set(first) == {
        *("operation", "strength", "angle", "sharpness", "colour"),
        *("flip", "shift", "centre", "erased"),
    }
    for name, values in first.items():
        assert torch.equal(values, again[name])
        assert not torch.equal(values, other_seed[name])
        assert not torch.equal(values, other_epoch[name])


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_stream_does_not_depend_on_what_else_is_drawn(seed: int) -> None:
    assert draw(Augmentation(), 3, seed=seed, epoch=0) == {}
    alone = draw(Augmentation(flip="random"), 50, seed=seed, epoch=2)["flip"]
    assert torch.equal(alone, draw(ALL, 50, seed=seed, epoch=2)["flip"])
    drawn = [
        torch.rand(4, generator=generator_for(stream, seed=seed, epoch=1)).tolist()
        for stream in get_args(Stream)
    ]
    assert len({tuple(values) for values in drawn}) == len(get_args(Stream)) == 10
