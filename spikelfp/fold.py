"""Fold BatchNorm into the weights in front of it: what a network computes stays the same.

In evaluation a BatchNorm is an affine map with the running mean ``μ`` and variance ``v``, one a channel::

    γ (W x + b − μ) / √(v + ε) + β = (g W) x + g (b − μ) + β          g = γ / √(v + ε)

LFP v3 calls this canonization (appendix A.6.3) and does it before weights are compared or pruned, since a BatchNorm
makes the scale of the weights in front of it arbitrary. Chips have no BatchNorm, so every export does it, too.

>>> from spikelfp.fold import fold_batchnorm
>>> folded = fold_batchnorm(trainer.net)                # a copy in evaluation mode
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import prune
from torch.nn.utils.parametrize import is_parametrized

from spikelfp import checks, nn
from spikelfp.errors import UserError
from spikelfp.nn import graph

__all__ = ["fold_batchnorm", "fold_into"]

Net = TypeVar("Net", bound=Module)
Weighted = torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d
"""Layers whose first axis of weights are the channels of their outputs."""

_IN_FRONT: tuple[tuple[type[_BatchNorm], tuple[type[Weighted], ...]], ...] = (
    (torch.nn.BatchNorm1d, (torch.nn.Linear, torch.nn.Conv1d)),
    (torch.nn.BatchNorm2d, (torch.nn.Conv2d,)),
    (torch.nn.BatchNorm3d, (torch.nn.Conv3d,)),
    (_BatchNorm, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)),
)
_AVERAGES = (torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d)
_WHOLE_AVERAGES = (torch.nn.AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool3d)
_UNCHANGED = (
    nn.Dropout, nn.Identity, nn.Noise, torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d,
    torch.nn.Identity,
)  # fmt: skip
"""Layers that hand on what they get in evaluation."""


@torch.inference_mode(False)  # the copy is to be trained
@torch.no_grad()
def fold_batchnorm(net: Net, x: Tensor | None = None) -> Net:
    """Fold each BatchNorm into the layer of weights in front of it.

    This is computed in float64 and rounded to the dtype of the weights at the end. ``BatchNorm1d`` follows ``Linear``
    or ``Conv1d``, ``BatchNorm2d`` follows ``Conv2d`` and ``BatchNorm3d`` follows ``Conv3d``, of :mod:`spikelfp.nn` or
    torch, in chains, branches and shortcuts. ``Dropout``, and average pooling that leaves out the border, may lie
    between. Other layers keep their names. torch's ``BatchNorm1d`` after a ``Linear`` is taken to get
    ``[B, channels]``; where it gets ``[B, channels, length]``, its channels are others, which only an ``x`` shows.

    Args:
        net: the network.
        x: example of an input. Needed where a module has a ``forward`` of its own, whose order is read from a run; the
            outputs for it are then compared, too.

    Returns:
        A copy in evaluation mode without BatchNorm.

    Raises:
        UserError: naming a BatchNorm with no such layer in front or no running statistics that are finite, one whose
            input goes elsewhere, too, and one after weights that are shared, computed at every run (torch's pruning and
            parametrizations) or trained on a grid, whose integers would change.
    """
    if prune.is_pruned(checks.network(net)):
        raise UserError(
            "the network is pruned by torch.nn.utils.prune, which computes weights at every run: make that permanent "
            "first, by spikelfp.pruning.from_torch(net) or torch.nn.utils.prune.remove(layer, 'weight')"
        )
    for own, layer in net.named_modules():
        if is_parametrized(layer):
            raise _computed(own, "its BatchNorm")
    if x is not None and not isinstance(x, Tensor):
        raise UserError(f"x is an example of an input, a tensor, got {type(x).__name__}")
    try:
        known = graph.neighbours(net, x)
    except RuntimeError as error:
        if x is None or isinstance(error, UserError):
            raise
        raise UserError(f"the network does not run on the example of shape {list(x.shape)}: {error}") from error
    norms = {name: layer for name, layer in known.layers.items() if isinstance(layer, _BatchNorm)}
    if norms and any(graph.UNKNOWN in (name, *given) for name, given in known.before.items()):
        raise UserError(
            f"{type(net).__name__} has modules with a forward of their own, so that what stands in front of "
            f"{next(iter(norms))!r} is not known: hand in an example of an input, fold_batchnorm(net, x)"
        )
    targets = {name: _in_front(name, norm, known) for name, norm in norms.items()}
    owners = _owners(net)
    for name, target in targets.items():
        _check_weights(name, target, known.layers[target], owners)
        if x is None:
            _check_no_hooks(name, target, known)
    twin = copy.deepcopy(net).eval()
    for name in _in_turn(targets, known):
        own, layer = twin.get_submodule(name), twin.get_submodule(targets[name])
        assert isinstance(own, _BatchNorm)
        assert isinstance(layer, Weighted)
        _fold(name, own, layer)
        _remove(twin, own, keep_places=x is not None)
    if x is not None and norms:
        _compare(net, twin, x)
    return twin


def fold_into(target: Weighted, gain: Tensor, shift: Tensor) -> None:
    """Change ``target``, in place, so that it gives ``gain y + shift`` in place of its outputs ``y``.

    Args:
        target: a layer of weights.
        gain: float64 ``[channels]``.
        shift: float64 ``[channels]``.
    """
    target.weight.copy_(target.weight.double() * gain.reshape(-1, *[1] * (target.weight.dim() - 1)))
    bias = torch.zeros_like(gain) if target.bias is None else target.bias.double()
    folded = (gain * bias + shift).to(target.weight.dtype)
    if target.bias is None and not shift.any():
        return
    if target.bias is None:
        target.bias = torch.nn.Parameter(folded, requires_grad=target.weight.requires_grad)
    else:
        target.bias.copy_(folded)


def _in_front(name: str, norm: _BatchNorm, known: graph.Neighbours) -> str:
    """Find the name of the layer whose outputs ``norm`` scales."""
    wanted = next(layers for kind, layers in _IN_FRONT if isinstance(norm, kind))
    kinds = " or ".join(kind.__name__ for kind in wanted)
    put = f"put it right after a {kinds}"
    _check_forward(name, norm)
    own, seen = name, set[str]()
    while True:
        sources = known.before[own] - {own}
        if len(sources) != 1 or own in seen:
            raise UserError(
                f"the {type(norm).__name__} {name!r} gets the outputs of {', '.join(sorted(sources)) or 'itself'}, and "
                f"cannot be folded into one of them: {put}"
            )
        seen.add(own)
        after, own = own, next(iter(sources))
        if own == graph.INPUT:
            raise UserError(
                f"the {type(norm).__name__} {name!r} has no layer of weights in front of it to be folded into: {put}"
            )
        layer = known.layers.get(own)
        if others := known.after[own] - {after}:
            raise UserError(
                f"what the {type(norm).__name__} {name!r} takes from {own!r} goes to {', '.join(sorted(others))}, too, "
                "and folding would change it there: give the BatchNorm a layer of weights of its own"
            )
        if isinstance(layer, wanted):
            _check_forward(own, layer)
            return own
        if layer is None or not (isinstance(layer, _BatchNorm) or _commutes(layer)):
            what = "a function between layers" if layer is None else f"a {type(layer).__name__}"
            raise UserError(
                f"the {type(norm).__name__} {name!r} stands after {own!r}, {what}, and cannot be folded: {put}"
            )


def _check_forward(name: str, layer: Module) -> None:
    """Refuse a class that computes something else than the layer it derives from."""
    if "forward" in vars(layer) or type(layer).forward.__module__.partition(".")[0] not in ("torch", "spikelfp"):
        raise UserError(
            f"layer {name!r} is a {type(layer).__name__} with a forward of its own, and what folding would change is "
            "not known: put the layer of spikelfp.nn or torch in its place"
        )


def _commutes(layer: Module) -> bool:
    """Whether scaling and shifting each channel after ``layer`` is the same as before it."""
    if isinstance(layer, _AVERAGES):
        padding = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,)
        return not any(padding) and not layer.ceil_mode and getattr(layer, "divisor_override", None) is None
    return isinstance(layer, (*_WHOLE_AVERAGES, *_UNCHANGED))


def _check_no_hooks(name: str, target: str, known: graph.Neighbours) -> None:
    """Refuse hooks from a BatchNorm back to its weights, which may change what these compute."""
    own, before = name, name
    while own != target:
        before, own = own, next(iter(known.before[own] - {own}))
    for each in {name, before, target}:
        layer = known.layers[each]
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise UserError(
                f"layer {each!r} has forward hooks, which may change what it computes: remove them, or hand in an "
                "example of an input, fold_batchnorm(net, x), for which the outputs are compared"
            )


def _owners(net: Module) -> dict[int, list[str]]:
    """Names of each parameter, by its id; a layer that runs at two places counts once."""
    found: dict[int, list[str]] = {}
    for name, module in net.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(f"{name}.{own}" if name else own)
    return found


def _check_weights(name: str, target: str, layer: Module, owners: dict[int, list[str]]) -> None:
    """Refuse weights that folding could not change, or would change elsewhere."""
    if getattr(layer, "grid", None) is not None:
        raise UserError(
            f"layer {target!r} was trained with quantised weights, and {name!r} after it would scale them off "
            "their grid: train without the BatchNorm, or export floats (bits=32)"
        )
    for own in ("weight", "bias"):
        if own not in layer._parameters:
            raise _computed(target, repr(name))
        shared = owners.get(id(layer._parameters[own]), [])
        if len(shared) > 1:
            raise UserError(
                f"{' and '.join(shared)} are one parameter, and folding {name!r} would change both: give each layer "
                "its own"
            )


def _computed(layer: str, norm: str) -> UserError:
    return UserError(
        f"a weight of layer {layer!r} is computed at every run (weight normalisation or another parametrization), so "
        f"that {norm} cannot be folded into it: make it a parameter first "
        "(torch.nn.utils.parametrize.remove_parametrizations)"
    )


def _in_turn(targets: dict[str, str], known: graph.Neighbours) -> list[str]:
    """Order BatchNorms so that of several in a row the first is folded first."""

    def depth(name: str) -> int:
        found, own = 0, name
        while own != targets[name]:
            own = next(iter(known.before[own] - {own}))
            found += isinstance(known.layers[own], _BatchNorm)
        return found

    return sorted(targets, key=depth)


def _fold(name: str, norm: _BatchNorm, target: Weighted) -> None:
    mean, var = norm.running_mean, norm.running_var
    channels = target.weight.shape[0]
    if mean is None or var is None:
        raise UserError(
            f"the {type(norm).__name__} {name!r} has no running statistics: what it does depends on the batch"
        )
    if len(mean) != channels:
        raise UserError(
            f"the {type(norm).__name__} {name!r} takes {len(mean)} channels, the layer in front has {channels}"
        )
    if not (torch.isfinite(mean).all() and torch.isfinite(var).all() and bool((var.double() + norm.eps > 0).all())):
        raise UserError(
            f"the running statistics of the {type(norm).__name__} {name!r} hold NaN, infinity or a negative variance: "
            "train it on finite inputs, or load statistics that are"
        )
    gain = (var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(gain)
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    if norm.bias is not None:
        shift = norm.bias.double()
    before = all(bool(torch.isfinite(p).all()) for p in target.parameters(recurse=False))
    fold_into(target, gain, shift - gain * mean.double())
    if before and not all(bool(torch.isfinite(p).all()) for p in target.parameters(recurse=False)):
        raise UserError(
            f"the weights in front of the {type(norm).__name__} {name!r} times its gain are too large for "
            f"{target.weight.dtype}: fold net.float()"
        )


def _remove(net: Module, norm: _BatchNorm, keep_places: bool) -> None:
    """Take a layer out of its containers; where places count, an identity takes its place."""
    for parent in net.modules():
        for own, child in list(parent._modules.items()):
            if child is not norm:
                continue
            if graph.in_order(parent) and not keep_places:
                del parent._modules[own]
            else:
                parent._modules[own] = nn.Identity() if isinstance(norm, nn.Layer) else torch.nn.Identity()


def _compare(net: Module, folded: Module, x: Tensor) -> None:
    """Refuse a network whose forward does between the layers what the run did not show, such as changes in place."""
    found: list[Tensor] = []
    for each in (net, folded):
        twin = copy.deepcopy(each).eval().double()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            out = twin(x.double() if x.is_floating_point() else x)
        found.append(out[0] if isinstance(out, tuple) else out)
    change = float((found[0] - found[1]).abs().max())
    if not change <= 1e-6 * max(1.0, float(found[0].abs().max())):
        raise UserError(
            f"the outputs of {type(net).__name__} for the example change by {change:g} with BatchNorm folded, so "
            "its forward changes values between a layer of weights and its BatchNorm: let layers do that"
        )
