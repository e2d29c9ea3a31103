"""Layers with native reward propagation. Sequences are ``[T, B, …]``, time first."""

from spikelfp.functional.sequence import constant
from spikelfp.nn.activation import Heaviside, ReLU
from spikelfp.nn.container import Sequential
from spikelfp.nn.conv import Conv2d
from spikelfp.nn.layer import Layer
from spikelfp.nn.lif import LIF
from spikelfp.nn.linear import Linear
from spikelfp.nn.shape import AvgPool2d, Dropout, Flatten, MaxPool2d

__all__ = [
    "LIF", "AvgPool2d", "Conv2d", "Dropout", "Flatten", "Heaviside", "Layer", "Linear", "MaxPool2d", "ReLU",
    "Sequential", "constant",
]  # fmt: skip
