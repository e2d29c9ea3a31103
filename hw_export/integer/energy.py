"""What the operations of a network would cost on a chip, from figures published for one operation each.

The estimate is a sum of products::

    E = Σ n_k e_k        k: synaptic operations, membrane updates, spikes, bytes touched

in nanojoule per sample, ``e_k`` in picojoule (:data:`ENERGY_MODELS`). It compares networks on one target and shows
which operations cost most. It is **not** what a chip will draw from its supply:

* static and idle power are left out, and at low rates they are most of it (ODIN: 12.7 pJ per synaptic operation at its
  highest rate, 54 pJ at biological rates);
* routing between cores, learning, and data on its way to and from the chip are left out;
* the figures were taken at different technology nodes, voltages and rates, some by simulation before there was a chip,
  and authors count different things as a synaptic operation: do not compare one target with another by them.

Where nothing is published for an operation there is no figure and so no number for it; it is named instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from spikelfp.errors import UserError
from spikelfp.registry import unknown_name

PRICES = {
    "synaptic_operations": "synaptic_operation_pj",
    "membrane_updates": "membrane_update_pj",
    "spikes": "spike_pj",
    "bytes_touched": "memory_byte_pj",
}
"""What is counted, by the figure of :class:`EnergyModel` that prices it."""


@dataclass(frozen=True)
class EnergyModel:
    """Published energy of single operations on one target, in picojoule.

    Of each figure ``None`` says that none is published, and 0 that it is contained in another one.

    synaptic_operation_pj: one spike over one connection. membrane_update_pj: one neuron, one step, whether it fires or
    not. spike_pj: one spike sent, without its way between cores. memory_byte_pj: one byte read or written.
    static_power_uw: power without any operation, in microwatt; no part of an estimate, which knows no time.
    taken: how and where the figures were taken. source: where they are published.
    """

    target: str
    synaptic_operation_pj: float | None
    membrane_update_pj: float | None
    spike_pj: float | None
    memory_byte_pj: float | None
    static_power_uw: float | None
    taken: str
    source: str

    def __post_init__(self) -> None:
        for name in (*PRICES.values(), "static_power_uw"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name} of target {self.target!r} must be a finite number from 0 on, or None: {value}")


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy per sample in nanojoule.

    total_nj: the sum of the parts, or ``None`` where no figure is published for any operation. parts_nj: by what was
    counted, those that have a figure of their own. missing: what was counted and has no published figure: with any of
    these the total is a lower bound.
    """

    model: EnergyModel
    total_nj: float | None
    parts_nj: Mapping[str, float]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        missing = ", ".join(name.replace("_", " ") for name in self.missing)
        if self.total_nj is None:
            return f"{self.model.target}: no energy per operation is published ({missing or 'nothing was counted'})"
        parts = ", ".join(f"{name.replace('_', ' ')} {nj:.4g}" for name, nj in self.parts_nj.items())
        bound = f"at least {self.total_nj:.4g}" if missing else f"{self.total_nj:.4g}"
        return f"{self.model.target}: {bound} nJ per sample ({parts}{f'; not published: {missing}' if missing else ''})"


def estimate(counts: Any, model: EnergyModel) -> EnergyEstimate:
    """Energy per sample of the operations in ``counts`` under ``model``; what it leaves out is said above.

    counts: any object with the numbers per sample ``synaptic_operations``, ``membrane_updates``, ``spikes`` and
    ``bytes_touched``, whole or means over samples.

    Raises :class:`~spikelfp.errors.UserError` for a count that is absent, negative or not finite.
    """
    numbers = {name: _count(counts, name) for name in PRICES}
    prices = {name: getattr(model, figure) for name, figure in PRICES.items()}
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


def energy_model(target: str) -> EnergyModel:
    """The published figures of a target, by its name; :class:`~spikelfp.errors.UserError` for an unknown one."""
    if target not in ENERGY_MODELS:
        raise unknown_name("target with an energy model", target, ENERGY_MODELS)
    return ENERGY_MODELS[target]


_ADD, _MULTIPLY, _CACHE_LINE = 0.1, 3.1, 10.0
"""Horowitz 2014: add and multiply in 32 bits, and 8 bytes from a memory of 8 kB."""

_MODELS = (
    EnergyModel(
        "generic",
        synaptic_operation_pj=_ADD,
        membrane_update_pj=_MULTIPLY + 3 * _ADD,  # decay; current, comparison (a subtraction) and reset
        spike_pj=0.0,
        memory_byte_pj=_CACHE_LINE / 8,
        static_power_uw=None,
        taken="arithmetic in 32 bits and a memory of 8 kB, 45 nm, 0.9 V, without control and clock; a spike costs the "
        "bytes that it touches",
        source="M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, pp. 10-14, "
        "doi:10.1109/ISSCC.2014.6757323",
    ),
    EnergyModel(
        "loihi",
        synaptic_operation_pj=23.6,
        membrane_update_pj=81.0,
        spike_pj=1.7,
        memory_byte_pj=0.0,
        static_power_uw=None,
        taken="by simulation before there was a chip, 14 nm, 0.75 V: a synaptic operation at least, an active neuron "
        "(an inactive one 52 pJ), a spike within its tile (3 to 4 pJ more for each tile on its way)",
        source="M. Davies et al., Loihi: A neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), "
        "2018, pp. 82-99, doi:10.1109/MM.2018.112130359, table 2",
    ),
    EnergyModel(
        "spinnaker2",
        synaptic_operation_pj=450.0,
        membrane_update_pj=2190.0,
        spike_pj=None,
        memory_byte_pj=0.0,
        static_power_uw=None,
        taken="measured on a prototype, 28 nm, neurons and synapses in software on its cores; of the chip in 22 nm "
        "10 pJ per synaptic operation are reported (Tang et al. 2023, doi:10.3389/fnins.2023.1187252, table 3, after "
        "Höppner et al. 2021, arXiv:2103.08392), and nothing for a neuron",
        source="S. Höppner et al., Dynamic power management for neuromorphic many-core systems, IEEE Trans. Circuits "
        "and Systems I 66(8), 2019, pp. 2973-2986, arXiv:1903.08941; numbers as in KerasSpiking",
    ),
    EnergyModel(
        "speck",
        synaptic_operation_pj=None,
        membrane_update_pj=None,
        spike_pj=None,
        memory_byte_pj=None,
        static_power_uw=420.0,
        taken="nothing per operation; the processor at rest, and a least total of 0.70 mW at work",
        source="M. Yao et al., Spike-based dynamic computing with asynchronous sensing-computing neuromorphic chip, "
        "Nature Communications 15, 2024, doi:10.1038/s41467-024-47811-6",
    ),
    EnergyModel(
        "xylo",
        synaptic_operation_pj=None,
        membrane_update_pj=None,
        spike_pj=None,
        memory_byte_pj=None,
        static_power_uw=None,
        taken="nothing per operation; keyword spotting takes 291 µW besides idle power, 6.6 µJ per inference",
        source="H. Bos and D. R. Muir, Micro-power spoken keyword spotting on Xylo Audio 2, 2024, arXiv:2406.15112",
    ),
    EnergyModel(
        "tinyodin",
        synaptic_operation_pj=12.7,
        membrane_update_pj=None,
        spike_pj=0.0,
        memory_byte_pj=0.0,
        static_power_uw=None,
        taken="on ODIN, of which tinyODIN is a smaller version without published figures: 28 nm, 0.55 V, the power of "
        "the whole chip, static power too, over its highest rate of synaptic operations, each with a neuron's update",
        source="C. Frenkel et al., A 0.086-mm² 12.7-pJ/SOP 64k-synapse 256-neuron online-learning digital spiking "
        "neuromorphic processor in 28-nm CMOS, IEEE Trans. Biomedical Circuits and Systems 13(1), 2019, pp. 145-158, "
        "doi:10.1109/TBCAS.2018.2880425",
    ),
)

ENERGY_MODELS: Mapping[str, EnergyModel] = MappingProxyType({model.target: model for model in _MODELS})
"""Published figures by the name of the target."""
