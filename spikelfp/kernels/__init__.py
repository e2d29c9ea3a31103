"""The time scans of the LIF neuron, several times over: each module here holds ``forward`` and ``reverse``.

``SPIKELFP_KERNELS`` chooses: ``torch`` (readable, any device and dtype), ``numba`` (CPU, float32 and float64,
one fused pass over memory) or ``auto`` (numba on the CPU, torch elsewhere; the default). All give the same
spikes to the last one; :mod:`spikelfp.functional.lif` is the reference they are tested against.
"""

from __future__ import annotations

import os
from types import ModuleType

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.kernels import numba_scan, torch_scan
from spikelfp.registry import check_name

VARIABLE = "SPIKELFP_KERNELS"
_MODULES = {"numba": numba_scan, "torch": torch_scan}


def chosen() -> str:
    """The value of ``SPIKELFP_KERNELS``: ``auto``, ``torch`` or ``numba``."""
    return check_name(f"value of {VARIABLE}", os.environ.get(VARIABLE, "auto"), ("auto", *_MODULES))


def scan_for(tensor: Tensor) -> ModuleType:
    """The module whose scans run on ``tensor``."""
    name = chosen()
    fits_numba = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    if name == "auto":
        name = "numba" if fits_numba else "torch"
    elif name == "numba" and not fits_numba:
        raise UserError(
            f"{VARIABLE}=numba runs float32 and float64 on the CPU, not {tensor.dtype} on {tensor.device}; "
            "set it to auto or torch"
        )
    return _MODULES[name]
