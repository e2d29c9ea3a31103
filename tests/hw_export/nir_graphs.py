"""Small NIR graphs, as other programs would write them."""

from __future__ import annotations

import nir
import numpy as np


def chain(*nodes, names=None, feedback=None):
    """Nodes and edges of a chain between the ends; ``feedback``: weights by which the neurons of that index return."""
    names = names or [f"n{i}" for i in range(len(nodes))]
    made = dict(zip(names, nodes, strict=True))
    edges = list(zip(["in", *names], [*names, "out"], strict=True))
    for index, weights in (feedback or {}).items():
        made[f"{names[index]}_back"] = weights
        edges += [(names[index], f"{names[index]}_back"), (f"{names[index]}_back", names[index])]
    return made, edges


def graph(shape, out, nodes, edges):
    ends = {"in": nir.Input(np.array(shape)), "out": nir.Output(np.array(out))}
    return nir.NIRGraph(ends | nodes, edges, type_check=False)


def dyadic(*shape, seed=1, size=6):
    """Weights of a few bits, exact in float32."""
    return np.random.default_rng(seed).integers(-size + 2, size + 2, shape) / 8


def lif(n, tau=1e-3, r=1.0, v_leak=0.0, v_threshold=0.0973, v_reset=0.0):
    full = lambda value: np.broadcast_to(np.asarray(value, np.float64), n).copy()  # noqa: E731
    return nir.LIF(full(tau), full(r), full(v_leak), full(v_threshold), full(v_reset))


def cuba(n, tau_syn=4e-4, tau_mem=1e-3, r=1.0, v_threshold=0.0973, w_in=1.0, v_leak=0.0, v_reset=0.0):
    full = lambda value: np.broadcast_to(np.asarray(value, np.float64), n).copy()  # noqa: E731
    parameters = full(tau_syn), full(tau_mem), full(r), full(v_leak), full(v_threshold), full(v_reset)
    return nir.CubaLIF(*parameters, w_in=full(w_in))
