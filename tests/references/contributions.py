"""The rules, once more and slowly: the reward of every single contribution ``z_ij``, straight from the formulas.

Nothing here knows of messages, autograd or matrix products. A neuron's contributions are written out one by one, the
bias last (``a = 1``), and share the reward ``r_j`` that its pre-activation ``z_j`` has received.
"""

from __future__ import annotations

import numpy as np

from spikelfp import rules

Array = np.ndarray

ALMOST = 1e-60
"""Output of a silent neuron above its margin: it earns what a spike would, and adds nothing to any sum.

The reward of a contribution is in proportion to it: that of ``w h``, divided by ``h``, is what ``w`` earns a spike.
"""


def almost(x: Array) -> Array:
    """Mask of the outputs of silent neurons that earn their message."""
    return (np.abs(x) > 0) & (np.abs(x) < ALMOST**0.5)


def size(x: Array) -> Array:
    """The outputs of almost-spikes and 1 elsewhere: a reward divided by it is what a spike would earn."""
    return np.where(almost(x), np.abs(x), 1.0)


def sign(z: float) -> float:
    """``sign(0) = 1`` (v3, section 3.1.2); a sum of almost-spikes alone is 0."""
    return 1.0 if z >= -(ALMOST**0.5) else -1.0


def in_proportion(rule: rules.Feedback, z: Array, reward: float) -> Array:
    """v3, eq. 2: ``r_ij = z_ij / z_j · r_j``; the ε of eq. 6 enters once a neuron, see :func:`stabilised`."""
    total = z.sum()
    return np.array([zij / total * reward if total else 0.0 for zij in z])


def alphabeta(rule: rules.AlphaBeta, z: Array, reward: float) -> Array:
    """v1, eq. 10, with ε on both sums (v1, section 2.5)."""
    plus = sum(max(zij, 0.0) for zij in z)
    minus = sum(min(zij, 0.0) for zij in z)
    s = sign(plus + minus)
    shares = []
    for zij in z:
        if zij >= 0:
            shares.append(rule.alpha * zij / (plus + rule.eps) * s * reward)
        else:
            shares.append(-rule.beta * zij / (minus - rule.eps) * s * reward)
    return np.array(shares)


def zplusminus(rule: rules.ZPlusMinus, z: Array, reward: float) -> Array:
    """v1, eq. 12: the weight of each side, times the share within it; ε on the sum of both."""
    plus = sum(max(zij, 0.0) for zij in z)
    minus = sum(min(zij, 0.0) for zij in z)
    s = sign(plus + minus)
    both = abs(plus) + abs(minus) + rule.eps
    shares = []
    for zij in z:
        if zij >= 0:
            shares.append(abs(plus) / both * (zij / plus if plus else 0.0) * s * reward)
        else:
            shares.append(-abs(minus) / both * zij / minus * s * reward)
    return np.array(shares)


def gamma(rule: rules.Gamma, z: Array, reward: float) -> Array:
    """LRP-γ: contributions of the neuron's own sign count ``1 + γ`` times."""
    s = sign(z.sum())
    favoured = [zij * (1 + rule.gamma * ((zij >= 0) == (s > 0))) for zij in z]
    total = sum(favoured) + s * rule.eps
    return np.array([zij / total * reward for zij in favoured])


def shares(rule: rules.Feedback, z: Array, reward: float) -> Array:
    """``r_ij`` of the contributions ``z`` ``[I]`` of one neuron with reward ``r_j``."""
    if isinstance(rule, rules.AlphaBeta):
        return alphabeta(rule, z, reward)
    if isinstance(rule, rules.ZPlusMinus):
        return zplusminus(rule, z, reward)
    if isinstance(rule, rules.Gamma):
        return gamma(rule, z, reward)
    return in_proportion(rule, z, reward)


def stabilised(z: float, reward: float, eps: float) -> float:
    """What is left of a neuron's reward with ε in the denominator: ``z / (z + sign(z) ε) · r`` (v3, eq. 6)."""
    return z / (z + sign(z) * eps) * reward if z else 0.0


def stabilise_all(z: Array, reward: Array, eps: float) -> Array:
    """:func:`stabilised`, element by element."""
    pairs = zip(z.ravel(), reward.ravel(), strict=True)
    return np.array([stabilised(zj, r, eps) for zj, r in pairs]).reshape(z.shape)


SPLIT = (rules.AlphaBeta, rules.ZPlusMinus, rules.Gamma)
"""Rules whose own denominators are stabilised: they share the reward of the neuron, and ε enters there, once."""


def normalised(rule: rules.Feedback, reward: Array, x: Array | None = None) -> Array:
    """``reward`` ``[T, B, …]``, each sample (and step) divided by its largest magnitude if it says so (A.6.4).

    x: what it is the reward of, where some may be almost-spikes.
    """
    out = reward.copy()
    magnitude = np.abs(reward if x is None else reward / size(x))
    for t, b in np.ndindex(reward.shape[:2]):
        block = magnitude[:, b] if rule.normalize == "sample" else magnitude[t, b]
        if rule.normalize and block.max() > 0:
            out[t, b] = reward[t, b] / block.max()
    return out
