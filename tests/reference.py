"""Slow, obviously right versions, written neuron by neuron from the formulas, in plain Python floats.

Every connection's reward is computed and summed explicitly (v3, eq. 2-4, 6-7, A.2-A.4), with no messages, no
autograd and no matrix products. Fast code is compared with these.
"""

from __future__ import annotations

import math

RESETS = ("subtract", "immediate", "zero")
SNNTORCH_RESETS = ("subtract", "zero")
"""Those that snnTorch has too."""
DENOMINATORS = ("inflow", "increment")
PAPER = {"floor": 0.0, "margin": 1.0}
"""The rule of the paper, for what is compared with it or with other implementations; layers have others by default."""


def sign(z: float) -> float:
    return 1.0 if z >= 0 else -1.0


def lif_run(currents, beta, theta, reset, start=0.0):
    """Spikes and membranes of one neuron, eq. A.2-A.3 (or a reset at once, or to zero)."""
    u, spikes, membranes = start, [], []
    for current in currents:
        fired = u > theta
        if reset == "subtract":
            u = beta * u + current - (theta if fired else 0.0)
        elif reset == "immediate":
            u = beta * (u - (theta if fired else 0.0)) + current
        else:
            u = (0.0 if fired else beta * u) + current
        spikes.append(1.0 if u > theta else 0.0)
        membranes.append(u)
    return spikes, membranes


def surviving(membrane, theta, reset):
    """What a reset leaves of a membrane before the decay; a reset by delayed subtraction comes after it."""
    if membrane <= theta or reset == "subtract":
        return membrane
    return membrane - theta if reset == "immediate" else 0.0


def lif_reward(
    rewards, currents, beta, theta, reset, denominator, eps, start=0.0, floor=0.0, local=False
):  # fmt: skip
    """``R[t] / D[t]`` of one neuron for every step: the reward of its membrane, normalised.

    ``D`` is at least ``floor`` thresholds. Where credit is ``local``, the reward of a step stays in it.
    """
    _, membranes = lif_run(currents, beta, theta, reset, start)
    normalised, internal = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        before = membranes[t - 1] if t else start
        total = rewards[t] + internal
        if denominator == "inflow":
            d = abs(beta * before) + abs(currents[t]) + eps
        else:
            d = abs(before) + abs(beta * before + currents[t] - before) + eps
        d = max(d, floor * theta)
        normalised[t] = total / d if d else 0.0  # nothing flowed in (ε = 0 only)
        internal = 0.0 if local else beta * before * normalised[t]
    return normalised


def earned(messages, currents, beta, theta, reset, margin, start=0.0):
    """Return the messages that one neuron earns: those of steps with a membrane above ``margin · θ``."""
    _, membranes = lif_run(currents, beta, theta, reset, start)
    return [m if u > margin * theta else 0.0 for m, u in zip(messages, membranes, strict=True)]


def dense(x, w, b):
    """``z_j = Σ_i w_ji x_i + b_j`` for lists."""
    return [sum(wji * xi for wji, xi in zip(row, x, strict=True)) + bj for row, bj in zip(w, b, strict=True)]


def lif_network(x, layers, beta, theta, reset):
    """Run ``x`` ``[T][I]`` through dense LIF layers ``[(w, b), …]``: inputs, currents and spikes of each."""
    record = []
    for w, b in layers:
        currents = [dense(step, w, b) for step in x]
        spikes = [[0.0] * len(b) for _ in x]
        for j in range(len(b)):
            for t, s in enumerate(lif_run([c[j] for c in currents], beta, theta, reset)[0]):
                spikes[t][j] = s
        record.append((x, currents, spikes))
        x = spikes
    return record


def lif_network_updates(x, layers, reward, beta, theta, reset, denominator, eps, floor=0.0, margin=1.0):
    """``d_w`` and ``d_b`` of every layer for one sample, connection by connection.

    The reward of a hidden spike is what its outgoing connections earned: ``r_i = Σ_j r_ij`` (eq. 3), with
    ``r_ij = x_i w_ij R_j / D_j`` and ``d_w_ij = |w_ij| x_i R_j / D_j`` (eq. 7). With a margin, a hidden neuron whose
    membrane is above ``margin · θ`` earns that for ``x_i = 1``, whether it fires or not.
    """
    record = lif_network(x, layers, beta, theta, reset)
    updates = []
    for place in reversed(range(len(layers))):
        (w, b), (inputs, currents, _) = layers[place], record[place]
        steps, n_in, n_out = len(inputs), len(inputs[0]), len(b)
        dw = [[0.0] * n_in for _ in range(n_out)]
        db = [0.0] * n_out
        below = [[0.0] * n_in for _ in range(steps)]
        for j in range(n_out):
            own = [r[j] for r in reward], [c[j] for c in currents]
            n = lif_reward(*own, beta, theta, reset, denominator, eps, floor=floor)
            for t in range(steps):
                db[j] += abs(b[j]) * n[t]
                for i in range(n_in):
                    dw[j][i] += abs(w[j][i]) * inputs[t][i] * n[t]
                    below[t][i] += w[j][i] * n[t]  # for a spike
        updates.append((dw, db))
        if place:
            _, before, _ = record[place - 1]
            for i in range(n_in):
                own = earned([m[i] for m in below], [c[i] for c in before], beta, theta, reset, margin)
                for t in range(steps):
                    below[t][i] = own[t]
        reward = below
    return updates[::-1]


def static_updates(x, layers, phis, reward, eps):
    """``d_w`` and ``d_b`` of dense layers with activations ``phis`` for one sample (eq. 2-4, 6-7)."""
    record = []
    for (w, b), phi in zip(layers, phis, strict=True):
        z = dense(x, w, b)
        record.append((x, z))
        x = [phi(v) for v in z]
    updates = []
    for (w, b), (inputs, z) in zip(reversed(layers), reversed(record), strict=True):
        normalised = [r / (zj + sign(zj) * eps) for r, zj in zip(reward, z, strict=True)]
        updates.append(
            (
                [
                    [abs(wji) * xi * n for wji, xi in zip(row, inputs, strict=True)]
                    for row, n in zip(w, normalised, strict=True)
                ],
                [abs(bj) * n for bj, n in zip(b, normalised, strict=True)],
            )
        )
        reward = [sum(w[j][i] * inputs[i] * normalised[j] for j in range(len(b))) for i in range(len(inputs))]
    return updates[::-1]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def sequence_reward(spikes, label):
    """Eq. A.4 for one sample, spikes ``[T][C]``."""
    steps, classes = len(spikes), len(spikes[0])
    rows = []
    for _ in range(steps):
        row = []
        for c in range(classes):
            if c == label:
                row.append(1 - sigmoid(sum(spikes[t][c] for t in range(steps)) - steps / 2))
            else:
                row.append(sigmoid(sum(abs(spikes[t][c] - 1) for t in range(steps)) - steps / 2) - 1)
        rows.append(row)
    return rows


def sequence_reward_v1(spikes, label):
    """Eq. A.16 for one sample, with ``|o − 1|``."""
    steps, classes = len(spikes), len(spikes[0])
    rows = []
    for t in range(steps):
        row = []
        for c in range(classes):
            if c == label:
                row.append(1 - sigmoid(sum(spikes[s][c] for s in range(steps)) - steps / 2))
            else:
                row.append(-spikes[t][c] * (1 - sigmoid(sum(abs(spikes[s][c] - 1) for s in range(steps)) - steps / 2)))
        rows.append(row)
    return rows
