"""CIFAR ResNets of other projects: how they name their tensors, and what else differs from ours.

`cifarzoo.load_weights` reads their files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.resnet import Shortcut, resnet

__all__ = ["LAYOUTS", "Layout", "recognize"]

_HEAD = "head.linear.weight"
# Widespread in code for CIFAR-10. The standard deviation of its pixels is larger: `CIFAR10_STD`.
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names, shortcuts and normalisation of a project's residual networks.

    Attributes:
        project: repository on GitHub.
        shortcut: as in `resnet`.
        outside: our names of the modules outside the blocks, by theirs.
        block: matches the start of a name within a block; the groups are stage and block.
        first_block: number of the first block in a stage.
        inside: our names of the modules within a block, by theirs.
        mean: mean of each channel.
        std: standard deviation of each channel.
        cifar100: mean and standard deviation of networks for 100 classes; None for the same.
    """

    project: str
    shortcut: Shortcut
    outside: Mapping[str, str]
    block: str
    first_block: int = 0
    inside: Mapping[str, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    cifar100: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    def rename(self, name: str) -> str | None:
        """Return our name of a tensor, or None if the project has none of that name."""
        module, _, tensor = name.rpartition(".")
        start = ""
        names = self.outside
        if found := re.match(self.block, module):
            stage, block = found.groups()
            start = f"stage{stage}.{int(block) - self.first_block}."
            module, names = module[found.end() :], self.inside
        return f"{start}{names[module]}.{tensor}" if module in names else None

    def build(self, num_classes: int, *, blocks_per_stage: int) -> ImageClassifier:
        """Build a network of the project with random weights."""
        model = resnet(num_classes, blocks_per_stage=blocks_per_stage, shortcut=self.shortcut)
        mean, std = self.mean, self.std
        if num_classes == 100 and self.cifar100:
            mean, std = self.cifar100
        model.preprocess = Preprocess(mean, std)
        return model


_TORCHVISION = {
    "conv1": "first.conv",
    "bn1": "first.norm",
    "conv2": "second.conv",
    "bn2": "second.norm",
}

LAYOUTS = (
    Layout(
        project="chenyaofo/pytorch-cifar-models",
        shortcut="projection",
        outside={"conv1": "stem.conv", "bn1": "stem.norm", "fc": "head.linear"},
        block=r"layer([123])\.(\d{1,3})\.",
        inside={
            **_TORCHVISION,
            "downsample.0": "shortcut.conv",
            "downsample.1": "shortcut.norm",
        },
        mean=_MEAN,
        std=_STD,
        cifar100=((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
    ),
    Layout(
        project="akamaster/pytorch_resnet_cifar10",
        shortcut="center",
        outside={"conv1": "stem.conv", "bn1": "stem.norm", "linear": "head.linear"},
        block=r"layer([123])\.(\d{1,3})\.",
        inside=_TORCHVISION,
        mean=(0.485, 0.456, 0.406),  # ImageNet's
        std=(0.229, 0.224, 0.225),
    ),
    Layout(
        project="osmr/pytorchcv",
        shortcut="projection",
        outside={
            "features.init_block.conv": "stem.conv",
            "features.init_block.bn": "stem.norm",
            "output": "head.linear",
        },
        block=r"features\.stage([123])\.unit(\d{1,3})\.",
        first_block=1,
        inside={
            "body.conv1.conv": "first.conv",
            "body.conv1.bn": "first.norm",
            "body.conv2.conv": "second.conv",
            "body.conv2.bn": "second.norm",
            "identity_conv.conv": "shortcut.conv",
            "identity_conv.bn": "shortcut.norm",
        },
        mean=_MEAN,
        std=_STD,
    ),
)


def recognize(state: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor]] | None:
    """Return the layout that names all tensors, and the tensors by our names.

    Args:
        state: tensors by name; all names may start with "module.", as those of `DataParallel`.

    Returns:
        None if no layout has all the names.
    """
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for layout in LAYOUTS:
        renamed = {ours: state[name] for name in state if (ours := layout.rename(name))}
        if len(renamed) == len(state) and _HEAD in renamed:
            return layout, renamed
    return None
