"""Convolutions and sums of windows as dense layers, for chips that take lists of connections."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from hw_export.integer.network import Conv, Dense, Flatten, IntegerNetwork, Layer, Neurons, Pool

MOST = 2**26
"""Entries of the largest dense matrix that is made."""


def unrolled(network: IntegerNetwork) -> IntegerNetwork:
    """The same network of dense layers and neurons: what lies between two layers of neurons becomes one matrix.

    Sums of windows are part of the matrix; per-channel thresholds become one for each neuron. Returned as it is: a
    network with other layers (max-pooling, two layers of weights in a row), or whose matrices would be too large.
    """
    layers: list[Layer] = []
    waiting: list[Layer] = []
    features = math.prod(network.input_shape)
    shape = network.input_shape
    for layer, out in zip(network.layers, network.shapes, strict=True):
        if not isinstance(layer, Neurons):
            waiting.append(layer)
            continue
        products = [one for one in waiting if isinstance(one, (Dense, Conv))]
        most = features * math.prod(out)
        if len(products) != 1 or most > MOST or any(isinstance(one, Pool) and one.kind == "max" for one in waiting):
            return network
        layers += [_matrix(products[0], waiting, shape), replace(layer, threshold=_each(layer.threshold, out))]
        waiting, features, shape = [], math.prod(out), out
    if waiting:
        return network
    shapes = tuple((int(layer.weight.shape[0]),) for layer in layers[::2] if isinstance(layer, Dense) for _ in range(2))
    flat = (math.prod(network.input_shape),)
    return IntegerNetwork(tuple(layers), network.bits, network.input_scale, flat, shapes)


def _matrix(product: Dense | Conv, between: list[Layer], shape: tuple[int, ...]) -> Dense:
    """One dense layer for ``between``: as it is, or by running it on every single input."""
    if isinstance(product, Dense) and not any(isinstance(layer, Pool) for layer in between):
        return product
    features = math.prod(shape)
    columns = []
    for first in range(0, features, 256):
        count = min(256, features - first)
        single = torch.zeros(count, features)
        single[torch.arange(count), first + torch.arange(count)] = 1
        columns.append(_run(between, single.reshape(count, *shape), False))
    bias = _run(between, torch.zeros(1, *shape), True)[0]
    return Dense(product.name, torch.cat(columns).T.contiguous().to(torch.int32), bias.to(torch.int64))


def _run(layers: list[Layer], values: Tensor, biased: bool) -> Tensor:
    """What ``layers`` make of ``values`` in float64, which is exact below 2^53, flattened; with or without biases."""
    values = values.double()
    for layer in layers:
        if isinstance(layer, Flatten):
            values = values.flatten(1)
        elif isinstance(layer, Pool):
            values = torch.nn.functional.avg_pool2d(values, layer.kernel, layer.stride, divisor_override=1)
        elif isinstance(layer, Dense):
            bias = layer.bias.double() if biased else None
            values = torch.nn.functional.linear(values, layer.weight.double(), bias)
        elif isinstance(layer, Conv):
            bias = layer.bias.double() if biased else None
            values = torch.nn.functional.conv2d(
                values, layer.weight.double(), bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
    return values.flatten(1)


def _each(threshold: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One threshold for a layer as it is, one for each channel as one for each neuron."""
    if not threshold.dim() or len(shape) == 1:
        return threshold
    return threshold.repeat_interleave(math.prod(shape[1:]))
