"""Scans of LIF neurons over time by torch, numba and Triton: modules with ``forward``, ``reverse`` and ``integrate``.

All give exactly the same spikes; :mod:`spikelfp.functional.lif` is the reference in their tests.
:mod:`spikelfp.kernels.choice` selects one of them.
"""

from spikelfp.kernels.choice import KERNELS, announce, chosen_kernels, scan_for, triton_installed

__all__ = ["KERNELS", "chosen_kernels", "scan_for", "triton_installed"]

announce()
