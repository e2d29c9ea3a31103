"""Spikes of the layers of a network, and the multiply-adds and the memory that training it costs."""

from spikelfp.analysis.cost import BlockCost, Cost, Products, cost, products
from spikelfp.analysis.memory import HeldMemory
from spikelfp.analysis.spikes import record, spike_rates
from spikelfp.registry import public_names

__all__ = ["BlockCost", "Cost", "HeldMemory", "Products", "cost", "products", "record", "spike_rates"]

public_names(globals())
