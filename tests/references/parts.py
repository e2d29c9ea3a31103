"""Layers without weights of their own inside: pooling, tokens, attention; slowly, contribution by contribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from references.contributions import Array, almost
from references.weighted import Back, Updates, add, values

from spikelfp import nn


def per_unit(reward: Array, out: Array) -> Array:
    """``r_j / a_j``, and 0 where nothing flowed (``a_j = 0``)."""
    return np.divide(reward, out, out=np.zeros_like(out), where=out != 0)


def winner(window: Array) -> int:
    """The first of the largest; an almost-spike is a 0 like others."""
    return int(np.where(almost(window), 0.0, window).argmax())


def pool(layer: nn.MaxPool2d | nn.AvgPool2d, x: Array, updates: Updates) -> tuple[Array, Back]:
    """Windows of ``k × k`` without overlap: the first of the largest takes all, or each its contribution ``x / k²``."""
    k = layer.kernel_size
    height, width = x.shape[3] // k, x.shape[4] // k
    largest = isinstance(layer, nn.MaxPool2d)
    out = np.zeros((*x.shape[:3], height, width))
    for place in np.ndindex(out.shape):
        window = x[(*place[:3], *(slice(p * k, p * k + k) for p in place[3:]))]
        out[place] = window.flat[winner(window)] if largest else window.sum() / k**2

    def back(reward: Array) -> Array:
        to_x = np.zeros_like(x)
        for place in np.ndindex(out.shape):
            here = (*place[:3], *(slice(p * k, p * k + k) for p in place[3:]))
            if largest:
                taken = np.zeros(k * k)
                taken[winner(x[here])] = 1
                to_x[here] += reward[place] * taken.reshape(k, k)
            elif out[place]:
                to_x[here] += x[here] / k**2 / out[place] * reward[place]
        return to_x

    return out, back


def class_token(layer: nn.ClassToken, x: Array, updates: Updates) -> tuple[Array, Back]:
    """A token in front; each of its weights contributes itself, so ``r_ij = r_j`` and ``d_w = sign(w) Σ r``."""
    token = values(layer.token)
    out = np.concatenate([np.broadcast_to(token, (*x.shape[:2], 1, len(token))), x], 2)

    def back(reward: Array) -> Array:
        add(updates, layer.token, np.sign(token) * reward[:, :, 0].sum((0, 1)))
        return reward[:, :, 1:]

    return out, back


def position_embedding(layer: nn.PositionEmbedding, x: Array, updates: Updates) -> tuple[Array, Back]:
    """Eq. 11 for the sum of a token and a vector of weights."""
    positions = values(layer.positions)
    out = x + positions

    def back(reward: Array) -> Array:
        n = per_unit(reward, out)
        add(updates, layer.positions, np.sign(positions) * (positions * n).sum((0, 1)))
        return x * n

    return out, back


def product(a: Array, b: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """``a b`` of matrices ``[…, I, K]``, ``[…, K, J]``: of ``r`` on ``Σ_k a_ik b_kj`` half to each factor of a term."""
    terms = a[..., :, :, None] * b[..., None, :, :]  # [..., I, K, J]
    out = terms.sum(-2)

    def back(reward: Array) -> tuple[Array, Array]:
        half = terms * per_unit(reward, out)[..., :, None, :] / 2
        return half.sum(-1), half.sum(-3)

    return out, back


def softmax(x: Array) -> tuple[Array, Back]:
    """By its Jacobian (arXiv:2402.05602, eq. 9-10): ``r_i = x_i Σ_j J_ji r_j / s_j``, the matrix written out."""
    e = np.exp(x - x.max(-1, keepdims=True))
    s = e / e.sum(-1, keepdims=True)

    def back(reward: Array) -> Array:
        to_x = np.zeros_like(x)
        for place in np.ndindex(x.shape[:-1]):
            jacobian = np.diag(s[place]) - np.outer(s[place], s[place])
            to_x[place] = x[place] * (jacobian.T @ (reward[place] / s[place]))
        return to_x

    return s, back


def heads_of(x: Array, heads: int) -> Array:
    """``[T, B, N, D]`` as ``[T, B, heads, N, D / heads]``: head ``h`` holds features ``h d … h d + d − 1``."""
    d = x.shape[-1] // heads
    return np.stack([x[..., h * d : h * d + d] for h in range(heads)], 2)


def joined(x: Array) -> Array:
    """The inverse of :func:`heads_of`."""
    return np.concatenate([x[:, :, h] for h in range(x.shape[2])], -1)
