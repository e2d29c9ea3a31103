"""Layers of the network that is exported, in order and by name."""

from __future__ import annotations

import math

import torch
from torch.nn.utils.parametrize import is_parametrized

from hw_export.neurons import export_of
from spikelfp import checks, nn
from spikelfp.errors import UserError
from spikelfp.nn import graph


def leaves(net: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """List the layers of a network in the order they run, with their dotted names; nested containers are opened.

    Args:
        net: a chain of layers.

    Raises:
        UserError: for a network whose order is not known (:func:`spikelfp.nn.graph.chain`), for a layer that stands in
            two places, for weights that are computed at every run (torch's pruning and parametrizations), which may
            be others than those a layer holds between two runs, and for a class derived from a layer of
            :mod:`spikelfp.nn` that computes something else: it would be taken for the layer it derives from.
    """
    found = graph.chain(checks.network(net))
    if any(parameter.is_meta for parameter in net.parameters()):
        raise UserError("the network lies on the device meta and holds no weights: load them first")
    seen: dict[torch.nn.Module, str] = {}
    for name, layer in net.named_modules(remove_duplicate=False):
        if layer in seen:
            raise UserError(f"layers {seen[layer]!r} and {name!r} are one object: give each place a layer of its own")
        seen[layer] = name
    for name, layer in found:
        _check_stored(name, layer)
        _check_own(name, layer)
    return found


def _check_stored(name: str, layer: torch.nn.Module) -> None:
    """Refuse weights that torch's pruning, weight normalisation or another parametrization computes at every run."""
    for module in layer.modules():
        if is_parametrized(module) or any(
            isinstance(vars(module).get(own), torch.Tensor) for own in ("weight", "bias")
        ):
            raise UserError(
                f"a weight of layer {name!r} is computed at every run, so that what it holds may be another: make "
                "it a parameter first, by spikelfp.pruning.from_torch(net) or torch.nn.utils.prune.remove for a "
                "pruned weight, torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm for others"
            )


def _check_own(name: str, layer: torch.nn.Module) -> None:
    if export_of(layer) is not None:
        return
    kind = type(layer)
    known = next((base for base in kind.__mro__ if base.__module__.partition(".")[0] == "spikelfp"), kind)
    changed = [way for way in ("forward", "run") if getattr(kind, way, None) is not getattr(known, way, None)]
    if changed:
        raise UserError(
            f"layer {name} is a {kind.__name__}, derived from nn.{known.__name__} with a {changed[0]} of its own, "
            "which no export holds: put layers of spikelfp.nn in its place, or register its own by hw_export.neurons"
        )


def window(pool: nn.AvgPool2d) -> int:
    """Count the values that a window of ``pool`` covers."""
    kernel = pool.kernel_size
    return kernel**2 if isinstance(kernel, int) else math.prod(kernel)


def pooled_areas(net: torch.nn.Module) -> dict[str, int]:
    """Count the values that are averaged into each input of a layer of weights, by name of the layer.

    Pooling that sums (``divisor_override=1``) does not count. Where a chip sums instead of averaging, the bias and the
    threshold after it are so many times as large.
    """
    areas, area = {}, 1
    for name, layer in leaves(net):
        if isinstance(layer, nn.AvgPool2d):
            area *= 1 if layer.divisor_override == 1 else window(layer)
        elif graph.has_trait(layer, "has_weights"):
            areas[name] = area
        elif graph.has_trait(layer, "fires"):
            area = 1
    return areas
