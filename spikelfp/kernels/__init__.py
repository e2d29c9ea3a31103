"""The time scans of the LIF neuron, several times over: each module here holds ``forward`` and ``reverse``.

``SPIKELFP_KERNELS`` chooses: ``torch`` (readable, any device and dtype), ``numba`` (CPU, float32 and float64,
one fused pass over memory), ``triton`` (the same on CUDA) or ``auto`` (numba on the CPU, triton on CUDA where it is
installed, torch elsewhere; the default). All give the same spikes to the last one; :mod:`spikelfp.functional.lif` is
the reference they are tested against. Triton is imported when a scan first asks for it.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.kernels import compiling, numba_scan, torch_scan
from spikelfp.registry import check_name

VARIABLE = "SPIKELFP_KERNELS"
_CHOICES = ("auto", "torch", "numba", "triton")
_FUSED = (torch.float32, torch.float64)

compiling.announce()


def chosen() -> str:
    """The value of ``SPIKELFP_KERNELS``: ``auto``, ``torch``, ``numba`` or ``triton``."""
    return check_name(f"value of {VARIABLE}", os.environ.get(VARIABLE, "auto"), _CHOICES)


def scan_for(tensor: Tensor) -> ModuleType:
    """The module whose scans run on ``tensor``.

    Raises :class:`~spikelfp.errors.UserError` where ``SPIKELFP_KERNELS`` insists on one that cannot.
    """
    name = chosen()
    fused, device = tensor.dtype in _FUSED, tensor.device.type
    if name == "auto":
        if fused and device == "cpu":
            return numba_scan
        return _triton_scan() if fused and device == "cuda" and triton_installed() else torch_scan
    if name == "numba" and not (fused and device == "cpu"):
        raise UserError(
            f"{VARIABLE}=numba runs float32 and float64 on the CPU, not {tensor.dtype} on {tensor.device}; "
            "set it to auto or torch"
        )
    if name == "triton":
        _check_triton(tensor)
        return _triton_scan()
    return numba_scan if name == "numba" else torch_scan


@cache
def triton_installed() -> bool:
    """Whether Triton can be imported; it is not imported to find out."""
    return find_spec("triton") is not None


def _triton_scan() -> ModuleType:
    return import_module("spikelfp.kernels.triton_scan")


def _check_triton(tensor: Tensor) -> None:
    if not triton_installed():
        raise UserError(f"{VARIABLE}=triton, but triton is not installed: pip install triton, or set it to auto")
    if tensor.dtype not in _FUSED:
        raise UserError(f"{VARIABLE}=triton runs float32 and float64, not {tensor.dtype}; set it to auto or torch")
    if tensor.device.type != "cuda" and not _triton_scan().INTERPRETED:
        raise UserError(
            f"{VARIABLE}=triton runs on CUDA, and the tensor is on {tensor.device}; set it to auto, or start Python "
            "with TRITON_INTERPRET=1 to run its kernels, slowly, in Triton's interpreter"
        )
