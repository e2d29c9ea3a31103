"""Brian 2, which imports no NIR: its equations are written here from the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.simulators.base import SIMULATORS, DenseLayer, Simulator, dense_layers

RESETS = {"zero": "v = 0", "subtract": "fired = 1", "immediate": "v -= theta"}
"""Reset statements of Brian; a neuron with ``fired = 1`` loses θ one step later."""


@SIMULATORS.register("brian2")
class Brian2(Simulator):
    """Brian 2: each layer is a ``NeuronGroup``, each matrix after the first a ``Synapses`` object; float64.

    A spike reaches the next layer one step later, because Brian updates neurons and then delivers spikes. So the k-th
    layer lags ``k`` steps; until then it is held at rest. The analog input is injected as the current ``W x + b`` of
    the first layer. Delays are those of the synapses. Samples run one after the other in a single run, each from rest
    in a window of ``T + layers − 1`` steps and the longest delay. Code generation stays on numpy: compiling would take
    minutes, running takes seconds.
    """

    package = "brian2"
    module = "brian2"
    install = 'brian2 "numpy<2.4"'  # brian2 2.9 does not import with numpy 2.4
    resets = frozenset(RESETS)
    latency = 1
    delays = True

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        layers = dense_layers(chain)
        steps, batch = inputs.shape[:2]
        window = steps + len(layers) - 1 + max((layer.longest for layer in layers[1:]), default=0)
        x = inputs.flatten(2).transpose(0, 1).numpy().astype(np.float64)  # [B, T, inputs]
        current = np.zeros((batch, window, layers[0].size))
        current[:, :steps] = layers[0].current(x)
        with _brian2() as brian2:
            monitors = _run(brian2, layers, current.reshape(batch * window, -1), window, steps)
        found = {}
        for depth, (layer, (neurons, times)) in enumerate(zip(layers, monitors, strict=True)):
            raster = np.zeros((batch * window, layer.size), bool)
            raster[times, neurons] = True
            raster = raster.reshape(batch, window, layer.size)[:, depth : depth + steps].swapaxes(0, 1)
            found[layer.neuron.name] = torch.from_numpy(raster.copy()).unflatten(2, layer.neuron.shape)
        return found


def _run(
    brian2: Any, layers: list[DenseLayer], current: np.ndarray, window: int, steps: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run layers on the input current ``[steps, neurons]``; return neuron and step of every spike of each layer."""
    dt = 0.1 * brian2.ms  # only counts steps
    clock = brian2.Clock(dt)
    injected = brian2.TimedArray(current, dt=dt)
    net = brian2.Network()
    groups: list[Any] = []
    monitors: list[Any] = []
    for depth, layer in enumerate(layers):
        group = brian2.NeuronGroup(
            layer.size,
            """v : 1
            fired : 1
            arriving : 1
            beta : 1 (constant)
            theta : 1 (constant)
            bias : 1 (constant)""",
            threshold="v > theta",
            reset=RESETS[layer.reset],
            clock=clock,
            namespace={"injected": injected, "window": window, "depth": depth, "steps": steps},
        )
        group.beta, group.theta, group.bias = layer.beta, layer.threshold, layer.bias * (depth > 0)
        drive = "arriving + bias" if depth else "injected(t, i)"
        group.run_regularly(
            f"""phase = t_in_timesteps % window
            carried = int(phase > depth)
            runs = int(phase >= depth) * int(phase < depth + steps)
            v = runs * (beta * carried * v + {drive} - theta * carried * fired)
            fired = 0
            arriving = 0""",
            clock=clock,
            when="groups",
        )
        monitor = brian2.SpikeMonitor(group)
        net.add(group, monitor)
        if depth:
            targets, sources, weights, delays = layer.synapses()
            synapses = brian2.Synapses(groups[-1], group, "w : 1", on_pre="arriving_post += w", clock=clock)
            synapses.connect(i=sources, j=targets)
            synapses.w = weights
            synapses.delay = delays * dt
            net.add(synapses)
        groups.append(group)
        monitors.append(monitor)
    net.run(len(current) * dt, namespace={})
    return [(np.asarray(m.i), np.rint(np.asarray(m.t / dt)).astype(np.int64)) for m in monitors]


@contextlib.contextmanager
def _brian2() -> Iterator[Any]:
    """Import Brian with numpy as the target of its code generation; put its preferences back after the block."""
    import brian2

    target = brian2.prefs.codegen.target
    try:
        brian2.prefs.codegen.target = "numpy"
        yield brian2
    finally:
        brian2.prefs.codegen.target = target
