"""Operators that combine elements: sums, products, reductions, norms."""

from __future__ import annotations

from functools import reduce

from cifarzoo.arithmetic.receptive.calls import Call, Fields, Rule, of_source
from cifarzoo.arithmetic.receptive.fields import Field

__all__ = ["CONSTANT", "RULES", "pointwise"]

# what these return does not depend on the values that they are given
CONSTANT = frozenset(
    {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"}
    | {"new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"}
    | {"zero", "fill", "bernoulli", "uniform", "normal"}
)


def pointwise(call: Call) -> Fields:
    """Let each element see what its counterparts in all the inputs saw."""
    return [_merge(call.fields(), call)]


def _merge(fields: Fields, call: Call) -> Field:
    return reduce(Field.merge, (each.expand(call.shape) for each in fields if each is not None))


def _normalise(field: Field, call: Call) -> Field:
    """Pass through: the statistics that a norm takes over the image are left out."""
    return field


def _copy(call: Call) -> Fields:
    return [_merge(call.fields("src"), call)] if call.fields("src") else []


def _softmax(field: Field, call: Call) -> Field:
    return field.contract(call.integer("dim") % len(field.dims))


def _reduce(field: Field, call: Call) -> Field:
    rank = len(field.dims)
    named = call.integers("dim") if "dim" in call.arguments else []
    dims = sorted(dim % rank for dim in named) or list(range(rank))
    for dim in reversed(dims):
        field = field.contract(dim).drop(dim)
    for dim in dims if call.arguments.get("keepdim") else []:
        field = field.insert(dim)
    return field


def _product(left: str, right: str, bias: str | None = None) -> Rule:
    """Make the rule for a product (…,M,K) × (…,K,N), with or without a bias."""

    def rule(call: Call) -> Fields:
        one, two = call.field(left), call.field(right)
        parts = [*call.fields(bias)] if bias else []
        if one is not None:
            last = len(one.dims) - 1
            parts.append(one.contract(last).drop(last).insert(last, call.shape[-1]))
        if two is not None:
            row = len(two.dims) - 2
            parts.append(two.contract(row).drop(row).insert(row, call.shape[-2]))
        return [_merge(parts, call)]

    return rule


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


RULES: dict[str, Rule] = {
    # pointwise, but without torch's tag for it
    **_named(pointwise, "hardswish", "hardtanh", "prelu", "_prelu_kernel", "rsub", "masked_fill"),
    **_named(pointwise, "_to_copy", "detach", "alias", "lift_fresh", "native_dropout"),
    **_named(pointwise, "log_sigmoid_forward", "rrelu_with_noise"),
    **_named(of_source(_normalise), "native_batch_norm", "_native_batch_norm_legit"),
    **_named(of_source(_normalise), "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
    **_named(of_source(_normalise), "miopen_batch_norm", "_batch_norm_no_update"),
    **_named(of_source(_normalise), "_batch_norm_with_update", "native_layer_norm"),
    **_named(of_source(_normalise), "native_group_norm", "_fused_rms_norm"),
    **_named(_copy, "copy"),
    **_named(of_source(_softmax), "_softmax", "_log_softmax", "_safe_softmax"),
    **_named(of_source(_reduce), "mean", "sum", "prod", "amax", "amin", "max", "min", "argmax"),
    **_named(of_source(_reduce), "argmin", "var", "std", "var_mean", "std_mean", "logsumexp"),
    **_named(of_source(_reduce), "linalg_vector_norm", "norm", "any", "all"),
    **_named(_product("self", "mat2"), "mm", "bmm"),
    **_named(_product("mat1", "mat2", "self"), "addmm"),
    **_named(_product("batch1", "batch2", "self"), "baddbmm"),
}
