"""A network as a flat chain of named layers, which is the form it is converted in."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import torch

from spikelfp import nn
from spikelfp.interop.refusal import check_no_hooks, refusal

Chain = list[tuple[str, torch.nn.Module]]
"""Layers in the order they run, with the names they have in the model; a layer that runs twice is in it twice."""


def is_sequential(model: torch.nn.Module) -> bool:
    """Whether ``model`` is a ``torch.nn.Sequential`` that runs its layers in order (no forward of its own)."""
    plain = (torch.nn.Sequential.forward, nn.Sequential.forward)
    return isinstance(model, torch.nn.Sequential) and type(model).forward in plain


def opened(model: torch.nn.Module, prefix: str = "") -> Chain:
    """The layers of a Sequential, nested ones opened, with dotted names."""
    check_no_hooks(prefix[:-1] or "the model", model)
    found: Chain = []
    for name, child in model._modules.items():  # named_children would leave out a layer that runs twice
        assert child is not None
        found += opened(child, f"{prefix}{name}.") if is_sequential(child) else [(prefix + name, child)]
    return found


def listed(layers: Sequence[torch.nn.Module]) -> Chain:
    """Layers that were handed in as a list, named by their places."""
    return opened(torch.nn.Sequential(*layers))


def renamed(layers: Iterable[tuple[str, torch.nn.Module]]) -> OrderedDict[str, torch.nn.Module]:
    """The layers by names that a flat Sequential can have: dots become underscores, a name that comes again is
    numbered."""
    named: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for dotted, layer in layers:
        name = base = dotted.replace(".", "_")
        again = 1
        while name in named:
            again += 1
            name = f"{base}_{again}"
        named[name] = layer
    return named


def check_once(chain: Chain, neurons: tuple[type[torch.nn.Module], ...]) -> None:
    """Refuse neurons that stand in the chain twice: their two places would share one membrane."""
    times = Counter(id(layer) for _, layer in chain)
    for name, layer in chain:
        if isinstance(layer, neurons) and times[id(layer)] > 1:
            raise refusal(
                name, layer, "it stands in the network more than once, and its places share one state",
                "make a layer of neurons of its own for each place",
            )  # fmt: skip


def layers_of(net: torch.nn.Module) -> Chain:
    """The chain of a network of this package, on its way out; only a Sequential has a known order."""
    if not (isinstance(net, nn.Sequential) and type(net).run is nn.Sequential.run):
        raise refusal(
            "the network", net, "only an nn.Sequential has a known order of layers",
            "put its layers into an nn.Sequential",
        )  # fmt: skip
    return _opened_ours(net)


def _opened_ours(net: torch.nn.Module, prefix: str = "") -> Chain:
    found: Chain = []
    for name, child in net._modules.items():
        assert child is not None
        inner = isinstance(child, torch.nn.Sequential)
        found += _opened_ours(child, f"{prefix}{name}.") if inner else [(prefix + name, child)]
    return found
