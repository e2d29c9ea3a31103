"""For simulators that import no NIR: a file as layers of neurons, each driven by one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_export.nir import Chain, Neuron
from hw_export.simulators.base import UnsupportedError

LARGEST = 2**26
"""Entries of the largest matrix that is built."""


@dataclass(frozen=True)
class Stage:
    """``size`` neurons that receive ``weight @ x + bias`` (float64 ``[size, inputs]``, ``[size]``) at every
    step.

    beta, threshold: of each neuron, rounded to float32 as the importers of other simulators do, so that a
    threshold that was an integer is one again. reset: what a spike does to the membrane, ``zero``, ``subtract`` (θ one
    step later) or ``immediate`` (θ at once).
    """

    neuron: Neuron
    weight: np.ndarray
    bias: np.ndarray

    @property
    def size(self) -> int:
        return len(self.bias)

    @property
    def beta(self) -> np.ndarray:
        return self.neuron.beta.astype(np.float32).astype(np.float64).ravel()

    @property
    def threshold(self) -> np.ndarray:
        return self.neuron.threshold.astype(np.float32).astype(np.float64).ravel()

    @property
    def reset(self) -> str:
        return self.neuron.reset


def stages(chain: Chain) -> list[Stage]:
    """The layers of neurons of ``chain``; all nodes between two of them become one matrix.

    Raises :class:`UnsupportedError` for a node that is not linear or a matrix that would be too large.
    """
    neurons = {neuron.name: neuron for neuron in chain.neurons}
    found: list[Stage] = []
    shape = chain.input_shape
    between: list[nir.NIRNode] = []
    for name, node in chain.nodes:
        if name in neurons:
            weight, bias = _matrix(between, shape)
            found.append(Stage(neurons[name], weight, bias))
            shape, between = neurons[name].shape, []
        else:
            between.append(node)
    if between:
        raise UnsupportedError(f"nodes behind the last neurons ({type(between[0]).__name__}) are not read here")
    return found


def decays(layers: list[Stage]) -> None:
    """For simulators whose membranes decay by ``exp(−1/τ)``: :class:`UnsupportedError` for neurons without leak or
    with nothing but leak.
    """
    for layer in layers:
        outside = layer.beta[(layer.beta <= 0) | (layer.beta >= 1)]
        if len(outside):
            raise UnsupportedError(
                f"its decay exp(−1/τ) lies between 0 and 1, neurons {layer.neuron.name!r} have {outside[0]:g}"
            )


def _matrix(nodes: list[nir.NIRNode], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of the affine map of ``nodes``: what it makes of 0 and of each unit vector."""
    inputs = torch.Size(shape).numel()
    nothing = torch.zeros(1, *shape, dtype=torch.float64)
    offset = _apply(nodes, nothing)
    if offset.numel() * inputs > LARGEST:
        raise UnsupportedError(f"a matrix of {offset.numel()} × {inputs} is too large to be written out")
    units = torch.eye(inputs, dtype=torch.float64).unflatten(1, shape)
    columns = (_apply(nodes, part) - offset for part in units.split(max(1, LARGEST // (64 * offset.numel()))))
    return torch.cat([part.flatten(1) for part in columns]).T.numpy(), offset.flatten().numpy()


def _apply(nodes: list[nir.NIRNode], x: Tensor) -> Tensor:
    for node in nodes:
        x = _apply_one(node, x)
    return x


def _apply_one(node: nir.NIRNode, x: Tensor) -> Tensor:
    if isinstance(node, nir.Affine):
        return F.linear(x, _tensor(node.weight), _tensor(node.bias))
    if isinstance(node, nir.Conv2d):
        stride, dilation = (tuple(int(v) for v in size) for size in (node.stride, node.dilation))
        padding = node.padding if isinstance(node.padding, str) else tuple(int(v) for v in node.padding)
        weight, bias = _tensor(node.weight), _tensor(node.bias)
        return F.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
    if isinstance(node, nir.Scale):
        return x * _tensor(node.scale)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        kernel, stride, padding = (
            tuple(int(v) for v in size) for size in (node.kernel_size, node.stride, node.padding)
        )
        divisor = 1 if isinstance(node, nir.SumPool2d) else None
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor)
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    raise UnsupportedError(f"a {type(node).__name__} node is not read here")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))
