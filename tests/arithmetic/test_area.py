from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cifarzoo.arithmetic.area import receptive_area
from cifarzoo.errors import OptionError, ShapeError


def _seen(model: nn.Module, row: int, column: int, side: int) -> tuple[tuple[int, int], ...]:
    """Find the pixels that count, by the gradient of a network of ones."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    model(image)[0, :, row, column].sum().backward()
    assert image.grad is not None
    rows, columns = image.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    if not len(rows):  # nothing but padding
        return ((side, 0), (side, 0))
    return tuple((int(each.min()), int(each.max()) + 1) for each in (rows, columns))


@settings(deadline=None, max_examples=40)
@given(
    layers=st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2)),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
def test_it_is_what_the_gradient_reaches(
    layers: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    model = nn.Sequential(
        *(
            nn.Conv2d(3, 3, kernel, stride=stride, padding=padding)
            for kernel, stride, padding in layers
        )
    )
    side = 32
    height, width = model(torch.zeros(1, 3, side, side)).shape[2:]
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    area = receptive_area(model, str(len(layers) - 1), (row, column), (3, side, side))
    seen = _seen(model, row, column, side)
    if not any(padding for _, _, padding in layers):
        assert area == seen
    for (start, stop), (first, last) in zip(area, seen, strict=True):
        # What a layer pads its maps with stands where pixels might have been seen.
        assert first >= last or start <= first < last <= stop


def test_the_middle_is_the_default() -> None:
    model = nn.Conv2d(3, 2, 5, padding=2)
    assert receptive_area(model, "") == ((14, 19), (14, 19))


def test_a_place_over_the_whole_image() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1))
    assert receptive_area(model, "1", (0, 0), (3, 8, 8)) == ((0, 8), (0, 8))


def test_refuses_what_has_no_area() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(OptionError, match="no layer 'conv' ran"):
        receptive_area(model, "conv", input_size=(3, 8, 8))
    with pytest.raises(OptionError, match=r"position is \(0, 6\)"):
        receptive_area(model, "0", (0, 6), (3, 8, 8))
    with pytest.raises(ShapeError, match=r"gives \(2,\)"):
        receptive_area(model, "2", input_size=(3, 8, 8))
    with pytest.raises(OptionError, match="model is 'x'"):
        receptive_area("x", "0")  # type: ignore[arg-type]
    turned = nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 16)))
    with pytest.raises(ShapeError, match="do not lie over the image"):
        receptive_area(turned, "1", input_size=(3, 8, 8))


@pytest.mark.parametrize("position", [(32, 0), (0, 32), (-1, 0), (1.5, 2), (1,), 5, (0, 0, 0)])
def test_places_off_the_maps_are_refused(position: tuple[int, int]) -> None:
    model = nn.Conv2d(3, 2, 5, padding=2)
    with pytest.raises(OptionError, match=r"position is .*allowed: "):
        receptive_area(model, "", position)
    assert receptive_area(model, "", (31, 31)) == ((29, 34), (29, 34))


def test_leading_network_may_be_left_out_unless_that_is_another_layer() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2))
    model = nn.Sequential()
    model.add_module("network", inner)
    assert receptive_area(model, "0") == receptive_area(model, "network.0") == ((14, 19), (14, 19))
    both = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    both.add_module("network", inner)
    assert receptive_area(both, "0") == ((15, 18), (15, 18))
    assert receptive_area(both, "network.0") == ((13, 20), (13, 20))
    with pytest.raises(OptionError, match=r"no layer 'network\.1' ran; did you mean"):
        receptive_area(both, "network.1")
    with pytest.raises(OptionError, match=r"no layer 'zzz' ran; see model\.named_modules"):
        receptive_area(both, "zzz")
