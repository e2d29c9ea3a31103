"""Networks without the neurons that have no effect."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.nn import graph
from spikelfp.pruning.masks import WEIGHTED, chosen_layers, shared_with

Net = TypeVar("Net", bound=Module)

_BY_ELEMENT = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.GELU, nn.SiLU, nn.LIF, nn.LI, nn.ALIF, nn.Lapicque, nn.Synaptic,
    nn.Alpha, nn.MultiSpikeLIF, nn.Dropout, nn.Identity, torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.Tanh, torch.nn.ELU,
    torch.nn.GELU, torch.nn.SiLU, torch.nn.Dropout, torch.nn.Identity,
)  # fmt: skip
_POOLING = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d,
    torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d, torch.nn.AdaptiveAvgPool1d,
    torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool3d,
)  # fmt: skip
"""Layers that treat each channel by itself and give 0 for a channel that is always 0."""
_FLAT = (nn.Flatten, torch.nn.Flatten)
_RESIZED = (nn.Linear, nn.Conv2d, *WEIGHTED)


@torch.inference_mode(False)  # the copy is to be trained
@torch.no_grad()
def shrink(net: Net) -> Net:
    """Remove the neurons that have no effect: the outputs stay the same, up to the order of sums.

    A neuron, or a filter, has no effect where all weights that lead to it and its bias are 0, or all that lead on. What
    follows must be the next layer of weights alone, after activations, neurons and pooling that keep a 0. Of a layer
    without any effect one neuron stays.

    Args:
        net: the network, pruned by :func:`prune` with ``structured=True``.

    Returns:
        A smaller copy, with the names of its layers.

    Raises:
        UserError: naming a layer with such neurons whose outputs go elsewhere, to a sum of branches, say.
    """
    chosen_layers(net, None)  # refuses weights that are computed at every run
    known = graph.neighbours(net)
    twin = copy.deepcopy(net)
    for name in [name for name, layer in known.layers.items() if isinstance(layer, WEIGHTED)]:
        layer: Any = twin.get_submodule(name)
        silent = (layer.weight == 0).flatten(1).all(1)
        if layer.bias is not None:
            silent &= layer.bias == 0
        path, why = _path(known, name)
        if why == graph.OUTPUT or (why and not bool(silent.any())):
            continue
        if why:
            raise UserError(f"layer {name!r} has neurons without effect that cannot be removed: {why}")
        follower: Any = twin.get_submodule(path[-1])
        leads = follower.weight.transpose(0, 1).reshape(len(silent), -1)
        useless = silent | (leads == 0).all(1)
        if not bool(useless.any()):
            continue
        for own, each in ((name, layer), (path[-1], follower)):
            if other := shared_with(twin, each):
                raise UserError(
                    f"layer {own!r} shares a parameter with {other!r}, so that neither can be made smaller: give each "
                    "layer its own"
                )
            if getattr(each, "grid", None) is not None:
                raise UserError(
                    f"layer {own!r} was trained with quantised weights, which stay as they are: shrink floats"
                )
        if useless.all():
            useless[0] = False
        for own in path[:-1]:
            _keep_constants(own, twin.get_submodule(own), ~useless, isinstance(layer, torch.nn.Linear))
        _keep(layer, 0, ~useless)
        _keep(follower, 1, (~useless).repeat_interleave(follower.weight.shape[1] // len(useless)))
    return twin


def _path(known: graph.Neighbours, name: str) -> tuple[list[str], str]:
    """Follow the outputs of a layer to the next layer of weights; return the names, and why that is impossible."""
    path: list[str] = []
    own, first = name, known.layers[name]
    dense, flat = isinstance(first, torch.nn.Linear), False
    if why := _fixed(name, first):
        return path, why
    while True:
        after = known.after.get(own, frozenset())
        if len(after) != 1:
            return path, f"the outputs of {own!r} go to {len(after)} places"
        before, own = own, next(iter(after))
        if own == graph.OUTPUT:
            return path, graph.OUTPUT
        layer = known.layers.get(own)
        if layer is None:
            return path, f"the outputs of {before!r} go into {own}"
        if len(known.before[own]) != 1 or own in path or own == name:
            return path, f"{own!r} takes the outputs of several layers"
        path.append(own)
        if isinstance(layer, WEIGHTED):
            units, inputs = len(first.weight), layer.weight.shape[1]  # type: ignore[arg-type]
            # pixels of a channel stand side by side where it is flattened, neurons of a token do not
            fits = (
                inputs % units == 0
                if flat and not dense
                else inputs == units and dense == isinstance(layer, torch.nn.Linear)
            )
            return path, _fixed(own, layer) or (
                "" if fits else f"the {inputs} inputs of {own!r} are not the {units} neurons of {name!r}"
            )
        if type(layer) in _FLAT and (getattr(layer, "start_dim", 1), getattr(layer, "end_dim", -1)) == (1, -1):
            flat = True
        elif type(layer) not in _BY_ELEMENT and (type(layer) not in _POOLING or dense or flat):
            norm = isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
            hint = "; fold it first, spikelfp.fold.fold_batchnorm(net)" if norm else ""
            return path, f"they go through {own!r}, a {type(layer).__name__}{hint}"


def _fixed(name: str, layer: Any) -> str:
    """Why a layer of weights cannot be made smaller; empty where it can."""
    if type(layer) not in _RESIZED:
        return f"{name!r} is a {type(layer).__name__}, which cannot be made smaller"
    if getattr(layer, "groups", 1) != 1:
        return f"{name!r} is a convolution with groups, which cannot be made smaller"
    return ""


def _keep(layer: Any, axis: int, stays: Tensor) -> None:
    """Keep outputs (axis 0) or inputs (axis 1) of a layer of weights."""
    index = stays.nonzero()[:, 0]
    layer.weight = torch.nn.Parameter(layer.weight.index_select(axis, index), layer.weight.requires_grad)
    if axis == 0 and layer.bias is not None:
        layer.bias = torch.nn.Parameter(layer.bias[index], layer.bias.requires_grad)
    kind = "features" if isinstance(layer, torch.nn.Linear) else "channels"
    setattr(layer, f"{'in' if axis else 'out'}_{kind}", len(index))


def _keep_constants(name: str, layer: Any, stays: Tensor, dense: bool) -> None:
    """Keep the constants of the neurons that stay, where each has its own."""
    for table in (layer._parameters, layer._buffers):
        for own, values in list(table.items()):
            axis = -1 if dense else 0
            if values is None or not values.ndim or values.shape[axis] == 1:
                continue
            spread = values.shape[axis] // len(stays)
            if spread * len(stays) != values.shape[axis] or (spread > 1 and (dense or values.ndim > 1)):
                raise UserError(
                    f"{own} of {name!r} has the shape {list(values.shape)}, which does not fit {len(stays)} neurons"
                )
            kept = values.index_select(axis, stays.repeat_interleave(spread).nonzero()[:, 0])
            table[own] = torch.nn.Parameter(kept, values.requires_grad) if table is layer._parameters else kept
    layer.__dict__.pop("_copies", None)
