"""From a NIR file of ours back to a network."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import nir
import numpy as np
import torch

from hw_export.nir.chain import Chain, read_chain
from spikelfp import nn
from spikelfp.errors import DataError


def from_nir(path: str | Path) -> nn.Sequential:
    """The network a file of :func:`~hw_export.nir.to_nir` was written from: any dialect, float32 weights.

    Layers carry the names of their nodes. β, θ and the reset come from the metadata, where they stand
    exactly. Raises :class:`~spikelfp.errors.DataError` for a file that is broken, or has nodes or metadata of
    others.
    """
    chain = read_chain(path)
    with torch.random.fork_rng(devices=[]):  # layers are made with random weights first
        return nn.Sequential(_layers(chain, path)).eval().requires_grad_(False)


def _layers(chain: Chain, path: str | Path) -> OrderedDict[str, torch.nn.Module]:
    layers: OrderedDict[str, torch.nn.Module] = OrderedDict()
    gain = 1
    for name, node in chain.nodes:
        if isinstance(node, nir.Affine):
            linear = nn.Linear(node.weight.shape[1], node.weight.shape[0])
            layers[name] = _filled(linear, node, gain)
        elif isinstance(node, nir.Conv2d):
            outputs, inputs, *kernel = node.weight.shape
            stride, padding, dilation = (_pair(size) for size in (node.stride, node.padding, node.dilation))
            conv = nn.Conv2d(inputs, outputs, tuple(kernel), stride, padding, dilation)
            layers[name] = _filled(conv, node, gain)
        elif isinstance(node, nir.SumPool2d) and _text(node, "pool") == "average":
            kernel_size = _pair(node.kernel_size)
            layers[name] = nn.AvgPool2d(kernel_size, _pair(node.stride))
            gain *= math.prod(kernel_size)
        elif isinstance(node, nir.Flatten):
            layers[name] = nn.Flatten()
        elif isinstance(node, nir.LIF):
            try:
                beta, threshold = float(node.metadata["beta"]), float(node.metadata["threshold"])
            except KeyError as error:
                raise DataError(f"{path}: the neurons {name!r} carry no {error} in their metadata") from None
            layers[name] = nn.LIF(beta, threshold, _text(node, "reset"))  # type: ignore[arg-type]
            gain = 1
        else:
            raise DataError(f"{path}: {name!r} is a {type(node).__name__}, which no network of ours is written as")
    return layers


def _filled(layer: nn.Linear | nn.Conv2d, node: nir.Affine | nir.Conv2d, gain: int) -> nn.Linear | nn.Conv2d:
    layer.weight.data = torch.from_numpy(np.asarray(node.weight, np.float32))
    assert layer.bias is not None
    layer.bias.data = torch.from_numpy(np.asarray(node.bias / gain, np.float32))
    return layer


def _pair(size: np.ndarray) -> tuple[int, int]:
    height, width = size
    return int(height), int(width)


def _text(node: nir.NIRNode, key: str) -> str:
    value = node.metadata.get(key, "")
    return value.decode() if isinstance(value, bytes) else str(value)
