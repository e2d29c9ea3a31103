r"""Counts of the operations of a run on a chip, and their energy, from figures published for single operations.

The counts, for a sample::

    synaptic operations   a spike, or an event, times the weights it reaches that are not zero; an input, or a value
                          after a pool, of ``n`` counts ``|n|``. At the border of a convolution only weights inside
                          count. On a ``crossbar`` an event counts all rows, inputs and neurons of every layer; there
                          the spikes of the last layer are events too, and count with that layer
    membrane updates      neurons times steps: each decays, adds and compares at every step, spikes or not. The rows of
                          inputs of a crossbar do so too, and count with the first layer
    dense operations      all weights of a dense layer, and all weights of a kernel at each of its places, at every
                          step: the work of a machine that skips nothing
    bytes touched         ``bits / 8`` for the weight of a synaptic operation, and twice ``state_bits / 8``, to read
                          and to write the state, for a membrane update. Event by event the state is read and written
                          at each synaptic operation as well. The current of a synapse is a second state.

With a latency, of spikes or inputs, a layer of neurons runs more steps than the input has; all of them count.

The estimate is a sum of products::

    E = Σ n_k e_k        k: synaptic operations, membrane updates, spikes, bytes touched

in nanojoule per sample, ``e_k`` in picojoule (:class:`EnergyModel`, which each chip states for itself). It compares
networks on one target and shows which operations cost most. It is **not** what a chip will draw from its supply:

* static and idle power are left out, and at low rates they are most of it (ODIN: 12.7 pJ per synaptic operation at its
  highest rate, 54 pJ at biological rates);
* routing between cores, learning, and data on its way to and from the chip are left out;
* the figures were taken at different technology nodes, voltages and rates, some by simulation before there was a chip,
  and authors count different things as a synaptic operation: do not compare one target with another by them.

An operation without a published figure gets no number; it is listed by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hw_export.integer.stage import NeuronStage, Totals
from spikelfp.errors import UserError
from spikelfp.terminal import brief


@dataclass(frozen=True)
class Counts:
    """Operations of one sample, the mean over a batch (definitions in :mod:`hw_export.integer.energy`).

    Attributes:
        spikes: spikes of all layers.
        synaptic_operations: events times the weights they reach.
        membrane_updates: neurons times steps.
        dense_operations: multiplications of a machine that skips nothing.
        bytes_touched: bytes of weights and states that are read or written.
        layers: counts of each layer of neurons, with the weights before it, by name.
    """

    spikes: float
    synaptic_operations: float
    membrane_updates: float
    dense_operations: float
    bytes_touched: float
    layers: Mapping[str, Counts] = field(default_factory=dict)

    @staticmethod
    def sum(layers: Mapping[str, Counts]) -> Counts:
        """Add the counts of all ``layers``."""
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
    """Place of one stage on a crossbar.

    Attributes:
        rows: number of rows of the whole crossbar.
        first: whether the rows of the inputs count with this stage.
        last: whether its own spikes are events that count with it.
    """

    rows: int
    first: bool
    last: bool


def count(
    stage: NeuronStage, seen: Totals, spikes: int, steps: int, samples: int, crossbar: Crossbar | None = None
) -> Counts:
    """Count the operations of one stage.

    Args:
        stage: weights and the neurons after them.
        seen: totals of the events that came to it, over the batch.
        spikes: spikes that it fired, over the batch.
        steps: number of steps it ran.
        samples: size of the batch.
        crossbar: its place on a crossbar, ``None`` elsewhere.
    """
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


PRICES = {
    "synaptic_operations": "synaptic_operation_pj",
    "membrane_updates": "membrane_update_pj",
    "spikes": "spike_pj",
    "bytes_touched": "memory_byte_pj",
}
"""Kinds of operations, and the figure of :class:`EnergyModel` for each."""


@dataclass(frozen=True)
class EnergyModel:
    """Published energy of single operations on one chip, in picojoule.

    A figure of ``None`` says that none is published, and 0 that it is contained in another one.

    Args:
        taken: how and where the figures were taken.
        source: where they are published.
        synaptic_operation_pj: one spike over one connection.
        membrane_update_pj: one neuron, one step, whether it fires or not.
        spike_pj: one spike sent, without its way between cores.
        memory_byte_pj: one byte read or written.
        static_power_uw: power without any operation, in microwatt; no part of an estimate, which knows no time.

    Raises:
        UserError: for a figure that is negative or not finite, and figures without a source.
    """

    taken: str
    source: str
    synaptic_operation_pj: float | None = None
    membrane_update_pj: float | None = None
    spike_pj: float | None = None
    memory_byte_pj: float | None = None
    static_power_uw: float | None = None

    def __post_init__(self) -> None:
        for name in (*PRICES.values(), "static_power_uw"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise UserError(f"{name} must be a finite number from 0 on, or None where it is not published: {value}")
        if not all(isinstance(text, str) and text.strip() for text in (self.taken, self.source)):
            raise UserError("an energy model says how its figures were taken and where they are published")


@dataclass(frozen=True)
class EnergyEstimate:
    """Estimated energy per sample, in nanojoule.

    Attributes:
        model: figures it was made from, ``None`` for a chip without any.
        total_nj: sum of the parts, ``None`` where no figure is published for any operation.
        parts_nj: energy by kind of operation, for those that have a figure of their own.
        missing: kinds of operations that were counted and have no published figure; with any of these the total is a
            lower bound.
    """

    model: EnergyModel | None
    total_nj: float | None
    parts_nj: Mapping[str, float]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        missing = ", ".join(name.replace("_", " ") for name in self.missing)
        if self.total_nj is None:
            return f"no energy per operation is published ({missing or 'nothing was counted'})"
        parts = ", ".join(f"{name.replace('_', ' ')} {nj:.4g}" for name, nj in self.parts_nj.items())
        bound = f"at least {self.total_nj:.4g}" if missing else f"{self.total_nj:.4g}"
        return f"{bound} nJ per sample ({parts}{f'; not published: {missing}' if missing else ''})"


def estimate(counts: Any, model: EnergyModel | None) -> EnergyEstimate:
    """Estimate the energy per sample, ``E = Σ n_k e_k``; :mod:`hw_export.integer.energy` lists what it leaves out.

    Args:
        counts: any object with the numbers per sample ``synaptic_operations``, ``membrane_updates``, ``spikes`` and
            ``bytes_touched``, whole or means over samples.
        model: figures of the chip; ``None`` where nothing is published.

    Raises:
        UserError: for a count that is absent, negative or not finite, and a model that is none.
    """
    if not isinstance(model, EnergyModel | None):
        raise UserError(f"energies of a chip are an EnergyModel, such as TARGETS['loihi'].energy, got {brief(model)}")
    numbers = {name: _count(counts, name) for name in PRICES}
    prices = {name: None if model is None else getattr(model, figure) for name, figure in PRICES.items()}
    parts = {name: numbers[name] * price / 1000 for name, price in prices.items() if price}
    missing = tuple(name for name, price in prices.items() if price is None and numbers[name])
    return EnergyEstimate(model, sum(parts.values()) if parts else None, MappingProxyType(parts), missing)


def _count(counts: Any, name: str) -> float:
    if not hasattr(counts, name):
        raise UserError(f"{type(counts).__name__} has no {name!r}: hand in counts per sample of {', '.join(PRICES)}")
    value = getattr(counts, name)
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):  # torch raises a RuntimeError for more than one number
        raise UserError(f"{name} must be one number per sample, got {type(value).__name__}: take its mean") from None
    if not 0 <= number < math.inf:
        raise UserError(f"{name} must be a finite number from 0 on, got {value}: count the operations again")
    return number
