"""What a network does and what it costs: spikes of its layers, multiply-adds and memory of training it."""

from spikelfp.analysis.cost import BlockCost, Cost, Products, cost, products
from spikelfp.analysis.memory import HeldMemory
from spikelfp.analysis.spikes import record, spike_rates
from spikelfp.registry import public_names

__all__ = ["BlockCost", "Cost", "HeldMemory", "Products", "cost", "products", "record", "spike_rates"]

public_names(globals())
