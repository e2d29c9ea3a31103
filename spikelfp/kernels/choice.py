"""Choice of kernels: the scan over time for a tensor, and dense or event-driven products.

``SPIKELFP_KERNELS`` chooses the scan: ``torch`` (readable, any device and dtype), ``numba`` (CPU, float32 and float64,
one fused pass over memory), ``triton`` (the same on CUDA) or ``auto`` (numba on the CPU, triton on CUDA where it is
installed, torch elsewhere; the default). Triton is imported when a scan first asks for it.

``SPIKELFP_EVENTS`` chooses the products: ``auto`` makes them event by event at low density, measured for each input of
each layer; ``always`` wherever a kernel exists; ``never``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from numba.core import event
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.kernels import numba_scan, torch_scan
from spikelfp.registry import unknown_name
from spikelfp.terminal import say

KERNELS, KERNEL_CHOICES = "SPIKELFP_KERNELS", ("auto", "torch", "numba", "triton")
EVENTS, EVENT_CHOICES = "SPIKELFP_EVENTS", ("auto", "always", "never")
_FUSED = (torch.float32, torch.float64)


def _chosen(variable: str, choices: tuple[str, ...]) -> str:
    value = os.environ.get(variable, "auto")
    if value not in choices:
        raise unknown_name(f"value of {variable}", value, choices)
    return value


def chosen_kernels() -> str:
    """Return the value of ``SPIKELFP_KERNELS``: ``auto``, ``torch``, ``numba`` or ``triton``.

    Raises:
        UserError: for another value.
    """
    return _chosen(KERNELS, KERNEL_CHOICES)


def scan_for(tensor: Tensor) -> ModuleType:
    """Select the module of scans for ``tensor``.

    Args:
        tensor: current of the neurons; its device and dtype decide.

    Returns:
        Module with ``forward``, ``reverse`` and ``integrate``.

    Raises:
        UserError: where ``SPIKELFP_KERNELS`` names a module that cannot run on ``tensor``.
    """
    name = chosen_kernels()
    fused, device = tensor.dtype in _FUSED, tensor.device.type
    if name == "auto":
        if fused and device == "cpu":
            return numba_scan
        return _triton_scan() if fused and device == "cuda" and triton_installed() else torch_scan
    if name == "numba" and not (fused and device == "cpu"):
        raise UserError(
            f"{KERNELS}=numba runs float32 and float64 on the CPU, not {tensor.dtype} on {tensor.device}; "
            "set it to auto or torch"
        )
    if name == "triton":
        _check_triton(tensor)
        return _triton_scan()
    return numba_scan if name == "numba" else torch_scan


@cache
def triton_installed() -> bool:
    """Whether Triton is installed; it is not imported to find out."""
    return find_spec("triton") is not None


def _triton_scan() -> ModuleType:
    return import_module("spikelfp.kernels.triton_scan")


def _check_triton(tensor: Tensor) -> None:
    if not triton_installed():
        raise UserError(f"{KERNELS}=triton, but triton is not installed: pip install triton, or set it to auto")
    if tensor.dtype not in _FUSED:
        raise UserError(f"{KERNELS}=triton runs float32 and float64, not {tensor.dtype}; set it to auto or torch")
    if tensor.device.type != "cuda" and not _triton_scan().INTERPRETED:
        raise UserError(
            f"{KERNELS}=triton runs on CUDA, and the tensor is on {tensor.device}; set it to auto, or start Python "
            "with TRITON_INTERPRET=1 to run its kernels, slowly, in Triton's interpreter"
        )


def chosen_events() -> str:
    """Return the value of ``SPIKELFP_EVENTS``: ``auto``, ``always`` (wherever a kernel exists) or ``never``."""
    return _chosen(EVENTS, EVENT_CHOICES)


@dataclass
class EventChoice:
    """Choice of one layer between dense and event-driven products, by the density of its inputs.

    ``leave`` is a little higher than ``enter``. So a density near the border does not switch between the two, with
    their different orders of summation, from batch to batch.

    Attributes:
        enter: density (share of inputs that are not zero) below which dense products change to events.
        leave: density above which events change to dense products.
        events: whether the last product was event-driven.
    """

    enter: float
    leave: float
    events: bool = False

    def limit(self) -> float:
        """Return the highest density at which products are event-driven now; negative for never."""
        name = chosen_events()
        if name == "auto":
            return self.leave if self.events else self.enter
        return 1.0 if name == "always" else -1.0


def choices(net: torch.nn.Module) -> dict[str, EventChoice]:
    """Return the choices of the layers of ``net`` that have one, by name of the layer."""
    found = {name: getattr(layer, "choice", None) for name, layer in net.named_modules()}
    return {name: choice for name, choice in found.items() if isinstance(choice, EventChoice)}


def can_run(x: Tensor, weight: Tensor) -> bool:
    """Whether the event-driven kernels, which numba compiles, take these tensors: float32 or float64, on the CPU.

    They do not run under torch's compiler, nor under autocast, which asks for products of another dtype.
    """
    fits = all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64) for t in (x, weight))
    if not fits or x.dtype != weight.dtype or chosen_kernels() not in ("auto", "numba"):
        return False
    return not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


_PACKAGES = ("spikelfp.", "hw_export.")


class Announcer(event.Listener):
    """Listener that writes one line to stderr before the first kernel of these packages is compiled."""

    def __init__(self) -> None:
        self.announced = False

    def on_start(self, event: Any) -> None:
        """Announce that numba begins to compile."""
        function = event.data["dispatcher"].py_func
        if not self.announced and (function.__module__ or "").startswith(_PACKAGES):
            self.announced = True
            message = "spikelfp: compiling kernels for this machine (seconds each, once; later runs find them on disk)"
            say(message, error=True)

    def on_end(self, event: Any) -> None:
        """Do nothing, though numba calls it."""


def announce() -> None:
    """Announce compilations of these packages, once per process."""
    event.register("numba:compile", Announcer())
