"""Pre-activation residual network: `preact_resnet18`.

Source: He 2016 (arXiv 1603.05027), figure 4e and appendix, with the depth and widths of ImageNet's
ResNet-18 (arXiv 1512.03385, table 1). A batch norm and a ReLU follow the last block.

Deviations: the first layer is a 3×3 convolution of stride 1 without pooling, as in
github.com/kuangliu/pytorch-cifar, whose PreActResNet18 lacks the last norm (1,024 parameters). The
recipe is ours.
"""

from __future__ import annotations

from torch import nn

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import PreActBlock, he_normal, pooled_head, sequential, stage
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "preact_resnet18"]


def preact_resnet18(num_classes: int = 10) -> ImageClassifier:
    """Build a pre-activation ResNet-18 with random weights, for images of any size."""
    network = sequential(
        stem=nn.Conv2d(3, 64, 3, padding=1, bias=False),
        stage1=stage(PreActBlock, 64, 64, blocks=2, stride=1),
        stage2=stage(PreActBlock, 64, 128, blocks=2, stride=2),
        stage3=stage(PreActBlock, 128, 256, blocks=2, stride=2),
        stage4=stage(PreActBlock, 256, 512, blocks=2, stride=2),
        norm=nn.BatchNorm2d(512),
        act=nn.ReLU(),
        head=pooled_head(512, num_classes),
    )
    return ImageClassifier(Preprocess(), he_normal(network))


CARDS = (
    ModelCard(
        name="preact_resnet18",
        family="preact_resnet",
        summary="ResNet-18 for CIFAR (11 M parameters), with pre-activation blocks.",
        builder=preact_resnet18,
        recipes={"standard": muon_recipe(epochs=8, muon_lr=0.24, sgd_lr=0.05)},
        paper="arXiv 1603.05027",
    ),
)
