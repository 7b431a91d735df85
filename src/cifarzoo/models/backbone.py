"""A trained backbone as a classifier of other images: only named modules are trained on.

The mechanism of transfer learning, for any backbone::

    model = transfer_classifier(
        backbone,
        preprocess=Preprocess(mean, std, size=224),
        trainable=("layer4", "fc"),
        head="fc",
    )

`split_frozen` takes such a model apart, so that the frozen part runs only once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, suggest, wrong_kind
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.split import ModelPart, is_in, set_trainable_mode, split_model
from cifarzoo.models.state import load_state

__all__ = ["BackboneWeights", "TransferClassifier", "split_frozen", "transfer_classifier"]

IMAGE_SIZE = 32
PROBE_IMAGES = 5  # a number that is no other size in a network


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneWeights:
    """Weights of a backbone that somebody else trained and publishes.

    Attributes:
        tag: what `build_model(name, weights=tag)` takes.
        url: of a file that holds a state dict.
        sha256: hash of that file.
        size_bytes: its length in bytes.
    """

    tag: str
    url: str
    sha256: str
    size_bytes: int


class TransferClassifier(ImageClassifier):
    """A classifier of which only named modules are trained.

    Every other parameter is frozen, and every other module always stays in evaluation mode: a
    frozen batch norm keeps its statistics, and a dropout acts only if it is named.

    Args:
        preprocess: what the backbone was trained with.
        network: the backbone, its head replaced; its parameters are frozen in place.
        trainable: names of modules of `network` that stay trainable, the head among them.
        head: name of the last linear layer, whose weights a backbone's file need not hold.
        published: weights of the backbone that can be downloaded.

    Raises:
        OptionError: a name is not a module of the network, or the head is not trainable.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        *,
        trainable: Sequence[str],
        head: str,
        published: Sequence[BackboneWeights] = (),
    ) -> None:
        super().__init__(preprocess, network)
        self.trainable = _checked_names(network, trainable, head)
        self.head = head
        self.published = tuple(published)
        network.requires_grad_(False)
        for name in self.trainable:
            network.get_submodule(name).requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode where something is trained; the rest stays in evaluation mode."""
        super().train(mode)
        set_trainable_mode(self, [f"network.{name}" for name in self.trainable])
        return self

    def load_backbone(self, state: Mapping[str, Tensor], *, source: str = "the state dict") -> None:
        """Load the backbone's own weights; those of its old head are left out.

        Args:
            state: name to tensor, as the backbone's `state_dict()` gives it, with or without the
                head.
            source: where it comes from, for the error.

        Raises:
            WeightsError: names are missing or unexpected, or a shape differs.
        """
        head = f"{self.head}."
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
        load_state(self.network, kept, source=source, optional=head)


def _checked_names(network: nn.Module, trainable: Sequence[str], head: str) -> tuple[str, ...]:
    if isinstance(trainable, str):
        raise OptionError(f"trainable is {trainable!r}; needed are names: ({trainable!r},)")
    for name in (*trainable, head):
        _check_name(network, name)
    if not any(is_in(head, name) for name in trainable):
        raise OptionError(
            f"trainable is {tuple(trainable)}; allowed: names with the head {head!r} among them, "
            "whose weights are new"
        )
    return tuple(trainable)


def _check_name(network: nn.Module, name: str) -> None:
    names = [known for known, _ in network.named_modules() if known]
    if name not in names:
        parts = ", ".join(known for known, _ in network.named_children())
        hint = suggest(name, names) or ";"
        raise OptionError(
            f"the backbone has no module {name!r}{hint} allowed: {parts}, and the modules in them"
        )


def transfer_classifier(
    backbone: nn.Module,
    *,
    preprocess: Preprocess,
    trainable: Sequence[str],
    head: str,
    num_classes: int = 10,
    published: Sequence[BackboneWeights] = (),
) -> TransferClassifier:
    """Make a classifier of CIFAR-10's classes from a backbone of other classes.

    Args:
        backbone: maps preprocessed images to logits of its own classes. It becomes part of the
            classifier: its head is replaced and its parameters are frozen in place.
        preprocess: what it was trained with.
        trainable: names of its modules that stay trainable, the head among them. Whatever is not
            named is frozen and stays in evaluation mode: name a dropout for it to act.
        head: name of its last linear layer; a new one with random weights takes its place.
        num_classes: length of the logits, 1 or more.
        published: weights of the backbone that can be downloaded.

    Returns:
        The classifier, with the weights that the backbone had.

    Raises:
        OptionError: a name is not a module of the backbone, the head is not linear or not
            trainable, or num_classes is under 1.

    Example:
        >>> model = transfer_classifier(  # doctest: +SKIP
        ...     torchvision.models.mobilenet_v2(weights="IMAGENET1K_V1"),
        ...     preprocess=Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=224),
        ...     trainable=("features.18", "classifier"),
        ...     head="classifier.1",
        ... )
    """
    if not isinstance(backbone, nn.Module):
        raise wrong_kind("backbone", backbone, "a torch.nn.Module")
    names = _checked_names(backbone, trainable, head)
    parent, _, child = head.rpartition(".")
    new = _new_head(backbone.get_submodule(head), head, num_classes)
    setattr(backbone.get_submodule(parent), child, new)
    return TransferClassifier(preprocess, backbone, trainable=names, head=head, published=published)


def _new_head(old: nn.Module, name: str, num_classes: int) -> nn.Linear:
    if not isinstance(old, nn.Linear):
        raise OptionError(f"head {name!r} is a {type(old).__name__}; needed is an nn.Linear")
    if num_classes < 1:
        raise OptionError(f"num_classes is {num_classes}; allowed: 1 or more")
    return nn.Linear(
        old.in_features,
        num_classes,
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )


def split_frozen(model: TransferClassifier) -> tuple[ModelPart, ModelPart]:
    """Split a model into its frozen part, which need run only once, and the rest.

    `trainable(frozen(images))` is `model(images)`, with the same bits. The parts hold the model's
    own modules: fitting the trainable part trains the model.

    Args:
        model: its weights and its mode are left as they are.

    Returns:
        frozen: maps images to features (N,...), always in evaluation mode; trainable: maps
        features to logits (N,num_classes).

    Raises:
        OptionError: the forward pass cannot be traced by torch.fx, or it changes with training
            mode outside of any module.

    Example:
        >>> frozen, trainable = split_frozen(model)  # doctest: +SKIP
        >>> loaders = feature_loaders(frozen, loaders)  # doctest: +SKIP
        >>> history = fit(trainable, loaders, recipe)  # doctest: +SKIP
    """
    if not isinstance(model, TransferClassifier):
        raise wrong_kind("model", model, "what transfer_classifier(...) gives")
    shape = (PROBE_IMAGES, model.preprocess.mean.shape[1], IMAGE_SIZE, IMAGE_SIZE)
    pixels = torch.linspace(0, 255, math.prod(shape), device=model.preprocess.mean.device)
    probe = pixels.to(torch.uint8).reshape(shape)
    return split_model(model, [f"network.{name}" for name in model.trainable], probe=probe)
