"""From a ``torch.nn`` network to one of this package."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from spikelfp.convert.build import build, share
from spikelfp.convert.tracing import is_one_layer, trace
from spikelfp.errors import UserError
from spikelfp.functional.sequence import constant
from spikelfp.nn.container import Sequential, foreign_parts
from spikelfp.nn.layer import Layer


def convert(module: torch.nn.Module, example: Tensor | None = None) -> Layer:
    """A network that computes at every step of ``[T, B, …]`` what ``module`` computes of a batch ``[B, …]``.

    The network is read by symbolic tracing (``torch.fx``): layers of ``torch.nn`` become those of
    :mod:`spikelfp.nn`, and functions between them (``+``, ``cat``, ``flatten``, ``view``, pooling, activations, …)
    their equals, so that a reward takes the way of the forward pass. Layers of :mod:`spikelfp.nn` inside ``module``
    are taken as they are, and their states carried; in an ``nn.Sequential`` of this package the other layers are
    converted.

    **Parameters and buffers are shared**: to train the network is to train ``module``, to move one to a device is to
    move the other, and the names in ``state_dict`` are the same (what the forward pass does not use is left out).
    Convert ``copy.deepcopy(module)`` for a copy. Training or evaluation mode starts as it is in ``module``; after
    that each has its own.

    example: a batch ``[B, …]``; with it the outputs of both are compared in evaluation mode.

    Raises :class:`~spikelfp.errors.UserError` that names every layer and function that cannot be converted, or the
    reason why the forward pass cannot be traced (control flow that depends on data, say), or that the outputs differ.
    """
    if isinstance(module, Sequential) and next(foreign_parts(module), None) is not None:
        parts = Sequential(OrderedDict((name, convert(layer)) for name, layer in module.named_children()))
        parts.training = module.training
        return parts
    if isinstance(module, Layer):
        return module
    converted = share(module) if is_one_layer(module) else build(module, trace(module))
    if example is not None:
        _compare(module, converted, example)
    return converted


@torch.no_grad()
def _compare(module: torch.nn.Module, converted: Layer, example: Tensor) -> None:
    """Raise unless both give the same for ``example``, shown for one step and for two."""
    modes = {part: part.training for net in (module, converted) for part in net.modules()}
    try:
        expected, found = module.eval()(example), converted.eval()(constant(example, 2))
    finally:
        for part, mode in modes.items():
            part.training = mode
    for step in found:
        if step.shape != expected.shape or not torch.allclose(step, expected, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"the converted network gives another output for the example, of shape {tuple(step.shape)} against "
                f"{tuple(expected.shape)}: please report this network"
            )
