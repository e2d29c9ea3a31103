"""Exports of neurons, one file for each kind, found by the class of the layer."""

from hw_export.neurons import integrator, lapicque, lif, synaptic  # noqa: F401  (they register themselves)
from hw_export.neurons.base import (
    LIFConstants,
    NeuronExport,
    NodeContext,
    Numbers,
    constant,
    export_named,
    export_of,
    exports,
    lowered,
    numbers,
    standard,
)

__all__ = [
    "LIFConstants",
    "NeuronExport",
    "NodeContext",
    "Numbers",
    "constant",
    "export_named",
    "export_of",
    "exports",
    "lowered",
    "numbers",
    "standard",
]  # fmt: skip
