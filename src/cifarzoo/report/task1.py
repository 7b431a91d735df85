"""Task 1, the arithmetic by hand: computed anew from the public functions each time it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from cifarzoo.arithmetic.convolution import convolve2d
from cifarzoo.arithmetic.cost import count_params, layer_table
from cifarzoo.arithmetic.shapes import conv_output_size, kernel_size_for, same_padding
from cifarzoo.data.shapes import load_shapes
from cifarzoo.hardware import seeded
from cifarzoo.models.report import BASELINE, report_model

__all__ = ["IMAGE", "KERNEL", "Answer", "Matrix", "ShiftChange", "answers", "shift_changes"]

Matrix: TypeAlias = tuple[tuple[int, ...], ...]

IMAGE: Matrix = ((1, 0, 2, 3, 1), (3, 2, 0, 7, 0), (0, 6, 1, 1, 4))
KERNEL: Matrix = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_REPORTED_1A: Matrix = ((-2, 1, -1, 2, 13), (-10, 4, -8, -2, 18), (-14, 1, 5, -6, 9))
_SHIFTED_IMAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question of task 1.

    Attributes:
        part: such as "1a".
        question: in words.
        reported: the report's answer; None where the report gives none.
        computed: ours.
        note: where the two differ, why; else empty.
    """

    part: str
    question: str
    reported: str | Matrix | None
    computed: str | Matrix
    note: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether the two are the same; None where the report gives none."""
        return None if self.reported is None else self.reported == self.computed


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftChange:
    """How much of a shift by one pixel is left after a layer.

    Attributes:
        layer: in words.
        before: norm of the change over norm of the layer's input, mean over images.
        after: the same of its output.
    """

    layer: str
    before: float
    after: float


def answers() -> tuple[Answer, ...]:
    """Compute the answers of task 1."""
    return (*_convolutions(), _most_stable_layer(), *_sizes(), _parameters())


def _convolutions() -> tuple[Answer, ...]:
    return (
        Answer(
            part="1a",
            question="the 3×5 image convolved with the Sobel kernel, zeros around it",
            reported=_REPORTED_1A,
            computed=_matrix(convolve2d(IMAGE, KERNEL)),
            note="The report prints −1 as the third value of the first row; the arithmetic, and "
            "the course's published solution, give −11.",
        ),
        Answer(
            part="1a",
            question="the same, the image mirrored at its border",
            reported=None,
            computed=_matrix(convolve2d(IMAGE, KERNEL, boundary="reflect")),
        ),
    )


def _matrix(values: Tensor) -> Matrix:
    return tuple(tuple(int(value) for value in row) for row in values.tolist())


def _most_stable_layer() -> Answer:
    least = min(shift_changes(), key=lambda change: change.after / change.before)
    return Answer(
        part="1b",
        question="the layer that makes a network less sensitive to small shifts",
        reported="max pooling",
        computed=least.layer,
    )


def _sizes() -> tuple[Answer, ...]:
    padding, kernel = same_padding(5), kernel_size_for((512, 512), (504, 504))
    pooled = conv_output_size((504, 504), 2, stride=2)
    last = conv_output_size(pooled, 3)
    return (
        Answer(
            part="1c",
            question="padding that keeps the size with a 5×5 kernel, stride 1",
            reported="2",
            computed=str(padding),
        ),
        Answer(
            part="1d",
            question="kernel that turns 512×512 into 504×504, no padding, stride 1",
            reported="9×9",
            computed=_size(kernel),
        ),
        Answer(
            part="1e",
            question="then 2×2 pooling with stride 2",
            reported="252×252",
            computed=_size(pooled),
        ),
        Answer(
            part="1f",
            question="then a 3×3 kernel, no padding, stride 1",
            reported="250×250",
            computed=_size(last),
        ),
    )


def _size(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))


def _parameters() -> Answer:
    with torch.device("meta"):
        model = report_model(BASELINE)
    parts = [row.params for row in layer_table(model) if row.params]
    return Answer(
        part="1g",
        question="parameters of the baseline, layer by layer",
        reported="2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410",
        computed=f"{' + '.join(f'{n:,}' for n in parts)} = {count_params(model):,}",
    )


def shift_changes() -> tuple[ShiftChange, ...]:
    """Shift images by a pixel and follow the change through the baseline's first block.

    The images are the built-in shapes and the weights are random, so nothing needs to be trained
    or downloaded. A change is the norm of the difference over the norm, mean over the images.
    """
    images = load_shapes(_SHIFTED_IMAGES, 10).train_images
    with seeded(0):
        model = report_model(BASELINE).eval()
    names = ("convolution", "activation (ReLU)", "max pooling")
    block = model.get_submodule("network.block1")
    changes: list[ShiftChange] = []
    with torch.no_grad():
        pixels = model.preprocess(images)
        still, moved = pixels[..., 1:31, 1:31], pixels[..., 1:31, 2:32]
        for name, layer in zip(names, block.children(), strict=True):
            before = _change(still, moved)
            still, moved = layer(still), layer(moved)
            changes.append(ShiftChange(layer=name, before=before, after=_change(still, moved)))
    return tuple(changes)


def _change(still: Tensor, moved: Tensor) -> float:
    shares = (still - moved).flatten(1).norm(dim=1) / still.flatten(1).norm(dim=1)
    return float(shares.mean())
