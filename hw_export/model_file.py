"""Networks in files of plain data and tensors, which load with ``torch.load(weights_only=True)``."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_export.neurons import export_named
from spikelfp import nn
from spikelfp.errors import CheckpointError, UserError
from spikelfp.files import write_tensors
from spikelfp.functional.lif import PAPER_FLOOR, PAPER_MARGIN
from spikelfp.nn import graph
from spikelfp.nn.delay import LONGEST
from spikelfp.nn.neurons.base import ConstantLayer
from spikelfp.terminal import brief, first_line
from spikelfp.untrusted.tensors import NotPlainError, canonical, load_plain
from spikelfp.untrusted.text import Field

FORMAT = 1

Check = Callable[[Field], object]
"""Function that refuses an argument which a layer does not take; its result is not used."""


def _sizes(least: int) -> Check:
    """Make the check for a number of pixels, or two, of the rows and of the columns."""

    def check(field: Field) -> None:
        for each in field.sequence(2, tuple) if isinstance(field.value, tuple) else [field]:
            each.whole(least, 1 << 20)

    return check


def _padding(field: Field) -> object:
    return field.text(("same", "valid")) if isinstance(field.value, str) else _sizes(0)(field)


def _count(field: Field) -> object:
    return field.whole(1)


def _count_or_none(field: Field) -> object:
    return None if field.value is None else field.whole(1)


def _constant(low: float, high: float) -> Check:
    """Make the check for a constant of neurons: a number, or a tensor with one for each."""

    def check(field: Field) -> None:
        if not isinstance(field.value, Tensor):
            field.number(low, high)
            return
        values = field.tensor()
        if not values.is_floating_point() or not values.numel() or not low < values.min() <= values.max() <= high:
            field.refuse(f"floats above {low:g}" + ("" if high == math.inf else f", up to {high:g}"))

    return check


def _any(field: Field) -> None:
    """Check an argument of a registered kind of neurons: a number, a text, a flag or a tensor of finite numbers."""
    if isinstance(field.value, Tensor):
        field.tensor()
    elif not isinstance(field.value, (bool, str, type(None))):
        field.number()


def _floor(field: Field) -> object:
    return field.number(0)


def _margin(field: Field) -> object:
    return field.number(0, 1)


def _delays(field: Field) -> None:
    for each in field.sequence(kind=tuple):
        each.whole(0, LONGEST)


def _delay(field: Field) -> None:
    values = field.tensor()
    if values.dtype != torch.int64 or not values.numel() or not 0 <= values.min() <= values.max() <= LONGEST:
        field.refuse(f"whole numbers from 0 to {LONGEST}")


_PART = {"p": lambda field: field.number(0, 1)}
_POOL = {"kernel_size": _sizes(1), "stride": _sizes(1), "padding": _sizes(0), "ceil_mode": Field.flag}
_KINDS: dict[type[torch.nn.Module], Mapping[str, Check]] = {
    nn.Linear: {"in_features": _count, "out_features": _count, "bias": Field.flag},
    nn.Conv2d: {
        "in_channels": _count, "out_channels": _count, "kernel_size": _sizes(1), "stride": _sizes(1),
        "padding": _padding, "dilation": _sizes(1), "groups": _count,
        "padding_mode": lambda field: field.text(("zeros", "reflect", "replicate", "circular")), "bias": Field.flag,
    },
    nn.LIF: {
        "beta": _constant(0, 1), "threshold": _constant(0, math.inf), "reset": Field.text, "denominator": Field.text,
        "floor": _floor, "margin": _margin,
    },
    nn.AvgPool2d: {**_POOL, "count_include_pad": Field.flag, "divisor_override": _count_or_none},
    nn.MaxPool2d: {**_POOL, "dilation": _sizes(1)},
    nn.Delay: {"delays": _delay},
    nn.Taps: {"delays": _delays},
    nn.TapLinear: {"features": _count, "out_features": _count, "taps": _count, "bias": Field.flag},
    nn.Dropout: _PART,
    nn.Flatten: {},
    nn.ReLU: {},
    nn.Heaviside: {},
}  # fmt: skip
"""Arguments (:func:`spikelfp.nn.graph.arguments`) of each kind of layer, and their checks.

Decays that learn are kept at the value they have."""
_LEARNS = "learn_beta"
_UNSTATED = {"floor": PAPER_FLOOR, "margin": PAPER_MARGIN}
"""Values of arguments that files leave out, as older ones do which do not know them."""


def _checks(kind: type[torch.nn.Module]) -> Mapping[str, Check] | None:
    """List the arguments of a kind of layers with their checks; ``None`` for a kind that files do not hold."""
    if kind in _KINDS:
        return _KINDS[kind]
    export = export_named(kind.__name__)
    if export is None or export.kind is not kind or export.standard:
        return None
    return {name: _any for name in getattr(kind, "arguments", None) or () if name != _LEARNS}


def _kind(name: str) -> type[torch.nn.Module] | None:
    """Find the class of layers called ``name`` that files hold."""
    own = next((kind for kind in _KINDS if kind.__name__ == name), None)
    export = export_named(name)
    found = own or (None if export is None else export.kind)
    return None if found is None or _checks(found) is None else found


def save_network(path: str | Path, net: torch.nn.Sequential) -> None:
    """Write the layers of ``net`` and their weights to ``path``, as a whole or not at all.

    Raises:
        UserError: for a layer that files do not hold, or one with tensors beside its weights.
    """
    for layer in net.modules():
        if isinstance(layer, nn.TapLinear):
            layer.settle()
    layers = _describe(net, "")
    wanted: dict[str, tuple[int, ...]] = {}
    _check_layers(Field(path, "layers", layers, UserError), "", wanted)
    state = net.state_dict()
    for name in state.keys() - wanted.keys() - _constants(net):
        raise UserError(f"{name!r} is neither a weight nor a constant of neurons, which is all that the file holds")
    content = {"format": FORMAT, "layers": layers, "weights": {name: state[name] for name in wanted}}
    write_tensors(path, canonical(content))


def load_network(path: str | Path) -> nn.Sequential:
    """Read the network of a file of :func:`save_network`, for inference (rules are not kept).

    All of the file is checked before a layer is made: records against their checksums, arguments of layers, and weights
    against the arguments, so that the network takes no more memory than they do.

    Raises:
        CheckpointError: for a file that is missing, damaged or another program's, naming the fault.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no network at {path}")
    try:
        content = load_plain(path)
    except NotPlainError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    except (UserError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable network ({error}): truncated, or of another program") from None
    if not isinstance(content, dict) or type(content.get("format")) is not int or content["format"] != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} has format {brief(found)}, expected {FORMAT}")
    field = Field(path, "", content)
    field.mapping(("layers", "weights"))
    wanted: dict[str, tuple[int, ...]] = {}
    _check_layers(field.at("layers"), "", wanted)
    weights = field.at("weights")
    weights.mapping(wanted, wanted)
    for name, shape in wanted.items():
        weights.at(name).tensor(shape, torch.float32)
    try:
        with torch.random.fork_rng(devices=[]):
            net = _rebuild(content["layers"])
        missing = net.load_state_dict(dict(content["weights"]), strict=False).missing_keys
        for name in set(missing) - _constants(net):
            raise UserError(f"{name} is missing")
    except (UserError, RuntimeError, ValueError, TypeError) as error:  # arguments that do not go together
        text = first_line(error)
        raise CheckpointError(f"{path} is damaged: its layers cannot be made: {text}") from None
    return net.eval().requires_grad_(False)


def _check_layers(field: Field, inside: str, wanted: dict[str, tuple[int, ...]]) -> None:
    """Check descriptions of layers, and add the shapes of their weights to ``wanted``, by name."""
    names: set[str] = set()
    for layer in field.sequence():
        entries = layer.sequence(3, tuple) if isinstance(layer.value, tuple) else layer.sequence(3)
        name, kind = entries[0].text(), entries[1].text()
        if not name or "." in name or name in names:
            entries[0].refuse("a name of its own, without a dot")
        names.add(name)
        if kind == "Sequential":
            _check_layers(entries[2], f"{inside}{name}.", wanted)
        elif _kind(kind) is not None:
            wanted.update({f"{inside}{name}.{own}": shape for own, shape in _check_arguments(entries[2], kind).items()})
        else:
            raise CheckpointError(f"{brief(kind)} is no layer of this version")


def _check_arguments(field: Field, name: str) -> dict[str, tuple[int, ...]]:
    """Check the arguments of a layer; return the shapes of its weights."""
    kind = _kind(name)
    assert kind is not None
    checks = _checks(kind)
    assert checks is not None
    found = field.mapping([key for key in checks if key not in _UNSTATED], checks)
    for key, check in checks.items():
        if key in found:
            check(field.at(key))
    given = field.value
    if kind is nn.Linear:
        shape: tuple[int, ...] = (given["out_features"], given["in_features"])
    elif kind is nn.TapLinear:
        shape = (given["out_features"], given["taps"] * given["features"])
    elif kind is nn.Conv2d:
        if given["in_channels"] % given["groups"] or given["out_channels"] % given["groups"]:
            field.at("groups").refuse("a divisor of the channels")
        shape = (given["out_channels"], given["in_channels"] // given["groups"], *_pair(given["kernel_size"]))
    else:
        return {}
    return {"weight": shape, **({"bias": shape[:1]} if given["bias"] else {})}


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _constants(net: torch.nn.Module) -> set[str]:
    """List the names of tensors that stand in the file as arguments, or in weights of 0, as the masks of taps do."""
    own = {nn.Delay: "delays", nn.TapLinear: "mask"}
    return {f"{name}.{own[type(layer)]}" for name, layer in net.named_modules() if type(layer) in own} | {
        f"{name}.{own}"
        for name, layer in net.named_modules()
        if isinstance(layer, ConstantLayer)
        for each in layer.neuron_constants().values()
        for own in (each.buffer, each.learned)
    }


def _describe(net: torch.nn.Sequential, inside: str) -> list[tuple[str, str, Any]]:
    layers: list[tuple[str, str, Any]] = []
    for name, layer in net.named_children():
        kind = type(layer)
        if graph.in_order(layer):
            layers.append((name, "Sequential", _describe(layer, f"{inside}{name}.")))  # type: ignore[arg-type]
            continue
        if _checks(kind) is None:
            raise UserError(f"layer {inside + name!r} is a {kind.__name__}, which cannot be written to a file")
        arguments = {
            key: value.detach().cpu().clone() if isinstance(value, Tensor) else value  # without the rest of its storage
            for key, value in graph.arguments(layer).items()
            if key != _LEARNS and (key not in _UNSTATED or value != _UNSTATED[key])
        }
        layers.append((name, kind.__name__, arguments))
    return layers


def _rebuild(layers: list[tuple[str, str, Any]]) -> nn.Sequential:
    made: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for name, kind_name, arguments in layers:
        if kind_name == "Sequential":
            made[name] = _rebuild(arguments)
            continue
        kind = _kind(kind_name)
        assert kind is not None
        taken = getattr(kind, "arguments", None) or ()
        unstated = {key: value for key, value in {**_UNSTATED, _LEARNS: False}.items() if key in taken}
        made[name] = graph.rebuild(kind, {**unstated, **arguments})
    return nn.Sequential(made)
