"""Data sets in memory, and loaders of their batches."""

from collections.abc import Mapping

from cifarzoo.data.cifar import (
    CIFAR100_CLASSES,
    CIFAR100_SUPERCLASSES,
    CLASSES,
    ImageData,
    load_cifar10,
    load_cifar100,
)
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes

__all__ = [
    "CIFAR100_CLASSES",
    "CIFAR100_SUPERCLASSES",
    "CLASSES",
    "CLASS_NAMES",
    "SHAPE_CLASSES",
    "ImageData",
    "load_cifar10",
    "load_cifar100",
    "load_shapes",
]

# By the name of the data set, as in `train(data=)`.
CLASS_NAMES: Mapping[str, tuple[str, ...]] = {
    "cifar10": CLASSES,
    "cifar100": CIFAR100_CLASSES,
    "shapes": SHAPE_CLASSES,
}
