"""Normalisation layers, slowly, from v3, eq. 8-10 (BatchNorm) and arXiv:2402.05602, section 3.3 (LayerNorm)."""

from __future__ import annotations

import numpy as np
from references.contributions import Array
from references.weighted import Back, Updates, add, values

from spikelfp import nn


def batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Array, updates: Updates) -> tuple[Array, Back]:
    """Eq. 8-10, channel by channel; ``[T, B, C, …]``, or ``[T, B, N, C]`` for tokens."""
    axis = 3 if isinstance(layer, nn.TokenNorm) else 2
    channels = np.moveaxis(x, axis, 0)
    out = np.empty_like(channels)
    parts = []
    for c, a in enumerate(channels):
        if layer.training or layer.running_mean is None:
            mean, var = a.sum() / a.size, ((a - a.sum() / a.size) ** 2).sum() / a.size
        else:
            mean, var = float(layer.running_mean[c]), float(layer.running_var[c])
        deviation = np.sqrt(var + layer.eps)
        weight, bias = (1.0, 0.0) if layer.weight is None else (values(layer.weight)[c], values(layer.bias)[c])
        tilde = (a - mean) / deviation
        out[c] = weight * tilde + bias
        parts.append((a, deviation, weight, bias, tilde))

    def back(reward: Array) -> Array:
        rewards = np.moveaxis(reward, axis, 0)
        to_x, to_weight, to_bias = np.empty_like(channels), np.zeros(len(channels)), np.zeros(len(channels))
        for c, (a, deviation, weight, bias, tilde) in enumerate(parts):
            n = rewards[c] / out[c]
            to_x[c] = weight * a / deviation * n  # eq. 9
            to_weight[c] = (abs(weight) * tilde * n).sum()  # eq. 10
            to_bias[c] = (abs(bias) * n).sum()
        add(updates, layer.weight, to_weight)
        add(updates, layer.bias, to_bias)
        return np.moveaxis(to_x, 0, axis)

    return np.moveaxis(out, 0, axis), back


def layer_norm(layer: nn.LayerNorm, x: Array, updates: Updates) -> tuple[Array, Back]:
    """``y = γ (C x) / σ + β`` with σ constant and the matrix ``C = 1 − 1/n`` written out."""
    size = int(np.prod(layer.normalized_shape))
    rows = x.reshape(-1, size)
    centring = np.eye(size) - np.full((size, size), 1 / size)
    weight = np.ones(size) if layer.weight is None else values(layer.weight).ravel()
    bias = np.zeros(size) if layer.bias is None else values(layer.bias).ravel()
    out, kept = [], []
    for row in rows:
        centred = centring @ row
        deviation = np.sqrt((centred**2).sum() / size + layer.eps)
        out.append(weight * centred / deviation + bias)
        kept.append((centred, deviation))

    def back(reward: Array) -> Array:
        to_x, to_weight, to_bias = np.zeros_like(rows), np.zeros(size), np.zeros(size)
        for k, r in enumerate(reward.reshape(-1, size)):
            centred, deviation = kept[k]
            for i in range(size):
                n = r[i] / out[k][i]
                for j in range(size):
                    to_x[k, j] += weight[i] * centring[i, j] * rows[k, j] / deviation * n
                to_weight[i] += abs(weight[i]) * centred[i] / deviation * n
                to_bias[i] += abs(bias[i]) * n
        add(updates, layer.weight, to_weight.reshape(layer.normalized_shape))
        add(updates, layer.bias, to_bias.reshape(layer.normalized_shape))
        return to_x.reshape(x.shape)

    return np.array(out).reshape(x.shape), back
