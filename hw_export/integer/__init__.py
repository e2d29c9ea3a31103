"""Simulation of networks in whole numbers, bit for bit as chips compute, and the energy of that."""

from hw_export.integer.arithmetic import GENERIC, Arithmetic, code_of
from hw_export.integer.energy import Counts, EnergyModel
from hw_export.integer.network import (
    IntegerConv,
    IntegerDelay,
    IntegerDense,
    IntegerFlatten,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    IntegerTaps,
    spread,
)
from hw_export.integer.simulator import IntegerRun, IntegerSimulator
from spikelfp.registry import check_constructors

__all__ = [
    "GENERIC",
    "Arithmetic",
    "Counts",
    "EnergyModel",
    "IntegerConv",
    "IntegerDelay",
    "IntegerDense",
    "IntegerFlatten",
    "IntegerLIF",
    "IntegerNetwork",
    "IntegerPool",
    "IntegerRun",
    "IntegerSimulator",
    "IntegerTaps",
    "code_of",
    "spread",
]  # fmt: skip

check_constructors(Arithmetic)
