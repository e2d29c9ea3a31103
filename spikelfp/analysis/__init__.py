"""Looking into networks."""

from spikelfp.analysis.spikes import record, spike_rates
from spikelfp.registry import public_names

__all__ = ["record", "spike_rates"]

public_names(globals())
