"""Program that :mod:`hw_export.simulators.nest_` runs in a process of its own: layers in, spikes out.

    python nest_program.py INPUT.npz OUTPUT.npz

It imports NEST and numpy and none of our modules, so that torch is not imported. INPUT holds ``current``, the input of
the first layer, float64 ``[B, T, N]``; ``layers``, their number; for the k-th layer ``beta_k``, ``threshold_k`` and
``bias_k`` ``[N]`` and ``reset_k``; and from the second layer on its synapses ``source_k``, ``target_k``, ``weight_k``
and ``delay_k`` in steps. OUTPUT holds ``spikes_k``, bool ``[T, B, N]``, without the latency.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np

STEP = 1.0
"""Resolution of the kernel and delay of every synapse, in ms; it only counts steps."""

NEVER = 1e300
"""Threshold that no membrane reaches."""


@functools.cache
def time_constant(beta: float) -> float:
    """Find the τ for which ``exp(−STEP / τ)`` is ``beta``, to the last bit where a float64 τ exists."""
    tau = -STEP / math.log(beta)
    near = (tau + i * math.ulp(tau) for i in range(-8, 9))
    return min(near, key=lambda value: abs(math.exp(-STEP / value) - beta))


def create(nest: Any, beta: np.ndarray, threshold: np.ndarray, reset: str) -> Any:
    """Create neurons that add their inputs to the membrane and fire where it is above (strictly) ``threshold``."""
    each = {"tau_m": [time_constant(float(b)) for b in beta], "V_th": list(np.nextafter(threshold, np.inf))}
    rest = {"E_L": 0.0, "V_m": 0.0, "C_m": 1.0, "t_ref": 0.0, "I_e": 0.0}
    if reset == "zero":
        return nest.Create("iaf_psc_delta", len(beta), params={**rest, "V_reset": 0.0, **each})
    neurons = nest.Create("eprop_iaf_bsshslm_2020", len(beta), params={**rest, "regular_spike_arrival": True, **each})
    if reset == "immediate":
        itself = np.arange(len(beta))
        connect(nest, neurons, neurons, itself, itself, (1 - beta) * threshold, 0 * itself)
    return neurons


def connect(
    nest: Any, before: Any, after: Any, source: np.ndarray, target: np.ndarray, weight: np.ndarray, delay: np.ndarray
) -> None:
    """Connect the ``source``-th neuron of ``before`` to the ``target``-th of ``after``, a synapse for each weight.

    A spike arrives a step later, and ``delay`` steps after that.
    """
    if not len(weight):
        return
    pre, post = (np.array(neurons.tolist())[index] for neurons, index in ((before, source), (after, target)))
    synapses = {"synapse_model": "static_synapse", "weight": weight, "delay": STEP * (1 + delay)}
    nest.Connect(pre, post, conn_spec="one_to_one", syn_spec=synapses)


def drive(nest: Any, neurons: Any, times: np.ndarray, amount: np.ndarray) -> None:
    """Make ``amount`` ``[len(times), N]`` arrive at the neurons one step after each of the ``times``."""
    sources = nest.Create(
        "spike_generator",
        len(neurons),
        params=[{"spike_times": times[column != 0], "spike_weights": column[column != 0]} for column in amount.T],
    )
    nest.Connect(sources, neurons, "one_to_one", {"weight": 1.0, "delay": STEP})


def simulate(nest: Any, given: Any) -> dict[str, np.ndarray]:
    """Run every sample in a window of its own, from rest; the k-th layer lags ``k`` steps."""
    nest.ResetKernel()
    nest.set(resolution=STEP, local_num_threads=1, eprop_reset_neurons_on_update=False)
    current, count = given["current"], int(given["layers"])
    batch, steps, _ = current.shape
    silent = 2 + max((int(given[f"delay_{k}"].max(initial=0)) for k in range(1, count)), default=0)
    window = steps + count + 1 + silent  # a step to arrive, one for each layer, those in which nothing fires
    begins = window * np.arange(batch)[:, None] + 1.0 + np.arange(steps)  # [B, T]
    layers: list[Any] = []
    recorders: list[Any] = []
    for k in range(count):
        layer = create(nest, given[f"beta_{k}"], given[f"threshold_{k}"], str(given[f"reset_{k}"]))
        if k:
            connect(
                nest, layers[-1], layer, *(given[f"{what}_{k}"] for what in ("source", "target", "weight", "delay"))
            )
            bias = given[f"bias_{k}"]
            drive(nest, layer, (begins + k).ravel(), np.broadcast_to(bias, (begins.size, len(bias))))
        else:
            drive(nest, layer, begins.ravel(), current.reshape(begins.size, -1))
        recorder = nest.Create("spike_recorder", params={"time_in_steps": True})
        nest.Connect(layer, recorder, "all_to_all", {"delay": STEP})
        layers.append(layer)
        recorders.append(recorder)
    thresholds = [per_layer(np.nextafter(given[f"threshold_{k}"], np.inf)) for k in range(count)]
    for _ in range(batch):
        nest.Simulate((window - silent) * STEP)
        for layer in layers:  # spikes still on their way arrive without making neurons fire
            layer.V_th = NEVER
        nest.Simulate(silent * STEP)
        for layer, threshold in zip(layers, thresholds, strict=True):
            layer.V_m = 0.0
            layer.V_th = threshold
    found = {}
    for k, (layer, recorder) in enumerate(zip(layers, recorders, strict=True)):
        times, senders = (np.asarray(recorder.events[what], np.int64) for what in ("times", "senders"))
        raster = np.zeros((batch * window + 1, len(layer)), bool)
        raster[times, senders - layer.tolist()[0]] = True
        found[f"spikes_{k}"] = raster[(begins + 1 + k).astype(np.int64)].swapaxes(0, 1)
    return found


def per_layer(values: np.ndarray) -> float | list[float]:
    """Return one number where all values are the same, which NEST sets much faster, else a list."""
    return float(values[0]) if (values == values[0]).all() else values.tolist()


def main(source: str, target: str) -> None:
    """Run the layers in the file ``source`` and write their spikes to ``target``."""
    import nest

    nest.verbosity = nest.VerbosityLevel.ERROR
    with np.load(source) as given:
        found = simulate(nest, given)
    np.savez(target, allow_pickle=False, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
