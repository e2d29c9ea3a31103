"""Activations and neurons with memory, slowly (v3, eq. 6, A.2-A.3), one neuron and one step after the other."""

from __future__ import annotations

import math

import numpy as np
import reference
from references.contributions import ALMOST, Array, normalised, shares, size, stabilise_all
from references.weighted import Back, Updates, add, values

from spikelfp import nn

PHI = {
    nn.ReLU: lambda layer, z: max(z, 0.0),
    nn.LeakyReLU: lambda layer, z: z if z > 0 else layer.negative_slope * z,
    nn.SiLU: lambda layer, z: z / (1 + math.exp(-z)),
    nn.GELU: lambda layer, z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    nn.ELU: lambda layer, z: z if z > 0 else layer.alpha * (math.exp(z) - 1),
    nn.Tanh: lambda layer, z: math.tanh(z),
    nn.Sigmoid: lambda layer, z: 1 / (1 + math.exp(-z)),
    nn.Heaviside: lambda layer, z: 1.0 if z > 0 else 0.0,
}


def activation(layer: nn.Activation, x: Array, updates: Updates, whole: bool = False) -> tuple[Array, Back]:
    """The reward of ``φ(z)`` is that of ``z``, stabilised once (eq. 6); footnote 12 turns its sign around.

    whole: the layer in front stabilises, so it is handed the reward itself.
    """
    out = np.array([PHI[type(layer)](layer, z) for z in x.ravel()]).reshape(x.shape)

    def back(reward: Array) -> Array:
        if getattr(layer, "opposite_sign", False):
            reward = np.where(x * out < 0, -reward, reward)
        return reward if whole else stabilise_all(x, reward, layer.rule.eps)

    return out, back


def constants(layer: nn.Neurons) -> tuple[float, float, str]:
    """β, θ and the reset of a layer."""
    return layer.beta, layer.threshold, layer.reset


def fired(membrane: float, theta: float, margin: float) -> float:
    """A spike, or an almost-spike: silent, but above the margin."""
    return 1.0 if membrane > theta else ALMOST if membrane > margin * theta else 0.0


def lif_neurons(layer: nn.Neurons, current: Array, updates: Updates) -> tuple[Array, Back]:
    """LIF neurons on a current ``[T, …]``; the reward of the current is ``I[t] n[t]``, ``n[t] = R[t] / D[t]``.

    What an almost-spike has earned is scaled to what a spike would.
    """
    beta, theta, reset = constants(layer)
    flat = current.reshape(len(current), -1)
    runs = [reference.lif_run(column, beta, theta, reset) for column in flat.T]
    out = np.array([[fired(u, theta, layer.margin) for u in membranes] for _, membranes in runs])
    out = out.T.reshape(current.shape)

    def back(reward: Array) -> Array:
        reward = reward / size(out)
        result, to_decay = np.empty_like(flat), 0.0
        for j, (column, r) in enumerate(zip(flat.T, reward.reshape(flat.shape).T, strict=True)):
            n = reference.lif_reward(
                r, column, beta, theta, reset, layer.denominator, layer.rule.eps, floor=layer.floor
            )
            result[:, j] = column * n
            membranes = runs[j][1]
            for t in range(1, len(column)):
                to_decay += abs(beta) * reference.surviving(membranes[t - 1], theta, reset) * n[t]
        if layer.decay is not None:
            add(updates, layer.decay, np.array(to_decay))
        return result.reshape(current.shape)

    return out, back


def leaky_sum(decay: float, x: Array) -> tuple[Array, Back]:
    """``y[t] = Σ_s decay^(t−s) x[s]`` with every contribution written out; the reward of ``y[t]`` follows eq. 2."""
    steps = range(len(x))
    out = np.array([sum(decay ** (t - s) * x[s] for s in range(t + 1)) for t in steps])

    def back(reward: Array) -> Array:
        to_x = np.zeros_like(x)
        for t in steps:
            n = np.divide(reward[t], out[t], out=np.zeros_like(out[t]), where=out[t] != 0)
            for s in range(t + 1):
                to_x[s] += decay ** (t - s) * x[s] * n
        return to_x

    return out, back


def synaptic(layer: nn.Synaptic, x: Array, updates: Updates) -> tuple[Array, Back]:
    """A leaky sum of the input as the current of LIF neurons."""
    currents, to_input = leaky_sum(layer.alpha, x)
    out, to_currents = lif_neurons(layer, currents, updates)
    return out, lambda reward: to_input(to_currents(reward))


def recurrent(layer: nn.RecurrentLIF, x: Array, updates: Updates) -> tuple[Array, Back]:
    """``I[t] = X[t] + V S[t−1] + c``, sample by sample; ``x`` ``[T, B, N]``."""
    beta, theta, reset = constants(layer)
    v = values(layer.recurrent.weight)
    c = np.zeros(len(v)) if layer.recurrent.bias is None else values(layer.recurrent.bias)
    steps, batch, width = x.shape
    spikes, membranes = np.zeros((steps + 1, batch, width)), np.zeros((steps + 1, batch, width))  # row 0: rest
    currents = np.zeros_like(x)
    for t in range(steps):
        for b in range(batch):
            for j in range(width):
                inner = sum(v[j, i] * spikes[t, b, i] for i in range(width)) + c[j]
                currents[t, b, j] = x[t, b, j] + inner
                before, fires = membranes[t, b, j], membranes[t, b, j] > theta
                if reset == "subtract":
                    now = beta * before + currents[t, b, j] - theta * fires
                elif reset == "immediate":
                    now = beta * (before - theta * fires) + currents[t, b, j]
                else:
                    now = (0.0 if fires else beta * before) + currents[t, b, j]
                membranes[t + 1, b, j] = now
                spikes[t + 1, b, j] = fired(now, theta, layer.margin)

    def back(reward: Array) -> Array:
        to_x, to_v, to_c, to_decay = np.zeros_like(x), np.zeros_like(v), np.zeros_like(c), 0.0
        from_recurrence = np.zeros_like(x)  # what V has earned the spikes of the step before
        internal = np.zeros((batch, width))
        earned = size(spikes[1:])
        for t in reversed(range(steps)):
            for b in range(batch):
                for j in range(width):
                    before, current = membranes[t, b, j], currents[t, b, j]
                    if layer.denominator == "inflow":
                        d = abs(beta * before) + abs(current)
                    else:
                        d = abs(before) + abs(beta * before + current - before)
                    d = max(d + layer.rule.eps, layer.floor * theta)
                    own = (reward[t, b, j] + from_recurrence[t, b, j]) / earned[t, b, j]
                    n = (own + internal[b, j]) / d if d else 0.0
                    internal[b, j] = beta * before * n
                    to_decay += abs(beta) * reference.surviving(before, theta, reset) * n
                    to_x[t, b, j] = x[t, b, j] * n
                    contributions = np.append(v[j] * spikes[t, b], c[j])
                    share = shares(layer.recurrent.rule, contributions, contributions.sum() * n)
                    to_v[j] += np.sign(v[j]) * share[:-1]
                    to_c[j] += np.sign(c[j]) * share[-1]
                    if t:
                        from_recurrence[t - 1, b] += share[:-1]
            if t:
                earlier = from_recurrence[t - 1][None], spikes[t][None]
                from_recurrence[t - 1] = normalised(layer.recurrent.rule, *earlier)[0]
        add(updates, layer.recurrent.weight, to_v)
        add(updates, layer.recurrent.bias, to_c)
        if layer.decay is not None:
            add(updates, layer.decay, np.array(to_decay))
        return to_x

    return spikes[1:], back
