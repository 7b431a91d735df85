"""Tests of augmentation, against plain code that takes one image at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from cifarzoo.data.augment import POLICIES, AugmentParams, apply, draw, generator_for
from cifarzoo.spec import Augmentation, FlipName, PaddingName

FILL = torch.tensor([10, 20, 30], dtype=torch.uint8)


def one_image(
    image: npt.NDArray[np.uint8],
    augmentation: Augmentation,
    *,
    flip: bool,
    shift: tuple[int, int],
    centre: tuple[int, int],
) -> npt.NDArray[np.uint8]:
    """Augment one image (H,W,3), pixel by pixel."""
    height, width, _ = image.shape
    source = image[:, ::-1] if flip else image
    k = augmentation.translate
    sides = [(k, k), (k, k), (0, 0)]
    zero = augmentation.padding == "zero"
    padded = np.pad(source, sides, mode="constant" if zero else "reflect")
    result = np.empty_like(image)
    top, left = centre[0] - augmentation.cutout // 2, centre[1] - augmentation.cutout // 2
    for y in range(height):
        for x in range(width):
            result[y, x] = padded[y - shift[0] + k, x - shift[1] + k]
            if 0 <= y - top < augmentation.cutout and 0 <= x - left < augmentation.cutout:
                result[y, x] = FILL.numpy()
    return result


def noise(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, height, width, 3), generator=generator, dtype=torch.uint8)
    return pixels.permute(0, 3, 1, 2)


@st.composite
def augmentations(draw: st.DrawFn) -> Augmentation:
    return Augmentation(
        flip=draw(st.sampled_from(["none", "random", "alternating"])),
        translate=draw(st.integers(0, 4)),
        cutout=draw(st.integers(0, 9)),
        padding=draw(st.sampled_from(["zero", "reflect"])),
    )


@given(
    augmentation=augmentations(),
    n=st.integers(1, 5),
    size=st.tuples(st.integers(5, 9), st.sampled_from([5, 7, 8, 16])),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 3),
)
def test_agrees_with_plain_code(
    augmentation: Augmentation, n: int, size: tuple[int, int], seed: int, epoch: int
) -> None:
    images = noise(n, *size)
    before = images.clone()
    params = draw(augmentation, n, size=size, seed=seed, epoch=epoch)
    found = apply(images, params, augmentation, fill=FILL)
    assert torch.equal(images, before)
    for i in range(n):
        expected = one_image(
            images[i].permute(1, 2, 0).numpy(),
            augmentation,
            flip=params.flip is not None and bool(params.flip[i]),
            shift=(0, 0) if params.shift is None else tuple(params.shift[i].tolist()),
            centre=(0, 0) if params.centre is None else tuple(params.centre[i].tolist()),
        )
        assert np.array_equal(found[i].permute(1, 2, 0).numpy(), expected)


@given(augmentation=augmentations())
def test_keeps_type_shape_and_layout(augmentation: Augmentation) -> None:
    images = noise(6, 8, 8)
    params = draw(augmentation, 6, size=(8, 8), seed=0, epoch=0)
    found = apply(images, params, augmentation, fill=FILL)
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_takes_images_in_any_layout() -> None:
    augmentation = Augmentation(flip="random", translate=2, cutout=3)
    images = noise(6, 8, 8)
    params = draw(augmentation, 6, size=(8, 8), seed=0, epoch=0)
    one, other = (
        apply(layout, params, augmentation, fill=FILL)
        for layout in (images, images.contiguous(memory_format=torch.contiguous_format))
    )
    assert torch.equal(one, other)


@given(augmentation=augmentations(), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_a_part_is_augmented_as_in_the_whole(
    augmentation: Augmentation, seed: int, epoch: int
) -> None:
    images, part = noise(8, 8, 8), torch.tensor([6, 1, 3])
    params = draw(augmentation, 8, size=(8, 8), seed=seed, epoch=epoch)
    whole = apply(images, params, augmentation, fill=FILL)
    alone = apply(images[part], params.take(part), augmentation, fill=FILL)
    assert torch.equal(whole[part], alone)


def flips(flip: FlipName, epoch: int, *, n: int = 4000, seed: int = 0) -> Tensor:
    params = draw(Augmentation(flip=flip), n, seed=seed, epoch=epoch)
    assert params.flip is not None
    return params.flip


def test_alternating_shows_both_versions_in_every_pair_of_epochs() -> None:
    for epoch in range(5):
        assert torch.equal(flips("alternating", epoch), ~flips("alternating", epoch + 1))


def test_random_flips_are_independent_coins() -> None:
    first, second = flips("random", 0), flips("random", 1)
    for share in (first, second, first == second):
        assert abs(share.double().mean().item() - 0.5) < 0.04  # five standard errors


def test_shifts_are_even_over_the_range() -> None:
    params = draw(Augmentation(translate=2), 5000, seed=0, epoch=0)
    assert params.shift is not None
    counts = (params.shift + 2).flatten().bincount()
    assert len(counts) == 5
    assert counts.min() > 1800  # of 2000
    assert abs(torch.corrcoef(params.shift.T.double())[0, 1].item()) < 0.07


def test_centres_are_within_the_image() -> None:
    params = draw(Augmentation(cutout=8), 5000, size=(4, 6), seed=0, epoch=0)
    assert params.centre is not None
    assert params.centre.amin(dim=0).tolist() == [0, 0]
    assert params.centre.amax(dim=0).tolist() == [3, 5]


def test_what_is_off_is_not_drawn() -> None:
    assert draw(Augmentation(), 3, seed=0, epoch=0) == AugmentParams()


def test_one_purpose_does_not_change_another() -> None:
    alone = draw(Augmentation(flip="random"), 50, seed=3, epoch=2)
    both = draw(Augmentation(flip="random", cutout=4), 50, seed=3, epoch=2)
    assert alone.flip is not None
    assert both.flip is not None
    assert torch.equal(alone.flip, both.flip)


@pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 2}, {"stream": "flip"}])
def test_every_seed_epoch_and_purpose_has_its_own_numbers(other: dict[str, object]) -> None:
    usual: dict[str, object] = {"stream": "order", "seed": 7, "epoch": 1}
    one, two = (
        torch.rand(4, generator=generator_for(**given))  # type: ignore[arg-type]
        for given in (usual, usual | other)
    )
    assert not torch.equal(one, two)


def test_rand_augment_is_torchvisions_for_each_policy() -> None:
    augmentation = Augmentation(rand_augment=2, magnitude=14)
    images = noise(40, 32, 32)
    params = draw(augmentation, 40, seed=1, epoch=2)
    assert params.policy is not None
    assert 8 <= len(set(params.policy.tolist())) <= POLICIES
    found = apply(images, params, augmentation, fill=FILL)
    assert not torch.equal(found, images)
    for seed in set(params.policy.tolist()):
        chosen = params.policy == seed
        torch.manual_seed(seed)
        expected = v2.RandAugment(2, 14)(images[chosen])
        assert torch.equal(found[chosen], expected)


def test_rand_augment_of_a_part_is_that_of_the_whole() -> None:
    augmentation = Augmentation(rand_augment=2, flip="random")
    images = noise(30, 8, 8)
    params = draw(augmentation, 30, size=(8, 8), seed=1, epoch=0)
    whole = apply(images, params, augmentation, fill=FILL)
    some = torch.tensor([3, 29, 4, 11])
    part = apply(images[some], params.take(some), augmentation, fill=FILL)
    assert torch.equal(part, whole[some])


def test_rand_augment_leaves_the_global_random_state() -> None:
    augmentation = Augmentation(rand_augment=3)
    before = torch.get_rng_state()
    params = draw(augmentation, 6, seed=0, epoch=0)
    apply(noise(6, 32, 32), params, augmentation, fill=FILL)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_global_random_state_is_left(padding: PaddingName) -> None:
    state = torch.random.get_rng_state()
    augmentation = Augmentation(flip="random", translate=2, cutout=3, padding=padding)
    params = draw(augmentation, 4, size=(8, 8), seed=0, epoch=0)
    apply(noise(4, 8, 8), params, augmentation, fill=FILL)
    assert torch.equal(torch.random.get_rng_state(), state)


ALL = Augmentation(flip="random", translate=3, cutout=5, rand_augment=1)


@pytest.mark.parametrize("purpose", ["flip", "shift", "centre", "policy"])
def test_seed_and_epoch_decide_on_every_purpose(purpose: str) -> None:
    first, again, other_seed, other_epoch = (
        getattr(draw(ALL, 50, seed=seed, epoch=epoch), purpose)
        for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_epoch)
    assert first.shape == ((50, 2) if purpose in ("shift", "centre") else (50,))


@pytest.mark.parametrize("side", [1, 4, 5])
def test_a_cutout_within_the_image_has_its_side(side: int) -> None:
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    params = AugmentParams(centre=torch.tensor([[8, 6]]))
    cut = apply(images, params, Augmentation(cutout=side), fill=torch.tensor([9, 9, 9]).byte())
    rows, columns = (cut[0, 0] == 9).nonzero().unbind(1)
    assert len(rows) == side**2
    assert (int(rows.min()), int(columns.min())) == (8 - side // 2, 6 - side // 2)
