"""Sizes, convolutions and costs: what can be computed about a network without training it."""

from cifarzoo.arithmetic.convolution import convolve2d
from cifarzoo.arithmetic.cost import LayerCost, count_params, layer_table
from cifarzoo.arithmetic.shapes import conv_output_size, kernel_size_for, same_padding

__all__ = [
    "LayerCost",
    "conv_output_size",
    "convolve2d",
    "count_params",
    "kernel_size_for",
    "layer_table",
    "same_padding",
]
