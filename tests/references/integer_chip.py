"""A chip in Python's own whole numbers: one neuron, one connection, one step at a time.

Written from the docstring of ``hw_export/integer/arithmetic.py``, in the order of its equations, and from what layers
of :mod:`hw_export.integer.network` say of themselves. A value is a list over the flattened shape of one sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from hw_export.integer.network import IntegerConv, IntegerDense, IntegerFlatten, IntegerPool


def wrapped(x: int, bits: int, symmetric: bool = False) -> int:
    """Two's complement of so many bits; symmetric: −2^(bits−1) reads +2^(bits−1)."""
    x %= 2**bits
    if x > 2 ** (bits - 1) or (x == 2 ** (bits - 1) and not symmetric):
        x -= 2**bits
    return x


def decayed(v, a, code: int, beta: float):
    if a.decay == "float":
        return np.float32(np.float32(beta) * v)
    if a.decay == "multiply":
        return int(math.copysign(1, v)) * (abs(v) * (2**a.decay_bits - code) // 2**a.decay_bits)
    if a.decay == "shift":
        after = v - (v >> code)
        return after if after != v else v - (v > 0) + (v < 0)
    if a.decay == "linear":
        return max(v - code, 0) if v > 0 else min(v + code, 0)
    return v


def limited(u: int, a) -> tuple[int, bool]:
    """The membrane as the register holds it, and whether it was beyond its bits."""
    lowest = -(2 ** (a.state_bits - 1)) + (1 if a.symmetric else 0)
    highest = 2 ** (a.state_bits - 1) - 1
    beyond = not lowest <= u <= highest
    if beyond:
        u = min(max(u, lowest), highest) if a.overflow == "saturate" else max(wrapped(u, a.state_bits), lowest)
    return (u if a.lowest is None else max(u, a.lowest)), beyond


def fires(u, threshold, a) -> bool:
    return u > threshold if a.fires == ">" else u >= threshold


class Neuron:
    """One neuron; ``threshold`` and ``code`` as the chip is given them."""

    def __init__(self, a, reset: str, beta: float, threshold: int, most: int) -> None:
        self.a, self.reset, self.beta = a, reset, beta
        self.theta = threshold * 2**a.shift
        self.code = a.decay_code(beta, self.theta)
        self.most = most if reset == "immediate" else 1
        self.v = np.float32(0) if a.decay == "float" else 0
        self.y = 0
        self.beyond = 0
        self.left = False  # the register, at an event of this step

    def step(self, total: int, bias: int) -> int:
        a, shifted = self.a, total * 2**self.a.shift
        current = shifted if a.current_bits is None else wrapped(shifted, a.current_bits, a.symmetric)
        self.beyond += current != shifted
        if a.synapse is not None:
            current = self.y = self.arriving(current)
        bias *= 2**a.shift
        before = fires(self.v, self.theta, a) if self.reset == "subtract" else False
        if a.decay == "float":
            u = np.float32(decayed(self.v, a, 0, self.beta) + np.float32(current))
            u = np.float32(u + np.float32(bias))
            if before:
                u = np.float32(u - np.float32(self.theta))
        else:
            u = decayed(self.v, a, self.code, self.beta) + current + bias - (self.theta if before else 0)
            u, beyond = limited(u, a)
            self.beyond += beyond
        return self._compare(u)

    def arriving(self, added: int) -> int:
        """The current of a step in which a synapse gets ``added``."""
        x, beyond = limited(self.y + added, replace(self.a, lowest=None))
        self.beyond += beyond
        lost = x // 2**self.a.synapse
        if lost == 0 and x != 0:
            lost = 1 if x > 0 else -1
        return x - lost

    def event(self, added: int) -> int:
        u, beyond = limited(self.v + added * 2**self.a.shift, self.a)
        self.left |= beyond
        return self._compare(u)

    def end_of_step(self) -> None:
        self.beyond += self.left
        self.left = False
        self.v = decayed(self.v, self.a, self.code, self.beta)

    def _compare(self, u) -> int:
        count, left = 0, u
        while count < self.most and fires(left, self.theta, self.a):
            left -= self.theta
            count += 1
        if self.reset == "zero":
            left = u * 0 if count else u
        elif self.reset == "subtract":
            left = u
        self.v = left
        return count


def summed(layer, x: list[int], shape: tuple[int, ...], to: tuple[int, ...], biases: bool = True) -> list[int]:
    """What ``layer`` makes of ``x``, with or without its ``biases``."""
    if isinstance(layer, IntegerFlatten):
        return list(x)
    seen = connections(layer, shape, to)
    if isinstance(layer, IntegerPool):
        return [(sum if layer.kind == "sum" else max)(x[place] for place, _ in own) for own in seen]
    channel = math.prod(to[1:])
    own_bias = [int(b) * biases for b in layer.bias for _ in range(channel)]
    return [sum(x[place] * w for place, w in own) + b for own, b in zip(seen, own_bias, strict=True)]


def reached(layer: IntegerDense | IntegerConv, x: list[int], shape: tuple[int, ...], to: tuple[int, ...]) -> int:
    """Synaptic operations of ``x``: one for each unit of it and each weight, not zero, that it meets."""
    return sum(abs(x[place]) for own in connections(layer, shape, to) for place, w in own if w != 0)


@cache
def connections(
    layer: IntegerDense | IntegerConv | IntegerPool, shape: tuple[int, ...], to: tuple[int, ...]
) -> list[list[tuple[int, int]]]:
    """For each output the places in the flattened input that it looks at, with the weight there."""
    if isinstance(layer, IntegerDense):
        return [list(enumerate(row)) for row in layer.weight.tolist()]
    return [list(_window(layer, *place, shape)) for place in itertools.product(*map(range, to))]


def _window(
    layer: IntegerConv | IntegerPool, o: int, row: int, column: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    _, height, width = shape
    if isinstance(layer, IntegerPool):
        for ky, kx in itertools.product(*map(range, layer.kernel)):
            yield (o * height + row * layer.stride[0] + ky) * width + column * layer.stride[1] + kx, 1
        return
    outputs, own, *kernel = layer.weight.shape
    first = o // (outputs // layer.groups) * own
    for c, ky, kx in itertools.product(range(own), *map(range, kernel)):
        y = row * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
        x = column * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
        if 0 <= y < height and 0 <= x < width:
            yield ((first + c) * height + y) * width + x, int(layer.weight[o, c, ky, kx])
