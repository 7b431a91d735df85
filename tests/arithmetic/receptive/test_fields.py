from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.arithmetic.receptive.fields import Field

windows = st.tuples(st.integers(1, 5), st.integers(1, 3))


def image(*sides: int) -> Field:
    return Field.of_image((1, 3, *sides))


def slide(field: Field, kernel: int, stride: int) -> Field:
    extent = (field.shape[2] - kernel) // stride + 1
    return field.taps(2, extent, lambda i: (i * stride, i * stride + kernel - 1), rise=stride)


def test_an_image_sees_itself() -> None:
    field = image(4, 6)
    assert field.shape == (1, 3, 4, 6)
    assert field.receptive_field() == 1
    assert Field.of_image((1, 10)).receptive_field() is None


@given(st.lists(windows, max_size=5))
def test_windows_follow_the_textbook(layers: list[tuple[int, int]]) -> None:
    field, size, jump = image(4000), 1, 1
    for kernel, stride in layers:
        field = slide(field, kernel, stride)
        size, jump = size + (kernel - 1) * jump, jump * stride
    assert field.receptive_field() == size


@given(windows, windows)
def test_contraction_sees_what_all_saw(one: tuple[int, int], two: tuple[int, int]) -> None:
    field = slide(slide(image(40), *one), *two)
    extent, (windows,) = field.shape[2], field.windows
    step = one[1] * two[1]
    assert field.contract(2).windows[0].size == windows.size + (extent - 1) * step
    assert not field.contract(2).moves()


def test_never_more_than_the_image() -> None:
    field = image(8).taps(2, 8, lambda i: (i - 10, i + 10))
    assert field.windows[0].size == 21
    assert field.receptive_field() == 8


@pytest.mark.parametrize(
    "shape", [(2, 12), (24,), (2, 3, 4), (1, 24), (8, 3), (4, 1, 6), (2, 2, 6)]
)
def test_regrouping_can_be_undone(shape: tuple[int, ...]) -> None:
    field = Field.of_image((1, 1, 4, 6))
    there = field.regroup(shape)
    assert there.shape == shape
    assert there.regroup((1, 1, 4, 6)).shape == field.shape
    if shape != (2, 3, 4):  # cuts the rows unevenly
        assert there.regroup((1, 1, 4, 6)) == field


def test_windows_of_a_partition_see_only_themselves() -> None:
    parts = image(8, 8).regroup((1, 3, 2, 4, 8)).contract(3)
    assert parts.receptive_field() == 4
    assert parts.contract(2).receptive_field() == 8


def test_uneven_views_keep_only_what_is_sure() -> None:
    field = image(6).regroup((1, 9, 2)).regroup((2, 9))
    assert field.receptive_field() == 1
    assert field.contract(1).receptive_field() == 6


def test_merging_takes_the_union() -> None:
    left = image(20).taps(2, 20, lambda i: (i - 3, i))
    right = image(20).taps(2, 20, lambda i: (i, i + 5))
    both = left.merge(right)
    assert both.receptive_field() == 9
    assert both == right.merge(left)
    assert left.merge(left) == left


def test_merging_with_the_whole_image() -> None:
    field = slide(image(20), 3, 1)
    pooled = field.contract(2).expand(field.shape)
    assert field.merge(pooled).receptive_field() == 20
    assert not field.merge(pooled).moves()


def test_phases_are_kept_apart() -> None:
    doubled = image(4).taps(2, 8, lambda i: (i // 2, i // 2), every=2)
    assert doubled.windows[0].ends == ((0, 1), (0, 1))
    assert [slide(doubled, kernel, 1).receptive_field() for kernel in range(1, 6)] == [
        1,
        2,
        2,
        3,
        3,
    ]
    assert slide(doubled, 2, 2).receptive_field() == 1
    assert slide(doubled, 2, 2).windows == image(4).windows


def test_enlarging_what_was_thinned_out_steps_over_pixels() -> None:
    thin = slide(image(8), 1, 2)
    doubled = thin.taps(2, 8, lambda i: (i // 2, i // 2), every=2)
    assert doubled.receptive_field() == 1
    assert slide(doubled, 2, 1).receptive_field() == 3


def test_merging_different_phases() -> None:
    coarse = slide(image(8), 2, 2).taps(2, 8, lambda i: (i // 2, i // 2), every=2)
    assert coarse.merge(image(8)).receptive_field() == 2
    shifted = image(8).taps(2, 8, lambda i: (i - 1, i - 1))
    assert coarse.merge(shifted).receptive_field() == 3
    assert coarse.merge(shifted).windows[0].ends == ((-1, 2), (0, 2))


def test_joined_tensors_keep_the_larger_field() -> None:
    near, far = slide(image(9), 2, 1), slide(image(9), 4, 1)
    both = near.append([far], 2, 14)
    assert both.shape == (1, 3, 14)
    assert both.receptive_field() == 4
    assert both.contract(2).receptive_field() == 9
    assert both.narrow(2, 3, 5).receptive_field() == 4
    assert near.append([near], 1, 6).dims[2] == near.dims[2]


def test_shapes_follow_torch() -> None:
    field, tensor = image(4, 6), torch.zeros(1, 3, 4, 6)
    assert field.permute([0, 2, 3, 1]).shape == tensor.permute(0, 2, 3, 1).shape
    assert field.insert(2).shape == tensor.unsqueeze(2).shape
    assert field.select(3, 2).shape == tensor.select(3, 2).shape
    assert field.narrow(2, 1, 2, 2).shape == tensor[:, :, 1::2].shape
    assert field.drop(0).expand((5, 3, 4, 6)).shape == tensor.expand(5, 3, 4, 6).shape
