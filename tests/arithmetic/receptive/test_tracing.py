"""Receptive fields against a measurement: which outputs turn NaN when a pixel is NaN."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cifarzoo.arithmetic.receptive import FieldTracker

Model = Callable[[Tensor], Tensor]


def traced(model: Model, images: Tensor) -> int | None:
    with torch.no_grad(), FieldTracker(images) as tracker:
        out = model(images)
    field = tracker.field(out)
    return None if field is None else field.receptive_field()


def measured(model: Model, shape: tuple[int, ...]) -> int:
    """The most pixels along a side between the first and the last that change one output."""
    widths = []
    for axis, side in enumerate(shape[1:], 2):
        images = torch.rand(side, *shape, dtype=torch.float64)
        for pixel in range(side):
            images[pixel].select(axis - 1, pixel).fill_(torch.nan)
        with torch.no_grad():
            hit = model(images).isnan().flatten(1)
        pixels = torch.arange(side)[:, None]
        first = torch.where(hit, pixels, side).amin(0)
        last = torch.where(hit, pixels, -1).amax(0)
        widths.append(int((last - first + 1).amax()))
    return max(widths)


def check(model: Model, shape: tuple[int, ...]) -> int | None:
    if isinstance(model, nn.Module):
        model.double().eval()
    found = traced(model, torch.zeros(1, *shape, dtype=torch.float64))
    assert found == measured(model, shape)
    return found


def check_inside(model: nn.Module, shape: tuple[int, ...]) -> None:
    """As `check`, unless so much is seen that every element sees less at some border."""
    found = traced(model.double().eval(), torch.zeros(1, *shape, dtype=torch.float64))
    seen = measured(model, shape)
    assert found == seen or (found is not None and found > max(seen, shape[-1] // 4))


@st.composite
def shrinking(draw: st.DrawFn, *, mirrored: bool = True) -> nn.Module:
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    kind = draw(st.sampled_from(["conv", "max", "mean", *(["pad"] if mirrored else [])]))
    if kind == "conv":
        dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
        return nn.Conv1d(2, 2, kernel, stride, padding, dilation, groups=draw(st.integers(1, 2)))
    if kind == "max":
        return nn.MaxPool1d(kernel, stride, padding=kernel // 2)
    if kind == "mean":
        return nn.AvgPool1d(kernel, stride, ceil_mode=draw(st.booleans()))
    return nn.ReflectionPad1d((kernel, stride))


@st.composite
def growing(draw: st.DrawFn) -> nn.Module:
    kernel, stride = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    transposed = nn.ConvTranspose1d(2, 2, kernel, min(stride, kernel), draw(st.integers(0, 1)))
    repeated = nn.Upsample(scale_factor=stride)
    # by two, no middle falls on another: NaN times a weight of zero would be measured as well
    blended = nn.Upsample(scale_factor=2, mode="linear", align_corners=draw(st.booleans()))
    return draw(st.sampled_from([transposed, repeated, blended]))


@settings(deadline=None, max_examples=50)
@given(st.lists(shrinking(), max_size=4))
def test_chains_of_layers_are_exact(chain: list[nn.Module]) -> None:
    check_inside(nn.Sequential(*chain), (2, 96))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(growing(), shrinking(mirrored=False)), max_size=3))
def test_chains_that_enlarge_are_exact(chain: list[nn.Module]) -> None:
    check_inside(nn.Sequential(*chain), (2, 48))


def test_a_mirrored_border_is_taken_as_more_of_the_image() -> None:
    enlarged = nn.ConvTranspose1d(2, 2, 2, 2)
    model = nn.Sequential(enlarged, nn.ReflectionPad1d((2, 1)), nn.AvgPool1d(2)).double()
    # Mirrored, halves of two pixels come to lie beside each other.
    assert measured(model, (2, 48)) == 2
    assert traced(model, torch.zeros(1, 2, 48, dtype=torch.float64)) == 1


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Conv2d(3, 4, 1, stride=2)
        self.long = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(True), nn.Conv2d(4, 4, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.long(x)
        out += self.short(x)
        return F.relu(out, inplace=True)


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


class Bridge(nn.Module):
    """Down, up again, and joined with what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 5, 2, stride=2)
        self.up = nn.ConvTranspose2d(5, 4, 2, stride=2)
        self.out = nn.Conv2d(7, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.cat([x, self.up(self.down(x))], 1))
        return out


def windows(x: Tensor) -> Tensor:
    """Attention within windows of four by four."""
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    mixed = torch.softmax(parts @ parts.transpose(1, 2), -1) @ parts
    mixed = mixed.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
    return mixed + x


def patches(x: Tensor) -> Tensor:
    """Merge two by two pixels by slicing, then mix channels."""
    parts = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    merged = torch.cat(parts, 1).permute(0, 2, 3, 1)
    return F.layer_norm(merged, merged.shape[-1:]) @ merged.new_ones(merged.shape[-1], 2)


def written(x: Tensor) -> Tensor:
    """Build the result in place."""
    out = torch.empty_like(x)
    out.copy_(F.avg_pool2d(x, 3, 1, 1))
    return out.add_(1)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Residual(), 7),
        (nn.Sequential(Residual(), nn.BatchNorm2d(4), nn.MaxPool2d(2)), 9),
        (Squeeze(), 24),
        (Bridge(), 4),
        (nn.Sequential(nn.Conv2d(3, 4, (1, 7)), nn.Conv2d(4, 4, (5, 1))), 7),
        (nn.Sequential(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 1, 3)), 4),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.ChannelShuffle(4), nn.Conv2d(12, 4, 3)), 6),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2)), 13),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1)), 24),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.ReLU()), 3),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 22, 2)), 24),
        (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (24, 24)), nn.Conv2d(3, 4, 5)), 5),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU(1), nn.Softmax(1)), 3),
        (lambda x: F.avg_pool2d(F.pad(x, (2, 1, 0, 0)), 4).squeeze(0), 4),
        (lambda x: F.interpolate(x, size=(11, 11), mode="bilinear", antialias=True), 5),
        (lambda x: F.interpolate(x, size=(47, 47), mode="bilinear", align_corners=True), 2),
        (lambda x: F.interpolate(x, size=(48, 48), mode="bicubic"), 4),
        (lambda x: F.interpolate(x, size=(9, 9), mode="nearest-exact"), 1),
        (lambda x: torch.stack(F.avg_pool2d(x, 2).unbind(1)[1:], 2).transpose(2, 3), 2),
        (lambda x: x.amax(3, keepdim=True).expand_as(x) - x.split(1, 1)[0], 24),
        (patches, 2),
        (written, 3),
    ],
)
def test_against_the_measurement(model: Model, expected: int) -> None:
    assert check(model, (3, 24, 24)) == expected


def test_attention_within_windows() -> None:
    assert traced(windows, torch.zeros(1, 3, 24, 24)) == 4
    assert traced(lambda x: windows(F.avg_pool2d(x, 2)), torch.zeros(1, 3, 16, 16)) == 8


def test_unknown_operators_leave_no_field() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert traced(lambda x: x.sort(-1).values, images) is None
    assert traced(lambda x: F.conv2d(x.sort(-1).values, torch.ones(2, 3, 1, 1)), images) is None
    assert traced(lambda x: torch.cumsum(x, 2) + x, images) is None


def test_what_does_not_depend_on_the_image_has_no_field() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert traced(torch.zeros_like, images) is None
    assert traced(lambda x: torch.ones(2, 2) * 3, images) is None
    assert traced(lambda x: x + torch.zeros_like(x), images) == 1


def test_writing_through_a_view_forgets() -> None:
    def write(x: Tensor) -> Tensor:
        out = torch.zeros(1, 3, 8, 8)
        out[:, :, :4] = F.max_pool2d(x, (5, 1), (1, 1), (2, 0))[:, :, :4]
        return out

    assert traced(write, torch.zeros(1, 3, 8, 8)) is None
