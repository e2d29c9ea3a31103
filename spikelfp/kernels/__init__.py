"""Fast kernels: the LIF neuron over time in torch, numba and Triton, and event-driven products.

Each ``*_scan`` module has a ``forward`` and a ``reverse``. All give exactly the same spikes, and are tested against
:mod:`spikelfp.functional.lif`. :mod:`spikelfp.kernels.choice` decides which one runs.
"""

from spikelfp.kernels.choice import KERNELS, announce, chosen_kernels, scan_for, triton_installed

__all__ = ["KERNELS", "chosen_kernels", "scan_for", "triton_installed"]

announce()
