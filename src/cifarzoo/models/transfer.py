"""Transfer learning from partly frozen backbones: `resnet18_transfer`.

Source of `resnet18_transfer`: task 4 of the report in `cifarzoo.models.report`. It is ResNet-18
(arXiv 1512.03385, table 1) with torchvision's ImageNet weights, frozen except `layer4` and `fc`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from pydantic import InstanceOf
from torch import fx, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.errors import InvalidTypeError, InvalidValueError, suggest
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.report import SGD_RECIPE
from cifarzoo.validation import PositiveInt, validate

__all__ = [
    "CARDS",
    "BackboneWeights",
    "TransferClassifier",
    "resnet18_transfer",
    "transfer_classifier",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneWeights:
    """Published state dict of a backbone, for `build_model(name, weights=tag)`."""

    tag: str
    url: str
    sha256: str
    size_bytes: int


class _PartlyTrainable(nn.Module):
    """Module whose network stays in evaluation mode, except its trainable modules."""

    network: nn.Module
    trainable: tuple[str, ...] = ()

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trainable modules."""
        super().train(mode)
        self.network.eval()
        for name in self.trainable:
            self.network.get_submodule(name).train(mode)
        return self


class _Part(_PartlyTrainable, nn.Sequential):
    """Part of a split model; it shares the model's modules."""


class TransferClassifier(_PartlyTrainable, ImageClassifier):
    """Classifier with a pretrained backbone, made by `transfer_classifier`.

    Parameters outside the trainable modules are frozen, and modules outside them stay in evaluation
    mode: batch norms keep their statistics, and dropouts are inactive.

    Attributes:
        trainable: names of the trainable modules of `network`.
        head: name of the last linear layer of `network`.
        published: weights of the backbone that can be downloaded.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        *,
        trainable: Sequence[str],
        head: str,
        published: Sequence[BackboneWeights],
    ) -> None:
        super().__init__(preprocess, network)
        self.trainable = tuple(trainable)
        self.head = head
        self.published = tuple(published)
        network.requires_grad_(False)
        for name in self.trainable:
            network.get_submodule(name).requires_grad_(True)
        self.train()

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Split the model into a frozen and a trainable part.

        `trainable(frozen(images))` equals `model(images)` bit for bit. The parts share the model's
        modules, so training the trainable part trains the model.

        Returns:
            frozen: maps images to features (N,...); always in evaluation mode.
            trainable: maps features to logits (N,num_classes).

        Raises:
            InvalidValueError: torch.fx cannot trace the network.
        """
        before, after = _split_network(self.network, self.trainable)
        frozen = _Part(OrderedDict(preprocess=self.preprocess, network=before))
        trainable = _Part(OrderedDict(network=after))
        trainable.trainable = self.trainable
        return frozen.train(self.training), trainable.train(self.training)


def _split_network(
    network: nn.Module, trainable: Sequence[str]
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split a network after the last node whose value alone determines the output.

    No trainable module comes before it. The input is such a node, so every network has one.
    """

    def is_leaf(_: nn.Module, name: str) -> bool:  # wholly frozen or wholly trainable
        return not any(inner.startswith(f"{name}.") for inner in trainable)

    def is_trainable(node: fx.Node) -> bool:
        names = tuple(f"{name}." for name in trainable)
        return node.op in ("call_module", "get_attr") and f"{node.target}.".startswith(names)

    def is_cut(i: int) -> bool:
        earlier, later = nodes[: i + 1], nodes[i + 1 :]
        used_later = [node for node in earlier if not node.users.keys().isdisjoint(later)]
        return used_later == [nodes[i]] and not any(map(is_trainable, earlier))

    tracer = fx.Tracer()
    tracer.is_leaf_module = is_leaf  # type: ignore[assignment, method-assign]
    try:
        graph = tracer.trace(network)
    except Exception as error:  # the forward pass may contain anything
        raise InvalidValueError(f"torch.fx cannot trace the network: {error}") from error
    nodes = list(graph.nodes)
    cut = max(filter(is_cut, range(len(nodes))))
    before, after = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[: cut + 1]:
        copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(copies[nodes[cut]])
    features = after.placeholder("features")
    after.output(after.graph_copy(graph, dict.fromkeys(nodes[: cut + 1], features)))
    return fx.GraphModule(network, before), fx.GraphModule(network, after)


def transfer_classifier(
    backbone: nn.Module,
    *,
    preprocess: Preprocess,
    trainable: Sequence[str],
    head: str,
    num_classes: int = 10,
    published: Sequence[BackboneWeights] = (),
) -> TransferClassifier:
    """Replace the head of a backbone and freeze everything except the named modules.

    Args:
        backbone: maps preprocessed images to logits; changed in place.
        preprocess: the preprocessing that the backbone was trained with.
        trainable: names of the modules to train, including the head. Only dropouts among them are
            active.
        head: name of the last linear layer, such as "classifier.1"; a new one replaces it.
        num_classes: length of the logits, at least 1.
        published: weights of the backbone that can be downloaded.

    Raises:
        InvalidTypeError: the backbone is not a module, or trainable is a single string.
        InvalidValueError: a module does not exist, the head is not an `nn.Linear` or not trainable,
            or num_classes is less than 1.
    """
    validate("backbone", backbone, InstanceOf[nn.Module])
    validate("num_classes", num_classes, PositiveInt)
    if isinstance(trainable, str):
        raise InvalidTypeError(f"trainable is {trainable!r}: expected a tuple, ({trainable!r},)")
    modules = {name: module for name, module in backbone.named_modules() if name}
    for name in (*trainable, head):
        if name not in modules:
            raise InvalidValueError(f"the backbone has no module {name!r}{suggest(name, modules)}")
    if not f"{head}.".startswith(tuple(f"{name}." for name in trainable)):
        raise InvalidValueError(f"trainable is {trainable!r}: expected it to include head {head!r}")
    old = modules[head]
    if not isinstance(old, nn.Linear):
        raise InvalidValueError(f"head {head!r} is a {type(old).__name__}: expected an nn.Linear")
    weight, has_bias = old.weight, old.bias is not None
    with torch.inference_mode(mode=False):  # whose tensors cannot be trained
        new = nn.Linear(old.in_features, num_classes, has_bias, weight.device, weight.dtype)
    backbone.set_submodule(head, new)
    return TransferClassifier(
        preprocess, backbone, trainable=trainable, head=head, published=published
    )


RESNET18_IMAGENET = BackboneWeights(
    tag="imagenet",
    url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    size_bytes=46_830_571,
)


def resnet18_transfer(num_classes: int = 10) -> TransferClassifier:
    """Build the report's transfer model with random weights, for images (N,3,H,W)."""
    from torchvision.models import resnet18

    return transfer_classifier(
        resnet18(weights=None),
        preprocess=Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=224),
        trainable=("layer4", "fc"),
        head="fc",
        num_classes=num_classes,
        published=(RESNET18_IMAGENET,),
    )


CARDS = (
    ModelCard(
        name="resnet18_transfer",
        family="transfer",
        summary="ImageNet's ResNet-18 at 224 pixels; the last stage and the head are trained.",
        builder=resnet18_transfer,
        recipes={"standard": replace(SGD_RECIPE, batch_size=32, optimizer="adam", lr=5e-4)},
        initial_weights=RESNET18_IMAGENET.tag,
        paper="arXiv 1512.03385, table 1",
    ),
)
