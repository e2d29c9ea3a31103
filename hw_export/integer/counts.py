r"""What a run does on a chip, counted: the quantities that its energy is estimated from.

    synaptic operations   a spike, or an event, times the weights it reaches that are not zero; an input, or a value
                          behind a pool, of ``n`` counts ``|n|``. At the border of a convolution only what is there.
                          On a ``crossbar`` times all its rows, inputs and neurons of every layer; there the spikes of
                          the last layer are events like the others, and count with that layer
    membrane updates      neurons times steps: each decays, adds and compares at every step, spikes or not. The rows of
                          inputs of a crossbar do so too, and count with the first layer
    dense operations      what a machine that skips nothing does: all weights of a dense layer, and all of a kernel at
                          each of its places, at every step
    bytes touched         ``bits / 8`` for the weight of a synaptic operation, and twice ``state_bits / 8``, to read
                          and to write the state, for a membrane update. Event by event the state is read and written
                          at each synaptic operation as well. The current of a synapse is a second state.

With a latency, of spikes or inputs, a layer of neurons runs some steps more than the input has, and they count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hw_export.integer.stage import Stage, Totals


@dataclass(frozen=True)
class Counts:
    """For one sample, the mean over a batch. layers: the same for each layer of neurons and the weights before it."""

    spikes: float
    synaptic_operations: float
    membrane_updates: float
    dense_operations: float
    bytes_touched: float
    layers: Mapping[str, Counts] = field(default_factory=dict)

    @staticmethod
    def sum(layers: Mapping[str, Counts]) -> Counts:
        """The counts of all ``layers`` together."""
        parts = layers.values()
        return Counts(
            spikes=sum(part.spikes for part in parts),
            synaptic_operations=sum(part.synaptic_operations for part in parts),
            membrane_updates=sum(part.membrane_updates for part in parts),
            dense_operations=sum(part.dense_operations for part in parts),
            bytes_touched=sum(part.bytes_touched for part in parts),
            layers=dict(layers),
        )


@dataclass(frozen=True)
class Crossbar:
    """One stage on a crossbar of ``rows``: whether the rows of the inputs, and the last spikes, are its own."""

    rows: int
    first: bool
    last: bool


def count(
    stage: Stage, seen: Totals, spikes: int, steps: int, samples: int, crossbar: Crossbar | None = None
) -> Counts:
    """Count what one stage did in ``steps`` steps of ``samples`` samples, to which came what was ``seen``."""
    arithmetic = stage.constants.arithmetic
    neurons = stage.size
    if crossbar is None:
        operations = stage.operations(seen) / samples
    else:
        events = int(seen[stage.name].sum()) + (spikes if crossbar.last else 0)
        operations = events * crossbar.rows / samples
        neurons += math.prod(stage.in_shape) if crossbar.first else 0
    updates = float(neurons * steps)
    touched = updates + operations if arithmetic.by_event else updates * len(stage.registers)
    return Counts(
        spikes=spikes / samples,
        synaptic_operations=operations,
        membrane_updates=updates,
        dense_operations=float(sum(product.multiplications for product in stage.products) * steps),
        bytes_touched=operations * stage.bits / 8 + touched * 2 * arithmetic.state_bits / 8,
    )
