"""What the published implementation (lfprop 1.0.0) computes for dense LIF networks, step by step, in NumPy.

With ``ρ = θ`` where the neuron was reset, ``U`` the membrane, ``z`` the current, visited from the last step to the
first::

    R[t] = r_S[t] + R_int[t+1]          d[t] = |U[t−1]| + |U[t] + ρ[t] − U[t−1]|,  at the first step |U[1]| = |z[1]|
    n[t] = R[t] / (d[t] + ε)            feedback of w_ij: |w_ij| Σ x_i n_j,  of b_j: |b_j| Σ n_j
    R_int[t] = β U[t−1] n[t]            reward of input i: x_i Σ_j w_ij n_j

The sums of the feedback run over time and batch.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
EPS = 1e-6


def forward(x: Array, weights: list[tuple[Array, Array]], beta: float, theta: float) -> list[dict[str, Array]]:
    """Input, membrane before and after, reset and spikes of every layer, each ``[T, B, …]``; reset by subtraction."""
    record = []
    for w, b in weights:
        steps = len(x)
        shape = (steps, x.shape[1], len(b))
        layer = {name: np.zeros(shape) for name in ("before", "after", "rho", "spikes")} | {"x": x}
        membrane = np.zeros(shape[1:])
        for t in range(steps):
            rho = theta * (membrane - theta > 0)
            layer["before"][t], layer["rho"][t] = membrane, rho
            membrane = beta * membrane + x[t] @ w.T + b - rho
            layer["after"][t], layer["spikes"][t] = membrane, membrane - theta > 0
        record.append(layer)
        x = layer["spikes"]
    return record


def reward(spikes: Array, labels: Array) -> Array:
    """``1 − σ(n − ⌊T/2⌋)`` at every step of the right class; ``−S (1 − σ(T − n − ⌊T/2⌋))`` of the others."""
    steps = len(spikes)
    out = np.zeros_like(spikes)
    for b, label in enumerate(labels):
        for c in range(spikes.shape[2]):
            count = spikes[:, b, c].sum()
            for t in range(steps):
                if c == label:
                    out[t, b, c] = 1 - 1 / (1 + math.exp(-(count - steps // 2)))
                else:
                    silent = 1 / (1 + math.exp(-(steps - count - steps // 2)))
                    out[t, b, c] = -spikes[t, b, c] * (1 - silent)
    return out


def feedback(record: list[dict[str, Array]], weights: list[tuple[Array, Array]], r: Array, beta: float) -> list[Array]:
    """Feedback of ``w, b`` of every layer, from rewards ``[T, B, C]`` of the last one's spikes."""
    found: list[Array] = []
    for (w, b), layer in zip(reversed(weights), reversed(record), strict=True):
        steps = len(r)
        internal = np.zeros(r.shape[1:])
        to_w, to_b, below = np.zeros_like(w), np.zeros_like(b), np.zeros_like(layer["x"])
        for t in reversed(range(steps)):
            total = r[t] + internal
            before, after, rho = layer["before"][t], layer["after"][t], layer["rho"][t]
            d = np.abs(after + rho) if t == 0 else np.abs(before) + np.abs(after + rho - before)
            n = total / (d + EPS)
            to_w += np.abs(w) * (n.T @ layer["x"][t])
            to_b += np.abs(b) * n.sum(0)
            internal = before * beta * n
            below[t] = layer["x"][t] * (n @ w)
        found = [to_w, to_b, *found]
        r = below
    return found
