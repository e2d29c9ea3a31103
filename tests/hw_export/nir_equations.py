"""NIR's equations, stepped slowly: float64, one node after the other, one step after the other, written from the
specification and not from the reader."""

from __future__ import annotations

import nir
import numpy as np
import torch
import torch.nn.functional as F


class Run:
    """Runs a chain of nodes, neurons perhaps with feedback through one layer of weights, on ``[T, B, …]``.

    reset: ``zero`` (to v_reset), ``subtract`` (one step later, undecayed) or ``immediate``. exact: time constants by
    the exponential. outputs: of each node of neurons. nearest: how close any membrane came to its threshold, in units
    of the threshold above reset.
    """

    def __init__(self, nodes, edges, *, dt=1e-4, reset="zero", exact=False, multiple=False):
        self.nodes, self.dt, self.reset, self.exact, self.multiple = nodes, dt, reset, exact, multiple
        self.back = {a: b for a, b in edges if (b, a) in edges and not isinstance(nodes[b], (nir.LIF, nir.CubaLIF))}
        ahead = {a: b for a, b in edges if a not in self.back.values() and self.back.get(a) != b}
        (name,) = [n for n, node in nodes.items() if isinstance(node, nir.Input)]
        self.order = []
        while not isinstance(nodes[name := ahead[name]], nir.Output):
            self.order.append(name)
        self.nearest = np.inf
        self.outputs = {}

    def __call__(self, x):
        state, rows = {}, {name: [] for name in self.order}
        for step in np.asarray(x, np.float64):
            for name in self.order:
                step = self._node(name, step, state)
                rows[name].append(step)
        self.outputs = {name: np.array(seen) for name, seen in rows.items()}
        return self.outputs[self.order[-1]]

    def _decay(self, tau):
        return np.exp(-self.dt / tau) if self.exact else 1 - self.dt / tau

    def _node(self, name, x, state):
        node = self.nodes[name]
        if isinstance(node, nir.Scale):
            return x * node.scale
        if isinstance(node, nir.Threshold):
            return (x > node.threshold).astype(float)
        if isinstance(node, (nir.I, nir.LI, nir.CubaLI, nir.IF, nir.LIF, nir.CubaLIF)):
            return self._neurons(name, node, x, state)
        return stateless(node, x)

    def _neurons(self, name, node, x, state):
        reset_to = getattr(node, "v_reset", np.zeros(()))
        v, i, fired = state.get(name) or (np.zeros_like(x) + reset_to, np.zeros_like(x), np.zeros_like(x))
        if name in self.back:
            x = x + stateless(self.nodes[self.back[name]], fired)
        if isinstance(node, (nir.CubaLI, nir.CubaLIF)):
            keep = self._decay(node.tau_syn)
            i = keep * i + (1 - keep) * node.w_in * x
            x = i
        if isinstance(node, (nir.I, nir.IF)):
            v = v + node.r * x
        else:
            keep = self._decay(node.tau if isinstance(node, (nir.LI, nir.LIF)) else node.tau_mem)
            v = keep * v + (1 - keep) * (node.v_leak + node.r * x)
        if not hasattr(node, "v_threshold"):
            state[name] = (v, i, fired)
            return v
        if self.reset == "subtract":
            v = v - node.v_threshold * fired
        spikes = (v > node.v_threshold).astype(float)
        self.nearest = min(self.nearest, np.abs((v - node.v_threshold) / (node.v_threshold - reset_to)).min())
        if self.multiple:
            spikes = np.maximum(0, np.ceil(v / node.v_threshold) - 1)
        if self.reset == "zero":
            v = np.where(spikes > 0, reset_to, v)
        elif self.reset == "immediate":
            v = v - spikes * node.v_threshold
        state[name] = (v, i, spikes)
        return spikes


def stateless(node, x):
    """Weights, pooling and flatten on ``[B, …]``."""
    given = torch.from_numpy(x)
    if isinstance(node, nir.Linear):
        return x @ np.asarray(node.weight, np.float64).T
    if isinstance(node, nir.Affine):
        return x @ np.asarray(node.weight, np.float64).T + node.bias
    if isinstance(node, nir.Flatten):
        axes = x.ndim - 1
        start, end = (int(a) % axes for a in (node.start_dim, node.end_dim))
        return x.reshape(*x.shape[: start + 1], -1, *x.shape[end + 2 :])
    if isinstance(node, nir.Conv2d):
        padding = node.padding if isinstance(node.padding, str) else tuple(int(p) for p in node.padding)
        stride, dilation = (tuple(int(v) for v in value) for value in (node.stride, node.dilation))
        weight, bias = (torch.from_numpy(np.asarray(value, np.float64)) for value in (node.weight, node.bias))
        return F.conv2d(given, weight, bias, stride, padding, dilation, int(node.groups)).numpy()
    sizes = [tuple(int(v) for v in value) for value in (node.kernel_size, node.stride, node.padding)]
    return F.avg_pool2d(given, *sizes, divisor_override=1 if isinstance(node, nir.SumPool2d) else None).numpy()
