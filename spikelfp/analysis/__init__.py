"""Analysis of networks: sparsity and changes of weights, spikes, rewards of the layers, shattering, and costs."""

from spikelfp.analysis.cost import BlockCost, Cost, Products, cost, products
from spikelfp.analysis.credit import LayerReward, Shattering, autocorrelation, layer_rewards, noise, shattering
from spikelfp.analysis.memory import HeldMemory
from spikelfp.analysis.spikes import SpikeStatistics, record, spike_rates, spike_statistics
from spikelfp.analysis.weights import (
    Changes,
    gini,
    median_magnitude,
    sign_changes,
    theta_sparsity,
    update_density,
    weights_of,
)
from spikelfp.registry import public_names

__all__ = [
    "BlockCost", "Changes", "Cost", "HeldMemory", "LayerReward", "Products", "Shattering", "SpikeStatistics",
    "autocorrelation", "cost", "gini", "layer_rewards", "median_magnitude", "noise", "products", "record",
    "shattering", "sign_changes", "spike_rates", "spike_statistics", "theta_sparsity", "update_density", "weights_of",
]  # fmt: skip

public_names(globals())
