"""Sizes, costs and receptive fields of networks, computed without training."""

from cifarzoo.arithmetic.convolution import convolve2d
from cifarzoo.arithmetic.layers import LayerRow, LayerTable, count_params, layer_table
from cifarzoo.arithmetic.receptive import receptive_area
from cifarzoo.arithmetic.sizes import conv_output_size, kernel_size_for, same_padding

__all__ = [
    "LayerRow",
    "LayerTable",
    "conv_output_size",
    "convolve2d",
    "count_params",
    "kernel_size_for",
    "layer_table",
    "receptive_area",
    "same_padding",
]
