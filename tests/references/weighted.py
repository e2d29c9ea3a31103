"""Layers with weights, slowly: every connection's contribution and reward written out.

Each function takes an input ``[T, B, …]`` as a NumPy array and returns the output with a function that takes the
rewards of the output to those of the input. Updates are added to ``updates[parameter]``: ``d_w_ij = sign(w_ij) r_ij``,
the form in which v3 states eq. 4 ("we multiply the reward r_ij with the parameter sign").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from references.contributions import Array, normalised, shares

from spikelfp import nn, rules

Back = Callable[[Array], Array]
Updates = dict[torch.nn.Parameter, Array]


def values(tensor: torch.Tensor) -> Array:
    """The numbers of a tensor."""
    return tensor.detach().numpy()


def add(updates: Updates, parameter: torch.nn.Parameter | None, amount: Array) -> None:
    """Add to the update of a parameter, if there is one."""
    if parameter is not None:
        updates[parameter] = updates.get(parameter, 0.0) + amount


def dense(
    rule: rules.Feedback, x: Array, w: Array, b: Array | None
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """``z`` ``[N, J]`` of ``x`` ``[N, I]``; back: rewards of ``z`` to those of ``x``, of ``w`` and of ``b``, summed."""
    bias = np.zeros(len(w)) if b is None else b
    z = np.array([[sum(w[j, i] * row[i] for i in range(len(row))) + bias[j] for j in range(len(w))] for row in x])

    def back(reward: Array) -> tuple[Array, Array, Array]:
        to_x, to_w, to_b = np.zeros_like(x), np.zeros_like(w), np.zeros(len(w))
        for n, row in enumerate(x):
            for j in range(len(w)):
                contributions = np.append(w[j] * row, bias[j])
                share = shares(rule, contributions, reward[n, j])
                to_x[n] += share[:-1]
                to_w[j] += share[:-1]
                to_b[j] += share[-1]
        return to_x, to_w, to_b

    return z, back


def linear(layer: nn.Linear, x: Array, updates: Updates) -> tuple[Array, Back]:
    """A dense layer at every step (and token)."""
    w, b = values(layer.weight), None if layer.bias is None else values(layer.bias)
    rows = x.reshape(-1, x.shape[-1])
    z, split = dense(layer.rule, rows, w, b)

    def back(reward: Array) -> Array:
        to_x, to_w, to_b = split(reward.reshape(z.shape))
        add(updates, layer.weight, np.sign(w) * to_w)
        add(updates, layer.bias, None if b is None else np.sign(b) * to_b)
        return normalised(layer.rule, to_x.reshape(x.shape), x)

    return z.reshape(*x.shape[:-1], len(w)), back


def connections(layer: nn.Conv2d, shape: tuple[int, ...]) -> Array:
    """Which weight connects input ``i`` to output ``j`` of a convolution: its number from 1, or 0; ``[J, I]``.

    Found by probing: weights are numbered, and the output of a one at input ``i`` shows the numbers.
    """
    numbered = torch.arange(1, layer.weight.numel() + 1, dtype=torch.float64).view_as(layer.weight)
    inputs = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
    probed = torch.nn.functional.conv2d(
        inputs, numbered, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return probed.flatten(1).T.round().long().numpy()


def conv2d(layer: nn.Conv2d, x: Array, updates: Updates) -> tuple[Array, Back]:
    """A convolution as the dense layer it is, with many weights shared and most of them zero."""
    number = connections(layer, x.shape[2:])
    w = np.append(0.0, values(layer.weight).ravel())[number]
    bare = torch.nn.functional.conv2d(
        torch.zeros(1, *x.shape[2:], dtype=torch.float64), torch.zeros_like(layer.weight), None,
        layer.stride, layer.padding, layer.dilation, layer.groups,
    )  # fmt: skip
    places = bare[0, 0].numel()
    b = None if layer.bias is None else np.repeat(values(layer.bias), places)
    z, split = dense(layer.rule, x.reshape(len(x) * x.shape[1], -1), w, b)

    def back(reward: Array) -> Array:
        to_x, to_w, to_b = split(reward.reshape(z.shape))
        flat = np.zeros(layer.weight.numel() + 1)
        np.add.at(flat, number.ravel(), (np.sign(w) * to_w).ravel())
        add(updates, layer.weight, flat[1:].reshape(layer.weight.shape))
        if b is not None:
            add(updates, layer.bias, (np.sign(b) * to_b).reshape(-1, places).sum(1))
        return normalised(layer.rule, to_x.reshape(x.shape), x)

    return z.reshape(*x.shape[:2], *bare.shape[1:]), back
