"""Data sets in memory, and loaders of their batches."""

from cifarzoo.data.cifar import CLASSES, ImageData, load_cifar10
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes

__all__ = ["CLASSES", "SHAPE_CLASSES", "ImageData", "load_cifar10", "load_shapes"]
