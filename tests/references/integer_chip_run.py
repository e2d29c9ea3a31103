"""Networks on the chip of :mod:`integer_chip`: layers one after the other, latencies, events in order, and counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from references.integer_chip import Neuron, reached, summed

from hw_export.integer.network import IntegerConv, IntegerDense, IntegerLIF, IntegerNetwork


@dataclass
class Found:
    """Of one sample. spikes: by layer, ``[input_latency + k · latency + T][N]``, all steps that the chip runs.

    states: membranes by layer. currents: the same, where there are synapses.
    """

    spikes: dict[str, list[list[int]]] = field(default_factory=dict)
    states: dict[str, list] = field(default_factory=dict)
    currents: dict[str, list[int]] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    dense: dict[str, int] = field(default_factory=dict)


def run(network: IntegerNetwork, a, sample: list[list[int]]) -> Found:
    """One sample ``[T][inputs]`` through all layers."""
    found, before, shape, index = Found(), [], network.input_shape, 0
    x, in_shape = sample, network.input_shape
    for layer, to in zip(network.layers, network.shapes, strict=True):
        if not isinstance(layer, IntegerLIF):
            before.append((layer, shape, to))
            shape = to
            continue
        neurons = _neurons(layer, a, to, layer is network.neurons[-1])
        idle = a.latency if index else a.input_latency
        if a.by_event:
            lists = x if index else [[i for i, n in enumerate(step) for _ in range(n)] for step in x]
            x, counts, operations = _by_event(before, neurons, [[]] * idle + lists, math.prod(in_shape))
        else:
            x, operations = _in_steps(before, neurons, [[0] * math.prod(in_shape)] * idle + x)
            counts = x
        found.spikes[layer.name] = counts
        found.states[layer.name] = [neuron.v for neuron in neurons]
        if a.synapse is not None:
            found.currents[layer.name] = [neuron.y for neuron in neurons]
        found.beyond[layer.name] = sum(neuron.beyond for neuron in neurons)
        found.operations[layer.name] = operations
        found.dense[layer.name] = sum(
            math.prod(out) * own.weight[0].numel() * len(counts)
            for own, _, out in before
            if isinstance(own, (IntegerDense, IntegerConv))
        )
        before, in_shape, shape, index = [], to, to, index + 1
    return found


def _neurons(layer: IntegerLIF, a, shape, last: bool) -> list[Neuron]:
    most = a.last_spikes if last and a.last_spikes is not None else a.most_spikes
    size = math.prod(shape)
    thetas, betas = (_each(values, shape, size) for values in (layer.threshold, torch.as_tensor(layer.beta).double()))
    return [Neuron(a, layer.reset, beta, theta, most) for beta, theta in zip(betas, thetas, strict=True)]


def _each(values: torch.Tensor, shape, size: int) -> list:
    """One number for all neurons, for each channel, or for each neuron, written out for each neuron."""
    given = values.reshape(-1).tolist()
    if values.dim() == 0:
        return given * size
    return given if len(given) == size else [given[n // math.prod(shape[1:])] for n in range(size)]


def _through(before, x: list[int], biases: bool) -> tuple[list[int], int]:
    operations = 0
    for layer, shape, to in before:
        if isinstance(layer, (IntegerDense, IntegerConv)):
            operations += reached(layer, x, shape, to)
        x = summed(layer, x, shape, to, biases)
    return x, operations


def _in_steps(before, neurons: list[Neuron], steps: list[list[int]]) -> tuple[list[list[int]], int]:
    spikes, total = [], 0
    offsets, _ = _through(before, [0] * len(steps[0]), True)
    for x in steps:
        sums, operations = _through(before, x, False)
        total += operations
        spikes.append([n.step(s, o) for n, s, o in zip(neurons, sums, offsets, strict=True)])
    return spikes, total


def _by_event(before, neurons: list[Neuron], steps: list[list[int]], inputs: int):
    columns = [_through(before, [int(i == k) for i in range(inputs)], False)[0] for k in range(inputs)]
    offsets, _ = _through(before, [0] * inputs, True)
    emitted, counts, total = [], [], 0
    for events in steps:
        order: list[int] = []
        own = [0] * len(neurons)
        for added in ([offsets] if any(offsets) else []) + [columns[i] for i in events]:
            for n, neuron in enumerate(neurons):
                fired = neuron.event(added[n])
                own[n] += fired
                order += [n] * fired
        for neuron in neurons:
            neuron.end_of_step()
        total += sum(w != 0 for i in events for w in columns[i])
        emitted.append(order)
        counts.append(own)
    return emitted, counts, total
