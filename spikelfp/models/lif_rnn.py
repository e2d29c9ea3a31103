"""Recurrent networks of LIF neurons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from spikelfp import nn
from spikelfp.models.base import check_sizes, he, last_layer
from spikelfp.registry import checked_keywords

GAIN = 3.0
"""Times the initial weights of He et al. 2015 in front of hidden neurons."""


@checked_keywords(nn.LIF)
def lif_rnn(sizes: Sequence[int], *, bias: bool = True, readout: str | None = None, **neuron: Any) -> nn.Sequential:
    """Hidden layers whose spikes return to them one step later, and a dense output: ``Linear, RecurrentLIF, …, Linear,
    LIF``.

    Takes ``[T, B, sizes[0]]``, or images ``[T, B, C, H, W]`` of as many pixels, and returns spikes
    ``[T, B, sizes[-1]]``.

    Args:
        sizes: neurons from input to output, such as ``[77, 256, 10]``.
        bias: of the dense layers; the recurrent connections, ``Linear(n, n)`` of each hidden layer, have none, since it
            would be added to the same current.
        readout: the last layer, as in :func:`spikelfp.models.lif_mlp`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer.

    Raises:
        UserError: for fewer than two sizes, or one below 1.
    """
    check_sizes(sizes)
    layers: list[nn.Layer] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        dense = he(nn.Linear(inputs, outputs, bias))
        with torch.no_grad():
            dense.weight.mul_(GAIN)
        layers += [dense, nn.RecurrentLIF(nn.Linear(outputs, outputs, bias=False), **neuron)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias), last_layer(readout, neuron))
