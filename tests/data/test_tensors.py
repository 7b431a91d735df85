"""Tests of the loader that gathers batches from one tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo.data.tensors import Batch, ShuffleName, TensorLoader
from cifarzoo.errors import CifarZooError, EmptyLoaderError, LabelError, OptionError, ShapeError
from cifarzoo.spec import Augmentation

EVERYTHING = Augmentation(flip="alternating", translate=2, cutout=3, padding="reflect")


def numbered(n: int) -> tuple[Tensor, Tensor]:
    """Give n different images, each of one colour, and its number as its label."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 8, 8)
    return images.contiguous(), torch.arange(n)


def loader(n: int = 20, *, batch_size: int = 6, **options: Any) -> TensorLoader:  # noqa: ANN401
    return TensorLoader(*numbered(n), batch_size=batch_size, **options)


def labels(batches: Iterable[Batch]) -> list[int]:
    return [label for _, of in batches for label in of.tolist()]


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


def test_batches_are_float_in_range_and_channels_last() -> None:
    images, of = next(iter(loader()))
    assert images.dtype == torch.float32
    assert images.shape == (6, 3, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert of.dtype == torch.int64
    assert torch.equal(images[:, 0, 0, 0], of.float() / 255)


@given(n=st.integers(1, 40), size=st.integers(1, 45), keep=st.booleans())
def test_batches_are_those_of_torchs_loader(n: int, size: int, keep: bool) -> None:
    images, of = numbered(n)
    theirs = DataLoader(TensorDataset(images, of), size, drop_last=not keep)
    if not len(theirs):
        with pytest.raises(EmptyLoaderError):
            loader(n, batch_size=size, last_batch="drop")
        return
    ours = loader(n, batch_size=size, last_batch="keep" if keep else "drop")
    assert len(ours) == len(theirs)
    assert same(ours, [(batch / 255, truth) for batch, truth in theirs])


def test_whole_range_of_pixels_is_kept() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    (found, _), *_ = TensorLoader(images, torch.zeros(1, dtype=torch.int64))
    assert torch.equal(found, images.float() / 255)


def test_images_are_stored_channels_last_without_a_copy_where_they_are() -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    kept = TensorLoader(images, torch.zeros(4, dtype=torch.int64)).images
    assert kept.data_ptr() == images.data_ptr()
    assert loader().images.is_contiguous(memory_format=torch.channels_last)


@given(n=st.integers(1, 40), batch_size=st.integers(1, 45))
def test_keeping_the_last_batch_shows_every_image_once(n: int, batch_size: int) -> None:
    kept = loader(n, batch_size=batch_size, shuffle="every_epoch")
    batches = list(kept)
    assert len(batches) == len(kept)
    assert sorted(labels(batches)) == list(range(n))


@given(n=st.integers(1, 40), batch_size=st.integers(1, 45))
def test_dropping_the_last_batch_leaves_full_ones(n: int, batch_size: int) -> None:
    if batch_size > n:
        with pytest.raises(EmptyLoaderError, match="last_batch='drop'"):
            loader(n, batch_size=batch_size, last_batch="drop")
        return
    dropping = loader(n, batch_size=batch_size, last_batch="drop", shuffle="every_epoch")
    sizes = [len(of) for _, of in dropping]
    assert sizes == [batch_size] * (n // batch_size) == [batch_size] * len(dropping)


def test_never_shuffling_keeps_the_order() -> None:
    assert labels(loader()) == list(range(20))


def test_iterating_twice_gives_two_epochs() -> None:
    shuffled = loader(shuffle="every_epoch")
    first, second = labels(shuffled), labels(shuffled)
    assert first != second
    assert shuffled.epoch == 2


def test_set_epoch_gives_that_epoch_again() -> None:
    shuffled = loader(shuffle="every_epoch", augmentation=EVERYTHING)
    epochs = [list(shuffled) for _ in range(3)]
    for epoch in (2, 0, 1):
        shuffled.set_epoch(epoch)
        assert same(shuffled, epochs[epoch])


@given(start=st.integers(0, 4), epoch=st.integers(0, 3), seed=st.integers(0, 3))
def test_rest_of_an_epoch_is_as_if_it_had_run_whole(start: int, epoch: int, seed: int) -> None:
    shuffled = loader(shuffle="every_epoch", augmentation=EVERYTHING, seed=seed)
    shuffled.set_epoch(epoch)
    whole = list(shuffled)
    shuffled.set_epoch(epoch)
    assert same(shuffled.iter_from(start), whole[start:])
    assert shuffled.epoch == epoch + 1


def test_two_epochs_at_once_do_not_mix() -> None:
    shuffled = loader(shuffle="every_epoch")
    one, other = iter(shuffled), iter(shuffled)
    mixed = list(zip(one, other, strict=True))
    shuffled.set_epoch(0)
    assert same([batch for batch, _ in mixed], shuffled)
    assert same([batch for _, batch in mixed], shuffled)


def test_defaults_are_those_of_the_documentation() -> None:
    found = TensorLoader(*numbered(200))
    assert found.batch_size == 64
    assert labels(found) == list(range(200))  # in order, the last batch kept


@pytest.mark.parametrize("seed", [126, 2**32, 2**63 - 1])
def test_large_seeds_are_seeds_too(seed: int) -> None:
    one, other = (loader(shuffle="every_epoch", seed=each) for each in (seed, seed - 1))
    assert sorted(labels(one)) == list(range(20))
    one.set_epoch(0)
    assert labels(one) != labels(other)


def test_seed_governs_order_and_augmentation() -> None:
    one, again, other = (
        loader(shuffle="every_epoch", augmentation=EVERYTHING, seed=seed) for seed in (1, 1, 2)
    )
    first = list(one)
    assert same(first, again)
    assert labels(first) != labels(other)


def test_global_random_state_is_neither_used_nor_touched() -> None:
    before = random_states()
    first = list(loader(shuffle="every_epoch", augmentation=EVERYTHING))
    assert random_states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert same(loader(shuffle="every_epoch", augmentation=EVERYTHING), first)


def random_states() -> tuple[bytes, bytes, object]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    key, position = numpy_state[1:3]
    return torch.random.get_rng_state().numpy().tobytes(), key.tobytes(), position


def test_order_does_not_depend_on_augmentation() -> None:
    plain = loader(shuffle="every_epoch")
    assert labels(plain) == labels(loader(shuffle="every_epoch", augmentation=EVERYTHING))


def test_augmentation_changes_images_and_not_their_labels() -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    plain, flipped = (
        TensorLoader(images, torch.arange(20), batch_size=20, augmentation=augmentation)
        for augmentation in (None, Augmentation(flip="random"))
    )
    ((before, _),), ((after, of),) = plain, flipped
    mirrored = torch.tensor([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert 0 < mirrored.sum() < 20
    assert torch.equal(after[mirrored], before[mirrored].flip(3))
    assert of.tolist() == list(range(20))


def test_cutout_is_filled_with_the_mean_colour() -> None:
    images, of = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    images[0, 0], images[0, 1] = 100, 7
    covering = Augmentation(cutout=32)
    ((found, _),) = TensorLoader(images, of, augmentation=covering)
    assert (found[1, :, 0, 0] * 255).round().tolist() == [50, 4, 0]


def test_in_order_is_the_same_data_as_it_is() -> None:
    training = loader(
        shuffle="every_epoch", last_batch="drop", augmentation=EVERYTHING, classes=("x",) * 20
    )
    next(iter(training))
    scoring = training.in_order()
    assert labels(scoring) == list(range(20)) == labels(scoring)
    assert scoring.augmentation is None
    assert (scoring.batch_size, scoring.n, scoring.classes) == (6, 20, ("x",) * 20)
    assert scoring.images.data_ptr() == training.images.data_ptr()
    assert len(training.in_order(batch_size=20)) == 1


def test_first_images_alone() -> None:
    whole = loader(shuffle="every_epoch", last_batch="drop", augmentation=EVERYTHING)
    whole.set_epoch(2)
    cut = whole.first(12)
    assert (cut.n, len(cut), cut.epoch, whole.n) == (12, 2, 2, 20)
    assert sorted(labels(cut)) == list(range(12))
    assert whole.first(99).n == 20


@pytest.mark.parametrize(("n", "error"), [(0, OptionError), (5, EmptyLoaderError)])
def test_too_few_first_images_are_refused(n: int, error: type[CifarZooError]) -> None:
    with pytest.raises(error):
        loader(last_batch="drop").first(n)


@pytest.mark.parametrize("shuffle", ["never", "every_epoch"])
def test_order_is_what_the_epoch_takes(shuffle: ShuffleName) -> None:
    shuffled = loader(shuffle=shuffle)
    shuffled.set_epoch(3)
    assert labels(shuffled) == shuffled.order(3).tolist()


def test_moving_keeps_epoch_and_batches() -> None:
    here = loader(shuffle="every_epoch", augmentation=EVERYTHING)
    here.set_epoch(3)
    moved = here.to("cpu")
    assert moved.epoch == 3
    assert same(here, moved)


def test_every_tensor_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifarzoo.data.tensors.resolve_device", torch.device)  # lets meta pass
    moved = loader(shuffle="every_epoch", augmentation=EVERYTHING).to("meta")
    images, of = next(iter(moved))
    assert images.device.type == of.device.type == "meta"
    assert images.shape == (6, 3, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_batches_on_a_gpu() -> None:
    here = loader(shuffle="every_epoch", augmentation=EVERYTHING)
    there = here.to("cuda")
    assert same(here, [(images.cpu(), of.cpu()) for images, of in there])


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"batch_size": 0}, OptionError, "batch_size is 0; allowed: whole numbers, 1 or more"),
        ({"batch_size": "64"}, OptionError, "batch_size is '64'; allowed: whole numbers"),
        ({"batch_size": 2.5}, OptionError, "batch_size is 2.5; allowed: whole numbers"),
        ({"seed": 1.5}, OptionError, "seed is 1.5; allowed: whole numbers"),
        ({"augmentation": {}}, OptionError, "augmentation is a dict; needed is Augmentation(...)"),
        ({"shuffle": "every_epoc"}, OptionError, "did you mean 'every_epoch'"),
        ({"last_batch": "lose"}, OptionError, "allowed: keep, drop"),
        ({"seed": -1}, OptionError, "seed is -1"),
        ({"seed": 2**63}, OptionError, f"seed is {2**63}; allowed: whole numbers, 0 to 2"),
        ({"augmentation": Augmentation(translate=8)}, OptionError, "0 to 7 pixels"),
        ({"batch_size": 21, "last_batch": "drop"}, EmptyLoaderError, "there are 20 images"),
        ({"classes": ("cat", "dog")}, LabelError, "allowed: 0 to 1"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[CifarZooError], told: str
) -> None:
    with pytest.raises(error) as caught:
        loader(**options)
    assert told in str(caught.value)


def test_bad_images_are_refused_at_birth() -> None:
    images, of = numbered(4)
    with pytest.raises(OptionError, match=r"images is a ndarray; needed is a torch tensor"):
        TensorLoader(images.numpy(), of)  # type: ignore[arg-type]
    with pytest.raises(ShapeError):
        TensorLoader(images, of[:3])


@pytest.mark.parametrize("batch", [-1, 5])
def test_a_batch_that_is_not_there_is_refused(batch: int) -> None:
    with pytest.raises(OptionError, match="allowed: whole numbers, 0 to 4"):
        loader().iter_from(batch)


def test_negative_epoch_is_refused() -> None:
    with pytest.raises(OptionError, match="epoch is -1"):
        loader().set_epoch(-1)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(OptionError, match="warp"):
        loader().to("warp")


def test_varying_the_augmentation_varies_nothing_else() -> None:
    zero = replace(EVERYTHING, padding="zero")
    one, other = (loader(shuffle="every_epoch", augmentation=a) for a in (EVERYTHING, zero))
    assert labels(one) == labels(other)


def test_fingerprint_tells_loaders_apart_that_give_other_batches() -> None:
    images = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    labels = torch.arange(6)

    def fingerprint(labels: Tensor = labels, **options: Any) -> str:  # noqa: ANN401
        return TensorLoader(images[: len(labels)], labels, **options).fingerprint

    same = fingerprint()
    assert same == fingerprint()
    others = [
        fingerprint(labels[:5]),
        fingerprint(labels.flip(0)),
        fingerprint(batch_size=3),
        fingerprint(seed=1),
        fingerprint(shuffle="every_epoch"),
        fingerprint(last_batch="drop", batch_size=2),
        fingerprint(augmentation=Augmentation(flip="random")),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_fingerprint_tells_other_pixels_apart() -> None:
    images, of = numbered(20)
    mine = TensorLoader(images, of)
    assert mine.fingerprint == TensorLoader(images.clone(), of).fingerprint
    assert mine.fingerprint != TensorLoader(255 - images, of).fingerprint


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    count=st.integers(1, 5),
    epoch=st.integers(0, 2),
)
def test_shares_of_all_processes_make_up_every_batch(
    n: int, batch_size: int, count: int, epoch: int
) -> None:
    whole = loader(n, batch_size=batch_size, shuffle="every_epoch", augmentation=EVERYTHING)
    if count > batch_size:
        with pytest.raises(OptionError, match=f"count is {count}; allowed: whole numbers, 1 to "):
            whole.shard(0, count)
        return
    if n < count:
        with pytest.raises(EmptyLoaderError, match=f"share {count - 1} of {count} holds none"):
            whole.shard(count - 1, count)
        return
    whole.set_epoch(epoch)
    shares = [whole.shard(index, count) for index in range(count)]
    found = [list(share) for share in shares]
    assert [len(batches) for batches in found] == [len(share) for share in shares]
    for number, (images, of) in enumerate(whole):
        parts = [batches[number] for batches in found if number < len(batches)]
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([part for part, _ in parts]), images)
        assert torch.equal(torch.cat([labels for _, labels in parts]), of)


def test_shares_of_dropped_batches_are_as_many_for_every_process() -> None:
    whole = loader(23, batch_size=5, shuffle="every_epoch", last_batch="drop")
    shares = [whole.shard(index, 3) for index in range(3)]
    assert [[len(of) for _, of in share] for share in shares] == [[2] * 4, [2] * 4, [1] * 4]
    assert len({share.fingerprint for share in shares}) == 3


def test_share_resumes_in_the_middle_of_an_epoch() -> None:
    share = loader(shuffle="every_epoch", augmentation=EVERYTHING).shard(1, 2)
    batches = list(share)
    share.set_epoch(0)
    assert same(list(share.iter_from(2)), batches[2:])


@pytest.mark.parametrize("index", [-1, 2])
def test_share_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(OptionError, match=f"index is {index}; allowed: whole numbers, 0 to 1"):
        loader().shard(index, 2)
    with pytest.raises(OptionError, match="this is share 0 of 2; cut the whole"):
        loader().shard(0, 2).shard(0, 2)


def test_the_mean_colour_is_that_of_all_images() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2500, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images[:1000] //= 4  # the first ones are darker, the last ones redder
    images[2000:, 0] //= 2
    expected = images.float().mean((0, 2, 3)).round().to(torch.uint8)
    made = TensorLoader(images, torch.zeros(2500).long(), augmentation=Augmentation(cutout=2))
    assert torch.equal(made._fill, expected)


def test_one_image_may_be_the_first_images() -> None:
    assert loader(batch_size=1).first(1).n == 1
