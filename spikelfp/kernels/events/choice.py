"""When a product is made event by event: at low density, measured for each input of each layer."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from spikelfp import kernels
from spikelfp.registry import unknown_name

VARIABLE, WAYS = "SPIKELFP_EVENTS", ("auto", "always", "never")


def chosen() -> str:
    """The value of ``SPIKELFP_EVENTS``: ``auto``, ``always`` (wherever a kernel exists) or ``never``."""
    value = os.environ.get(VARIABLE, "auto")
    if value not in WAYS:
        raise unknown_name(f"value of {VARIABLE}", value, WAYS)
    return value


@dataclass
class Choice:
    """What one layer did last, and from which density on it does something else.

    enter: density (share of inputs that are not zero) below which a layer that made dense products takes to events.
    leave: density above which one that took events goes back; a little higher, so that a density near the border does
    not change the order of summation from batch to batch.
    """

    enter: float
    leave: float
    events: bool = False

    def limit(self) -> float:
        """The highest density at which events are taken now; negative for none."""
        name = chosen()
        if name == "auto":
            return self.leave if self.events else self.enter
        return 1.0 if name == "always" else -1.0


def choices(net: torch.nn.Module) -> dict[str, Choice]:
    """The choice of each layer of ``net`` that has one, by the layer's name."""
    found = {name: getattr(layer, "choice", None) for name, layer in net.named_modules()}
    return {name: choice for name, choice in found.items() if isinstance(choice, Choice)}


def can_run(x: Tensor, weight: Tensor) -> bool:
    """Whether the event-driven kernels take these: float32 or float64 on the CPU, compiled by numba.

    Not inside of what torch's compiler traces, and not under autocast, which wants products of another dtype.
    """
    fits = all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64) for t in (x, weight))
    if not fits or x.dtype != weight.dtype or kernels.chosen() not in ("auto", "numba"):
        return False
    return not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
