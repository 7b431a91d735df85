"""What a network costs, layer by layer: shapes, parameters, multiply-accumulates, receptive fields.

The model runs once on a zero image. Multiply-accumulates (MACs) are half of what
`torch.utils.flop_counter` counts while it does, receptive fields are followed through every
operator that runs, so plain functions between the layers are seen as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

from cifarzoo.arithmetic.dry_run import Seen, dry_run
from cifarzoo.display import Display, Shown
from cifarzoo.errors import OptionError, one_of

__all__ = ["LayerCost", "LayerTable", "WhichName", "count_params", "layer_table"]

WhichName: TypeAlias = Literal["all", "trainable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of `layer_table`.

    Attributes:
        name: as in `model.named_modules()`; the model itself is "".
        kind: the class of the layer.
        output_shape: without the batch dimension; that of the last call if there are several,
            and () if the layer did not run or gave no tensor.
        params: parameters that no row above has counted.
        macs: multiply-accumulates for one image, over all calls, and without those of layers
            inside it that have rows of their own.
        receptive_field: longest side, in pixels of the input, of the area that one element of
            the output can depend on. At most the image: a larger input shows what there is
            beyond its border. None where there is none to give: the layer did not run, its
            output does not depend on the image, the input has no sides, or an operator on the
            way is not known.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: int | None


class LayerTable(tuple[LayerCost, ...], Shown):
    """The rows that `layer_table` gives: a tuple that shows itself as a table."""

    __slots__ = ()

    def _display(self) -> Display:
        cells = [
            (
                row.name,
                row.kind,
                "×".join(str(side) for side in row.output_shape) or "–",
                f"{row.params:,}",
                f"{row.macs:,}",
                "–" if row.receptive_field is None else str(row.receptive_field),
            )
            for row in self
        ]
        params, macs = sum(row.params for row in self), sum(row.macs for row in self)
        cells.append(("total", "", "", f"{params:,}", f"{macs:,}", ""))
        header = ("layer", "kind", "output", "parameters", "MACs", "receptive field")
        return Display(title="Layers", header=header, rows=tuple(cells), numbers=header[3:])


def count_params(model: nn.Module, *, which: WhichName = "all") -> int:
    """Count the numbers that a model learns; a parameter that is used twice counts once.

    Args:
        model: any module.
        which: "all", or "trainable" for those with `requires_grad`.

    Returns:
        How many numbers they hold, 0 or more.

    Raises:
        OptionError: not a module, an unknown `which`, or lazy layers that have no size yet.

    Example:
        >>> count_params(nn.Conv2d(3, 32, 5))
        2432
    """
    if which not in get_args(WhichName):
        raise one_of("which", which, get_args(WhichName))
    _check_model(model)
    return sum(p.numel() for p in model.parameters() if which == "all" or p.requires_grad)


def layer_table(model: nn.Module, input_size: tuple[int, ...] = (3, 32, 32)) -> LayerTable:
    """List what each layer of a model costs for one image.

    The rows add up to the model: params to `count_params(model)`, macs to half the total of
    `torch.utils.flop_counter`. A row is a module that ran and within which no other one did, in
    the order in which they started. A module with layers inside has a row where it holds
    parameters or does products of its own (a class token, attention), and a module that did not
    run has one where it holds parameters.

    Attention is counted by its products, as the counter does on a GPU; it has no formula for
    the fused kernels of a CPU. What it has no formula for at all (recurrent layers, sums,
    activations, norms) counts as 0. Receptive fields take the largest of parallel paths, and
    leave out the statistics that group and layer norms take over an image. Padding, mirrored too,
    is taken as more of the image.

    The model runs in evaluation mode without gradients on its own device; its mode, its buffers
    and torch's random state are left as they were.

    Args:
        model: any module that takes one batch of images.
        input_size: of one image, `(channels, *sides)`.

    Returns:
        The rows, from input to output: a tuple that shows itself as a table in a notebook.

    Raises:
        OptionError: not a module, scripted, or lazy layers that have no size yet.
        ShapeError: input_size is not made of positive ints, or the model cannot take it.

    Example:
        >>> [(row.name, row.params, row.macs) for row in layer_table(nn.Conv2d(3, 8, 1))]
        [('', 32, 24576)]
    """
    _check_model(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise OptionError(
                f"module {name!r} is scripted and cannot be watched; pass the model that it was "
                "made from"
            )
    return LayerTable(_rows(model, dry_run(model, input_size)))


def _rows(model: nn.Module, seen: dict[str, Seen]) -> Iterator[LayerCost]:
    modules = dict(model.named_modules())
    ran = {id(modules[name]) for name in seen}
    counted: set[int] = set()
    for name in [*seen, *(name for name in modules if name not in seen)]:
        module, cost = modules[name], seen.get(name, Seen())
        inside = (each for each in module.modules() if each is not module)
        is_layer = name in seen and not any(id(each) in ran for each in inside)
        params = 0
        for parameter in module.parameters(recurse=is_layer):
            params += 0 if id(parameter) in counted else parameter.numel()
            counted.add(id(parameter))
        if is_layer or params or cost.macs:
            yield LayerCost(
                name=name,
                kind=type(module).__name__,
                output_shape=cost.output_shape,
                params=params,
                macs=cost.macs,
                receptive_field=cost.receptive_field,
            )


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        hint = f"; build_model({model!r}) builds one by name" if isinstance(model, str) else ""
        raise OptionError(f"model is {model!r}; needed is a torch.nn.Module{hint}")
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise OptionError(
                f"parameter {name!r} is lazy and has no size yet; run the model on a batch first"
            )
