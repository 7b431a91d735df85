"""Follow fields through a forward pass, operator by operator.

A dispatch mode sees every operator that runs, whether a layer called it or a plain function, so
residual sums, functional pooling and reshapes are followed as well as layers are. An operator
without a rule leaves its result without a field, never with a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifarzoo.arithmetic.fields import Field

__all__ = ["FieldTracker"]


class FieldTracker(TorchDispatchMode):
    """While it is entered, note the field of every tensor that is computed from one image batch.

    Args:
        images: the batch (N,C,*sides) that the pixels are counted in.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        # the tensors are kept, so that no other one gets their id
        self._known: dict[int, tuple[Tensor, Field | None]] = {}
        self._note(images, Field.of_image(images.shape))

    def field(self, tensor: Tensor) -> Field | None:
        """Give a tensor's field; None if it has none, or does not depend on the images."""
        return self._known.get(id(tensor), (tensor, None))[1]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and note the fields of what it returns."""
        out = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if id(leaf) in self._known]
        if inputs and isinstance(func, torch._ops.OpOverload):
            self._follow(func, args, kwargs or {}, out)
        return out

    def _follow(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Any, out: Any
    ) -> None:
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        call = Call(_arguments(func, args, kwargs), outputs, self._known)
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name in _CONSTANT:
            for tensor in outputs:
                self._known.pop(id(tensor), None)
            return
        fields = [None] if not call.complete() else _rule(name, func)(call)
        fields += [None] * (len(outputs) - len(fields))
        for tensor, found in zip(outputs, fields, strict=False):
            fits = found is not None and found.shape == tuple(tensor.shape)
            if func._schema.is_mutable and tensor._base is not None and found != self.field(tensor):
                self._note(tensor._base, None)  # written through a view
            self._note(tensor, found if fits else None)

    def _note(self, tensor: Tensor, found: Field | None) -> None:
        self._known[id(tensor)] = (tensor, found)


@dataclass(frozen=True)
class Call:
    """One call of an operator: its arguments by name, what it returned, and what is known."""

    arguments: dict[str, Any]
    outputs: list[Tensor]
    known: dict[int, tuple[Tensor, Field | None]]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def complete(self) -> bool:
        """Whether every input that depends on the images has a field."""
        leaves = tree_leaves(self.arguments)
        return all(self.known[id(leaf)][1] is not None for leaf in leaves if id(leaf) in self.known)

    def field(self, name: str) -> Field | None:
        """Give an argument's field; None if it does not depend on the images."""
        value = self.arguments.get(name)
        return self.known[id(value)][1] if id(value) in self.known else None

    @property
    def source(self) -> Field | None:
        """The field of the tensor that is transformed."""
        return self.field("self" if "self" in self.arguments else "input")

    @property
    def shape(self) -> tuple[int, ...]:
        """The first output's shape."""
        return tuple(self.outputs[0].shape)

    def dims(self, name: str = "dim") -> list[int]:
        """Give dimensions counted from the front; all of them for None."""
        assert self.source is not None
        rank, value = len(self.source.dims), self.arguments.get(name)
        if value is None or value == []:
            return list(range(rank))
        return [dim % rank for dim in ([value] if isinstance(value, int) else value)]


Fields: TypeAlias = list[Field | None]
Rule: TypeAlias = Callable[[Call], Fields]


def _arguments(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Any) -> dict[str, Any]:
    schema = func._schema.arguments
    bound = {each.name: each.default_value for each in schema if each.has_default_value()}
    bound.update(zip((each.name for each in schema), args, strict=False))
    return {**bound, **kwargs}


def _rule(name: str, func: torch._ops.OpOverload) -> Rule:
    pointwise = _pointwise if torch.Tag.pointwise in func.tags else _unknown
    return _RULES.get(name, pointwise)


def _unknown(call: Call) -> Fields:
    return []


def _pointwise(call: Call) -> Fields:
    leaves = [leaf for leaf in tree_leaves(call.arguments) if id(leaf) in call.known]
    fields = [call.known[id(leaf)][1] for leaf in leaves]
    spread = [each.expand(call.shape) for each in fields if each is not None]
    return [reduce(Field.merge, spread)]


def _normalise(call: Call) -> Fields:
    """Pass through: the statistics that a norm takes over the image are left out."""
    return [call.source]


def _copy(call: Call) -> Fields:
    source = call.field("src")
    return [source and source.expand(call.shape)]


def _softmax(call: Call) -> Fields:
    return [call.source and call.source.contract(*call.dims())]


def _reduce(call: Call) -> Fields:
    field, dims = call.source, call.dims()
    if field is None:
        return []
    for dim in sorted(dims, reverse=True):
        field = field.contract(dim).drop(dim)
    for dim in sorted(dims) if call.arguments.get("keepdim") else []:
        field = field.insert(dim)
    return [field] * len(call.outputs)


def _convolve(call: Call) -> Fields:
    field, kernel = call.source, tuple(call["weight"].shape[2:])
    if field is None:  # a kernel that depends on the images
        return []
    field = field.contract(1).scatter(1, call.shape[1])
    settings = (_each(call[name], len(kernel)) for name in ("stride", "padding", "dilation"))
    for side, (k, s, p, d) in enumerate(zip(kernel, *settings, strict=True)):
        first, stride, reach = Fraction(-p), Fraction(s), (k - 1) * d
        if call["transposed"]:
            first = Fraction(p - reach, s) + Fraction(1, 2) - Fraction(1, 2 * s)
            stride, reach = Fraction(1, s), reach // s
        window = {"first": first, "stride": stride, "span": Fraction(reach + 1)}
        field = field.taps(2 + side, call.shape[2 + side], **window)
    return [field]


def _pool(call: Call) -> Fields:
    field, sides = call.source, len(call["kernel_size"])
    if field is None:
        return []
    steps, dilation = call["stride"] or call["kernel_size"], call.arguments.get("dilation", [1])
    settings = (_each(v, sides) for v in (call["kernel_size"], steps, call["padding"], dilation))
    for dim, (k, s, p, d) in enumerate(zip(*settings, strict=True), len(field.dims) - sides):
        window = {"first": Fraction(-p), "stride": Fraction(s), "span": Fraction((k - 1) * d + 1)}
        field = field.taps(dim, call.shape[dim], **window)
    return [field] * len(call.outputs)


def _adaptive_pool(call: Call) -> Fields:
    field = call.source
    sides = len(call["output_size"])
    for dim in range(-sides, 0):
        if field is not None:
            n, m = field.shape[dim], call.shape[dim]
            span = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
            window = {"first": Fraction(0), "stride": Fraction(n, m), "span": Fraction(span)}
            field = field.taps(dim % len(field.dims), m, **window)
    return [field] * len(call.outputs)


def _resize(radius: Fraction, *, antialias: bool = False) -> Rule:
    """Build the rule for a resize whose filter reaches `radius` positions to each side."""

    def rule(call: Call) -> Fields:
        field = call.source
        for dim in range(2, len(call.shape)):
            if field is not None:
                n, m = field.shape[dim], call.shape[dim]
                window = _resize_window(n, m, radius, call.arguments, antialias=antialias)
                field = field.taps(dim, m, **window)
        return [field]

    return rule


def _resize_window(
    n: int, m: int, radius: Fraction, arguments: dict[str, Any], *, antialias: bool
) -> dict[str, Fraction]:
    corners = bool(arguments.get("align_corners")) and m > 1
    stride = Fraction(n - 1, m - 1) if corners else Fraction(n, m)
    centre = Fraction(1, 2) if corners else stride / 2
    reach = radius * max(Fraction(1), stride) if antialias else radius
    nudge = Fraction(1, 4 * m)  # the filter is zero at its ends: leave those pixels out
    return {"first": centre - reach + nudge, "stride": stride, "span": 2 * reach - nudge}


def _nearest(call: Call) -> Fields:
    field = call.source
    for dim in range(2, len(call.shape)):
        if field is not None:
            field = _repeat_side(field, dim, call.shape[dim])
    return [field]


def _repeat_side(field: Field, dim: int, extent: int) -> Field:
    first, stride = Fraction(1, 2 * extent) - Fraction(1, 2), Fraction(field.shape[dim], extent)
    return field.taps(dim, extent, first=first, stride=stride, span=Fraction(1))


def _shuffle(call: Call) -> Fields:
    """Pixel shuffle and unshuffle: channels to places, and back."""
    field = call.source
    if field is None:
        return []
    rank = len(field.dims)
    field = field.contract(rank - 3).scatter(rank - 3, call.shape[-3])
    for dim in (rank - 2, rank - 1):
        if "upscale_factor" in call.arguments:
            field = _repeat_side(field, dim, call.shape[dim])
        else:
            factor = Fraction(call["downscale_factor"])
            field = field.taps(dim, call.shape[dim], first=Fraction(0), stride=factor, span=factor)
    return [field]


def _pad(call: Call) -> Fields:
    field = call.source
    amounts: Sequence[int] = call["pad"] if "pad" in call.arguments else call["padding"]
    for back, left in enumerate(amounts[::2], 1):
        if field is not None:
            dim = len(field.dims) - back
            field = _narrow(field, dim, -left, call.shape[dim])
    return [field]


def _narrow(field: Field, dim: int, start: int, length: int, step: int = 1) -> Field:
    if (start, length, step) == (0, field.shape[dim], 1):
        return field
    if len(field.dims[dim]) > 1 or any(run.token for run in field.dims[dim]):
        return field.scatter(dim, length)
    window = {"first": Fraction(start), "stride": Fraction(step), "span": Fraction(1)}
    return field.taps(dim, length, **window)


def _slice(call: Call) -> Fields:
    field, (dim,) = call.source, call.dims()
    if field is None:
        return []
    n, start = field.shape[dim], call["start"] or 0
    start = min(n, max(0, start + n if start < 0 else start))
    return [_narrow(field, dim, start, call.shape[dim], call["step"])]


def _select(call: Call) -> Fields:
    field, (dim,) = call.source, call.dims()
    return [field and _pick(field, dim, call["index"] % field.shape[dim])]


def _pick(field: Field, dim: int, index: int) -> Field:
    if len(field.dims[dim]) > 1 or any(run.token for run in field.dims[dim]):
        field = field.contract(dim)
    return _narrow(field, dim, index, 1).drop(dim)


def _split(call: Call) -> Fields:
    field, (dim,), start = call.source, call.dims(), 0
    parts: Fields = []
    for part in call.outputs:
        parts.append(field and _narrow(field, dim, start, part.shape[dim]))
        start += part.shape[dim]
    return parts


def _unbind(call: Call) -> Fields:
    field, (dim,) = call.source, call.dims()
    return [field and _pick(field, dim, index) for index in range(len(call.outputs))]


def _join(call: Call) -> Fields:
    """Concatenate or stack; tensors that do not depend on the images add nothing."""
    dim = call["dim"] % len(call.shape)
    known = [call.known[id(each)][1] for each in call["tensors"] if id(each) in call.known]
    fields = [each for each in known if each is not None and len(each.dims)]
    if len(fields[0].dims) < len(call.shape):
        fields = [each.insert(dim) for each in fields]
    return [fields[0].append(fields[1:], dim, call.shape[dim])]


def _view(call: Call) -> Fields:
    return [call.source and call.source.regroup(call.shape)]


def _permute(call: Call) -> Fields:
    return [call.source and call.source.permute(call.dims("dims"))]


def _transpose(call: Call) -> Fields:
    field = call.source
    if field is None:
        return []
    order = list(range(len(field.dims)))
    pair = (0, 1) if "dim0" not in call.arguments else (call["dim0"], call["dim1"])
    one, two = (dim % len(order) for dim in pair) if len(order) > 1 else (0, 0)
    order[one], order[two] = order[two], order[one]
    return [field.permute(order)]


def _expand(call: Call) -> Fields:
    return [call.source and call.source.expand(call.shape)]


def _reorder(call: Call) -> Fields:
    """Shuffle, repeat or gather along dimensions, without following where each element goes."""
    field = call.source
    if field is None or len(field.dims) != len(call.shape):
        return []
    named = call.arguments.get("dims", call.arguments.get("dim"))
    for dim, extent in enumerate(call.shape):
        chosen = named is None or dim in call.dims("dims" if "dims" in call.arguments else "dim")
        field = field.scatter(dim, extent) if chosen else field
    return [field]


def _matmul(left: str, right: str, bias: str | None = None) -> Rule:
    """Build the rule for a product (…,M,K) × (…,K,N), with or without a bias."""

    def rule(call: Call) -> Fields:
        one, two = call.field(left), call.field(right)
        parts = [call.field(bias)] if bias else []
        if one is not None:
            last = len(one.dims) - 1
            parts.append(one.contract(last).drop(last).insert(last, call.shape[-1]))
        if two is not None:
            row = len(two.dims) - 2
            parts.append(two.contract(row).drop(row).insert(row, call.shape[-2]))
        return [reduce(Field.merge, (each.expand(call.shape) for each in parts if each))]

    return rule


def _each(value: Sequence[int] | int, sides: int) -> Sequence[int]:
    values = [value] if isinstance(value, int) else value
    return values if len(values) == sides else [values[0]] * sides


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_CONSTANT = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty "
    "new_full new_empty_strided zero fill bernoulli uniform normal".split()
)
_RULES: dict[str, Rule] = {
    **_named(_pointwise, "hardswish prelu _prelu_kernel _to_copy detach alias rsub masked_fill"),
    **_named(_pointwise, "lift_fresh log_sigmoid_forward rrelu_with_noise native_dropout"),
    **_named(_normalise, "native_batch_norm _native_batch_norm_legit cudnn_batch_norm"),
    **_named(_normalise, "_native_batch_norm_legit_no_training miopen_batch_norm"),
    **_named(_normalise, "_batch_norm_no_update _batch_norm_with_update"),
    **_named(_normalise, "native_layer_norm native_group_norm _fused_rms_norm"),
    **_named(_copy, "copy"),
    **_named(_softmax, "_softmax _log_softmax"),
    **_named(_reduce, "mean sum prod amax amin max min argmax argmin var std var_mean std_mean"),
    **_named(_reduce, "logsumexp linalg_vector_norm norm any all"),
    **_named(_convolve, "convolution _convolution cudnn_convolution convolution_overrideable"),
    **_named(_pool, "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d"),
    **_named(_adaptive_pool, "_adaptive_avg_pool2d _adaptive_avg_pool3d"),
    **_named(_adaptive_pool, "adaptive_max_pool2d adaptive_max_pool3d"),
    **_named(_nearest, "upsample_nearest1d upsample_nearest2d upsample_nearest3d"),
    **_named(_resize(Fraction(1, 2)), "_upsample_nearest_exact1d _upsample_nearest_exact2d"),
    **_named(_resize(Fraction(1)), "upsample_linear1d upsample_bilinear2d upsample_trilinear3d"),
    **_named(_resize(Fraction(2)), "upsample_bicubic2d"),
    **_named(_resize(Fraction(1), antialias=True), "_upsample_bilinear2d_aa"),
    **_named(_resize(Fraction(2), antialias=True), "_upsample_bicubic2d_aa"),
    **_named(_shuffle, "pixel_shuffle pixel_unshuffle"),
    **_named(_pad, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    **_named(_pad, "replication_pad1d replication_pad2d replication_pad3d"),
    **_named(_slice, "slice"),
    **_named(_select, "select"),
    **_named(_split, "split split_with_sizes"),
    **_named(_unbind, "unbind"),
    **_named(_join, "cat stack"),
    **_named(_view, "view _unsafe_view _reshape_alias reshape unsqueeze squeeze"),
    **_named(_permute, "permute"),
    **_named(_transpose, "t transpose"),
    **_named(_expand, "expand"),
    **_named(_reorder, "repeat roll flip index_select channel_shuffle native_channel_shuffle glu"),
    **_named(_matmul("self", "mat2"), "mm bmm"),
    **_named(_matmul("mat1", "mat2", "self"), "addmm"),
    **_named(_matmul("batch1", "batch2", "self"), "baddbmm"),
}
