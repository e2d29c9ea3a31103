"""norse models as a chain of layers, and whether each sees a step or the whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spikelfp.errors import UserError
from spikelfp.interop.chain import is_sequential
from spikelfp.interop.peers import peer
from spikelfp.interop.refusal import check_no_hooks, refusal

Placed = list[tuple[str, torch.nn.Module, bool]]
"""Layers with their names, and whether they are handed ``[T, B, …]`` (else a step, ``[B, …]``)."""

_STEP_ONLY = ("Conv2d", "BatchNorm1d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")


def norse_chain(model: torch.nn.Module | Sequence[torch.nn.Module]) -> Placed:
    """The layers of a ``SequentialState``, of one inside a ``Lift``, or of a list, in the order they run."""
    norse = peer("norse.torch")
    whole: Any = model if isinstance(model, torch.nn.Module) else norse.SequentialState(*model)
    if type(whole) is norse.Lift:
        check_no_hooks("the model", whole)
        return _opened(whole.lifted_module, "", timed=False)
    return _opened(whole, "", timed=type(whole) is norse.SequentialState and _runs_over_time(whole))


def _opened(model: Any, prefix: str, timed: bool) -> Placed:
    norse = peer("norse.torch")
    if type(model) is not norse.SequentialState and not (prefix and is_sequential(model)):
        raise UserError(
            f"{type(model).__name__} is no norse.torch.SequentialState, so the order of its layers is not known: hand "
            "in the SequentialState inside it, or the layers as a list in the order they run"
        )
    if getattr(model, "return_hidden", False):
        raise UserError(
            "a SequentialState with return_hidden=True returns the output of every layer; set it to False to convert"
        )
    check_no_hooks(prefix[:-1] or "the model", model)
    found: Placed = []
    for name, child in model._modules.items():
        full = prefix + name
        if type(child) is norse.SequentialState or is_sequential(child):
            found += _opened(child, f"{full}.", timed)
        elif type(child) is norse.Lift:
            found.append((full, _lifted(full, child), False))
        else:
            _check_place(full, child, timed)
            found.append((full, child, timed))
    return found


def _lifted(name: str, lift: Any) -> torch.nn.Module:
    check_no_hooks(name, lift)
    if lift.is_stateful:
        raise refusal(
            name, lift, "a Lift of neurons hands its state on to the next layer as a second value",
            "lift the whole network instead, Lift(SequentialState(...)), or run the SequentialState step by step",
        )  # fmt: skip
    return lift.lifted_module


def _check_place(name: str, layer: torch.nn.Module, timed: bool) -> None:
    snn = peer("norse.torch.module.snn")
    norse = peer("norse.torch")
    cells = (snn.SNNCell, snn.SNNRecurrentCell, norse.LILinearCell)
    if timed and isinstance(layer, cells):
        raise refusal(
            name, layer, "it makes one step, while other layers of the network run over time",
            "use cells and plain layers alone, called step by step, or layers over time and Lift alone",
        )  # fmt: skip
    if timed and type(layer).__name__ in _STEP_ONLY:
        raise refusal(
            name, layer, "behind or before layers that run over time it takes the steps for something else",
            "lift it, norse.torch.Lift(layer)",
        )  # fmt: skip


def _runs_over_time(model: torch.nn.Module) -> bool:
    norse, snn = peer("norse.torch"), peer("norse.torch.module.snn")
    return any(isinstance(module, (snn.SNN, snn.SNNRecurrent, norse.Lift)) for module in model.modules())
