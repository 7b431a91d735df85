"""Data sets in memory, and batches from them."""

from cifarzoo.data.cifar10 import CLASSES, load_cifar10
from cifarzoo.data.images import ImageData
from cifarzoo.data.loaders import (
    BatchLoader,
    Loaders,
    TensorLoader,
    TensorLoaders,
    cifar10_loaders,
    shapes_loaders,
)
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes

__all__ = [
    "CLASSES",
    "SHAPE_CLASSES",
    "BatchLoader",
    "ImageData",
    "Loaders",
    "TensorLoader",
    "TensorLoaders",
    "cifar10_loaders",
    "load_cifar10",
    "load_shapes",
    "shapes_loaders",
]
