"""The steps of neurons and the sums of events, twice over: in plain torch for any device, and compiled for the CPU.

``SPIKELFP_KERNELS`` chooses as it does for the scans of :mod:`spikelfp.kernels`: ``torch``, or ``auto`` and ``numba``
for the compiled ones wherever the tensors are on the CPU. Both give the same whole numbers.
"""

from __future__ import annotations

import torch

from spikelfp import kernels


def compiled(device: torch.device) -> bool:
    """Whether the compiled kernels run on ``device``."""
    return device.type == "cpu" and kernels.chosen_kernels() in ("auto", "numba")
