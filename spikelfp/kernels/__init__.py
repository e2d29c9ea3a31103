"""The time scans of the LIF neuron, several times over: ``forward`` and ``reverse`` of a module each, and which runs.

All give the same spikes to the last one; :mod:`spikelfp.functional.lif` is the reference they are tested against.
:mod:`spikelfp.kernels.choice` says which one runs.
"""

from spikelfp.kernels.choice import KERNELS, announce, chosen_kernels, scan_for, triton_installed

__all__ = ["KERNELS", "chosen_kernels", "scan_for", "triton_installed"]

announce()
