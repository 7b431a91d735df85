"""Operators that move elements without mixing them: views, slices, concatenation."""

from __future__ import annotations

from cifarzoo.arithmetic.receptive.calls import Call, Fields, Rule, of_source
from cifarzoo.arithmetic.receptive.fields import Field

__all__ = ["RULES"]


def _view(field: Field, call: Call) -> Field:
    return field.regroup(call.shape)


def _expand(field: Field, call: Call) -> Field:
    return field.expand(call.shape)


def _restride(call: Call) -> Fields:
    """Follow only what global pooling does to a map of one pixel."""
    field = call.field("self")
    return [field if field is not None and not field.moves() else None]


def _permute(field: Field, call: Call) -> Field:
    return field.permute([dim % len(field.dims) for dim in call.integers("dims")])


def _transpose(field: Field, call: Call) -> Field:
    rank = len(field.dims)
    named = "dim0" in call.arguments
    pair = (call.integer("dim0"), call.integer("dim1")) if named else (0, 1)
    if rank < 2:
        return field
    order = list(range(rank))
    one, two = (dim % rank for dim in pair)
    order[one], order[two] = two, one
    return field.permute(order)


def _slice(field: Field, call: Call) -> Field:
    dim = call.integer("dim") % len(field.dims)
    n, start = field.shape[dim], call.integer("start")
    start = min(n, max(0, start + n if start < 0 else start))
    return field.narrow(dim, start, call.shape[dim], call.integer("step"))


def _select(field: Field, call: Call) -> Field:
    dim = call.integer("dim") % len(field.dims)
    return field.select(dim, call.integer("index") % field.shape[dim])


def _split(call: Call) -> Fields:
    field, start, parts = call.field("self"), 0, list[Field]()
    if field is None:
        return []
    dim = call.integer("dim") % len(field.dims)
    for part in call.outputs:
        parts.append(field.narrow(dim, start, part.shape[dim]))
        start += part.shape[dim]
    return parts


def _unbind(call: Call) -> Fields:
    field = call.field("self")
    if field is None:
        return []
    dim = call.integer("dim") % len(field.dims)
    return [field.select(dim, index) for index in range(len(call.outputs))]


def _join(call: Call) -> Fields:
    """Concatenate or stack; tensors that do not depend on the images add nothing."""
    dim = call.integer("dim") % len(call.shape)
    fields = [field for field in call.fields("tensors") if field is not None and field.dims]
    if len(fields[0].dims) < len(call.shape):
        fields = [field.insert(dim) for field in fields]
    return [fields[0].append(fields[1:], dim, call.shape[dim])]


def _reorder(field: Field, call: Call) -> Field:
    """Shuffle, repeat or pick along dimensions, without following where each element goes."""
    name = next((name for name in ("dims", "dim") if name in call.arguments), None)
    chosen = [dim % len(field.dims) for dim in call.integers(name)] if name else []
    for dim, extent in enumerate(call.shape):
        if dim in chosen or not chosen:
            field = field.scatter(dim, extent)
    return field


def _shuffle_channels(field: Field, call: Call) -> Field:
    return field.scatter(1, call.shape[1])


RULES: dict[str, Rule] = {
    **dict.fromkeys(["view", "_unsafe_view", "_reshape_alias", "reshape"], of_source(_view)),
    **dict.fromkeys(["unsqueeze", "squeeze"], of_source(_view)),
    "expand": of_source(_expand),
    "as_strided": _restride,
    "permute": of_source(_permute),
    **dict.fromkeys(["t", "transpose"], of_source(_transpose)),
    "slice": of_source(_slice),
    "select": of_source(_select),
    **dict.fromkeys(["split", "split_with_sizes"], _split),
    "unbind": _unbind,
    **dict.fromkeys(["cat", "stack"], _join),
    **dict.fromkeys(["roll", "flip", "index_select", "glu"], of_source(_reorder)),
    **dict.fromkeys(["channel_shuffle", "native_channel_shuffle"], of_source(_shuffle_channels)),
}
