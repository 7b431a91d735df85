"""Taking a model apart: what is frozen runs once, what is trained runs every epoch.

The model's forward pass is traced to a graph (torch.fx) in which every module that is wholly frozen
or wholly trainable is one node. The graph is cut at the last tensor that does not depend on a
trainable module and that everything after it is computed from. Both parts share the model's
modules, so to train the second part is to train the model.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from cifarzoo.errors import OptionError

__all__ = ["ModelPart", "is_in", "set_trainable_mode", "split_model"]


class ModelPart(nn.Module):
    """One part of a split model; it holds the model's own modules, not copies.

    Args:
        body: computes the part.
        trainable: names of the modules in it that follow training mode; all others stay in
            evaluation mode.
    """

    def __init__(self, body: nn.Module, trainable: Sequence[str] = ()) -> None:
        super().__init__()
        self.body = body
        self.trainable = tuple(trainable)
        self.train(self.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute this part of the model."""
        outputs: Tensor = self.body(inputs)
        return outputs

    def train(self, mode: bool = True) -> Self:
        """Set training mode where something is trained; the rest stays in evaluation mode."""
        super().train(mode)
        set_trainable_mode(self, [f"body.{name}" for name in self.trainable])
        return self


def set_trainable_mode(module: nn.Module, trainable: Sequence[str]) -> None:
    """Put every module into evaluation mode that is not in, or around, a trainable one.

    Args:
        module: what is left as it is otherwise.
        trainable: names of modules in it.
    """
    for name, child in module.named_modules():
        if name and not any(is_in(name, other) or is_in(other, name) for other in trainable):
            child.training = False


def is_in(name: str, other: str) -> bool:
    """Tell whether the module called `name` is the one called `other`, or in it."""
    return name == other or name.startswith(f"{other}.")


def split_model(
    model: nn.Module, trainable: Sequence[str], *, probe: Tensor
) -> tuple[ModelPart, ModelPart]:
    """Split a model into its frozen part and the rest.

    `second(first(inputs))` is `model(inputs)`, with the same bits.

    Args:
        model: what to split; its weights and its mode are left as they are.
        trainable: names of its modules that are trained.
        probe: inputs to try the parts with, (N,...) with N at least 2.

    Returns:
        What comes before every trainable module, always in evaluation mode, and the rest. Both
        hold the model's own modules.

    Raises:
        OptionError: the forward pass cannot be traced, or it changes with training mode outside
            of any module.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        graph = _same_in_both_modes(model, trainable)
        cut = _find_cut(model, graph, trainable, probe)
        before = _with_ancestors(cut)
        first = ModelPart(fx.GraphModule(model, _graph_before(graph, before, cut)))
        second = ModelPart(fx.GraphModule(model, _graph_after(graph, before, cut)), trainable)
        _check_parts(model, first, second, probe[1:])  # another batch size than it was traced with
    finally:
        for module, mode in modes.items():
            module.training = mode
    return first, second


class _Tracer(fx.Tracer):
    """Look only into modules that hold both frozen and trainable ones."""

    def __init__(self, trainable: Sequence[str]) -> None:
        super().__init__()
        self._trainable = trainable

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(
            is_in(name, module_qualified_name) and name != module_qualified_name
            for name in self._trainable
        )


def _same_in_both_modes(model: nn.Module, trainable: Sequence[str]) -> fx.Graph:
    graphs = [_trace(model.train(mode), trainable) for mode in (True, False)]
    if str(graphs[0]) != str(graphs[1]):
        raise _cannot_split(
            "its forward pass asks self.training outside of any module of its own, so what it "
            "computes would be fixed; use nn.Dropout(p), not F.dropout(x, p, self.training)"
        )
    return graphs[1]


def _trace(model: nn.Module, trainable: Sequence[str]) -> fx.Graph:
    try:
        graph = _Tracer(trainable).trace(model)
    except Exception as error:  # the forward pass is anybody's code
        raise _cannot_split(f"its forward pass cannot be traced ({error})") from error
    _simplify(graph)
    return graph


def _cannot_split(reason: str) -> OptionError:
    return OptionError(f"the model cannot be split: {reason}. Or fit the whole model instead")


def _simplify(graph: fx.Graph) -> None:
    """Write every `x.shape[0]` and `x.size()[0]` as `x.size(0)`, drop what nothing needs."""
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not operator.getitem:
            continue
        shape, index = node.args
        if index == 0 and isinstance(shape, fx.Node) and _is_shape(shape):
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_method("size", (shape.args[0], 0)))
            graph.erase_node(node)
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):  # assertions, too
            graph.erase_node(node)


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return bool(node.args[1] == "shape")
    return node.op == "call_method" and node.target == "size" and len(node.args) == 1


def _is_batch_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size" and bool(node.args[1:] == (0,))


def _find_cut(
    model: nn.Module, graph: fx.Graph, trainable: Sequence[str], probe: Tensor
) -> fx.Node:
    tensors = _batch_tensors(model, graph, probe)
    trained = _depends_on(graph, trainable)
    nodes: list[fx.Node] = list(graph.nodes)
    for node in reversed(nodes):
        if node in tensors and node not in trained and _is_only_way(graph, node):
            return node
    raise _cannot_split("no single tensor lies between its frozen and its trainable modules")


def _batch_tensors(model: nn.Module, graph: fx.Graph, probe: Tensor) -> set[fx.Node]:
    """Run the graph to find the nodes that give one tensor with a row for every image."""
    with torch.no_grad():
        ShapeProp(fx.GraphModule(model, graph)).propagate(probe)
    return {
        node
        for node in graph.nodes
        if isinstance(found := node.meta.get("tensor_meta"), TensorMetadata)
        and found.dtype.is_floating_point
        and found.shape[:1] == probe.shape[:1]
    }


def _depends_on(graph: fx.Graph, trainable: Sequence[str]) -> set[fx.Node]:
    trained: set[fx.Node] = set()
    for node in graph.nodes:
        named = node.op in ("call_module", "get_attr") and any(
            is_in(str(node.target), name) for name in trainable
        )
        if named or not trained.isdisjoint(node.all_input_nodes):
            trained.add(node)
    return trained


def _with_ancestors(node: fx.Node) -> set[fx.Node]:
    found, waiting = {node}, [node]
    while waiting:
        inputs = set(waiting.pop().all_input_nodes) - found
        found |= inputs
        waiting.extend(inputs)
    return found


def _is_only_way(graph: fx.Graph, cut: fx.Node) -> bool:
    """Tell whether what comes after the cut needs nothing else from before it."""
    before = _with_ancestors(cut)
    return all(
        source not in before or source is cut or _is_batch_size(source)
        for node in graph.nodes
        if node not in before and not _is_batch_size(node)
        for source in node.all_input_nodes
    )


def _graph_before(graph: fx.Graph, before: set[fx.Node], cut: fx.Node) -> fx.Graph:
    part, copies = fx.Graph(), dict[fx.Node, Any]()
    for node in graph.nodes:
        if node in before:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[cut])
    return part


def _graph_after(graph: fx.Graph, before: set[fx.Node], cut: fx.Node) -> fx.Graph:
    part = fx.Graph()
    features = part.placeholder("features")
    copies: dict[fx.Node, Any] = {cut: features}
    for node in graph.nodes:
        if _is_batch_size(node):
            copies[node] = part.call_method("size", (features, 0))
        elif node not in before:
            copies[node] = part.node_copy(node, copies.__getitem__)
    return part


def _check_parts(model: nn.Module, first: nn.Module, second: nn.Module, probe: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        whole, parts = model(probe), second(first(probe))
    if whole.shape != parts.shape or not torch.allclose(whole, parts, atol=1e-4, equal_nan=True):
        raise _cannot_split("its parts together do not compute what the whole does")
