"""Looking into networks."""

from spikelfp.analysis.spikes import record, spike_rates

__all__ = ["record", "spike_rates"]
