"""Parameters, multiply-accumulates, output shapes and receptive fields of each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from cifarzoo.arithmetic.forward import check_model, forward, zero_images
from cifarzoo.arithmetic.receptive import receptive_fields
from cifarzoo.display import HasTable, Table
from cifarzoo.validation import PositiveInt, validate

__all__ = ["LayerRow", "LayerTable", "count_params", "layer_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One row of `layer_table`.

    Attributes:
        name: name in `model.named_modules()`; "" is the model itself.
        kind: class of the layer.
        output_shape: shape of the last output without the batch dimension; () if the layer did not
            run or returned no tensor.
        params: number of parameters that no earlier row has counted.
        macs: multiply-accumulates for one image, over all calls, without those of inner layers that
            have rows.
        receptive_field: longest side, in pixels, of the area of the image that one element of the
            output can depend on, limited by the size of the image. None if the layer did not run,
            its output does not depend on the image or is NaN, the input is not an image, or the
            model rejects NaN.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: int | None


class LayerTable(tuple[LayerRow, ...], HasTable):
    """The rows of `layer_table`: a tuple that is displayed as a table."""

    __slots__ = ()

    @override
    def table(self) -> Table:
        rows = [
            (
                row.name,
                row.kind,
                "×".join(map(str, row.output_shape)) or "–",
                f"{row.params:,}",
                f"{row.macs:,}",
                "–" if row.receptive_field is None else str(row.receptive_field),
            )
            for row in self
        ]
        params, macs = sum(row.params for row in self), sum(row.macs for row in self)
        rows.append(("total", "", "", f"{params:,}", f"{macs:,}", ""))
        header = ("layer", "kind", "output", "parameters", "MACs", "receptive field")
        return Table(title="Layers", header=header, rows=tuple(rows), numbers=header[3:])


def count_params(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of parameters; shared parameters count once.

    Args:
        model: any module.
        trainable_only: whether to count only parameters with `requires_grad`.

    Raises:
        InvalidTypeError: the model is not a module, or it is scripted or lazy.

    Example:
        >>> count_params(nn.Conv2d(3, 32, 5))
        2432
    """
    check_model(model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def layer_table(model: nn.Module, input_size: tuple[int, ...] = (3, 32, 32)) -> LayerTable:
    """Return the parameters, costs and receptive field of each layer for one image.

    The rows add up to the model: params to `count_params(model)`, macs to half the total of
    `torch.utils.flop_counter`. A module has a row if it ran and no module inside it did, or if it
    has parameters or multiplications of its own. Operations without a formula in the counter
    (recurrent layers, sums, activations, norms) count as 0 MACs. Receptive fields are measured with
    NaNs in the image; that of a group norm is the whole image, because of its statistics. They end
    at the borders of the image: pass a larger `input_size`, or only the convolutional part of a
    network whose input size is fixed, to see fields of their full size.

    Args:
        model: any module that takes one batch of images, also on the meta device. It runs in
            evaluation mode and is not changed.
        input_size: shape of one image, such as (channels, height, width).

    Returns:
        The rows, in the order in which the layers start.

    Raises:
        InvalidTypeError: the model is not a module, or it is scripted or lazy.
        InvalidValueError: the model raised an error for an image of this size.

    Example:
        >>> [(row.name, row.params, row.macs) for row in layer_table(nn.Conv2d(3, 8, 1))]
        [('', 32, 24576)]
    """
    check_model(model)
    input_size = validate("input_size", input_size, tuple[PositiveInt, ...])
    macs: Counter[str] = Counter()
    with FlopCounterMode(display=False) as flops:

        def assign(running: list[str]) -> None:
            if running:  # everything counted since the last call is the innermost module's
                macs[running[-1]] += flops.get_total_flops() // 2 - macs.total()

        images = zero_images(model, input_size)
        outputs = forward(model, images, lambda _, output: tuple(output.shape), assign)
    shapes = {name: (shape or ())[1:] for name, shape in outputs.items()}
    return LayerTable(_rows(model, shapes, macs, receptive_fields(model, input_size)))


def _rows(
    model: nn.Module,
    shapes: dict[str, tuple[int, ...]],
    macs: Counter[str],
    fields: dict[str, int],
) -> Iterator[LayerRow]:
    modules = dict(model.named_modules())
    ran = {modules[name] for name in shapes}
    counted: set[nn.Parameter] = set()
    for name in dict.fromkeys([*shapes, *modules]):
        module = modules[name]
        is_layer = module in ran and ran.isdisjoint(set(module.modules()) - {module})
        own = set(module.parameters(recurse=is_layer)) - counted
        counted |= own
        params = sum(parameter.numel() for parameter in own)
        if is_layer or params or macs[name]:
            yield LayerRow(
                name=name,
                kind=type(module).__name__,
                output_shape=shapes.get(name, ()),
                params=params,
                macs=macs[name],
                receptive_field=fields.get(name),
            )
