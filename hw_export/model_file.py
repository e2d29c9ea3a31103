"""A network in a file of plain data and tensors: it loads with ``torch.load(weights_only=True)``."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import CheckpointError, UserError
from spikelfp.files import write_tensors
from spikelfp.printable import brief, first_line
from spikelfp.untrusted.content import NotPlainError, canonical, load_plain
from spikelfp.untrusted.fields import Field

FORMAT = 1

_POOL = ("kernel_size", "stride", "padding", "ceil_mode")
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features"),
    "Conv2d": (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "padding_mode",
    ),
    "LIF": ("beta", "threshold", "reset", "denominator"),
    "AvgPool2d": (*_POOL, "count_include_pad", "divisor_override"),
    "MaxPool2d": (*_POOL, "dilation"),
    "Dropout": ("p",),
    "Flatten": (),
    "ReLU": (),
    "Heaviside": (),
}  # fmt: skip
"""Arguments of each layer; all are attributes of the same name. Layers of weights also have ``bias``."""


def save_network(path: str | Path, net: torch.nn.Sequential) -> None:
    """Write the layers of ``net`` and their weights to ``path``, whole or not at all."""
    content = {"format": FORMAT, "layers": _describe(net), "weights": net.state_dict()}
    write_tensors(path, canonical(content))


def load_network(path: str | Path) -> nn.Sequential:
    """Read the network of a file of :func:`save_network`, for inference (rules are not kept).

    All of the file is checked before a layer is made: records against their checksums, arguments of layers, and weights
    against the arguments, so that the network takes no more memory than they do.

    Raises:
        CheckpointError: for a file that is missing, damaged or another's, naming what is wrong.
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
        net.load_state_dict(dict(content["weights"]))
    except (UserError, RuntimeError, ValueError, TypeError) as error:  # arguments that do not go together
        text = first_line(error)
        raise CheckpointError(f"{path} is damaged: its layers cannot be made: {text}") from None
    return net.eval().requires_grad_(False)


def _check_layers(field: Field, inside: str, wanted: dict[str, tuple[int, ...]]) -> None:
    """Check descriptions of layers, and add the shapes of their weights to ``wanted``, by name."""
    names: set[str] = set()
    for layer in field.sequence():
        parts = layer.sequence(3, tuple) if isinstance(layer.value, tuple) else layer.sequence(3)
        name, kind = parts[0].text(), parts[1].text()
        if not name or "." in name or name in names:
            parts[0].refuse("a name of its own, without a dot")
        names.add(name)
        if kind == "Sequential":
            _check_layers(parts[2], f"{inside}{name}.", wanted)
        elif kind in _ARGUMENTS:
            wanted.update({f"{inside}{name}.{own}": shape for own, shape in _check_arguments(parts[2], kind).items()})
        else:
            raise CheckpointError(f"{brief(kind)} is no layer of this version")


def _check_arguments(field: Field, kind: str) -> dict[str, tuple[int, ...]]:
    """Check the arguments of a layer; returns the shapes of its weights."""
    known = (*_ARGUMENTS[kind], *(("bias",) if kind in ("Linear", "Conv2d") else ()))
    field.mapping(known, known)
    given = field.value
    for name, each in field.items():
        if name in ("bias", "ceil_mode", "count_include_pad"):
            each.flag()
        elif name in ("in_features", "out_features", "in_channels", "out_channels", "groups"):
            each.whole(1)
        elif name in ("kernel_size", "stride", "dilation"):
            _check_sizes(each, 1)
        elif name == "padding" and kind == "Conv2d" and isinstance(each.value, str):
            each.text(("same", "valid"))
        elif name == "padding":
            _check_sizes(each, 0)
        elif name == "padding_mode":
            each.text(("zeros", "reflect", "replicate", "circular"))
        elif name == "divisor_override" and each.value is not None:
            each.whole(1)
        elif name in ("beta", "threshold"):
            each.number(0, 1 if name == "beta" else math.inf)
        elif name == "p":
            each.number(0, 1)
        elif name in ("reset", "denominator"):
            each.text()
    if kind == "Linear":
        shape: tuple[int, ...] = (given["out_features"], given["in_features"])
    elif kind == "Conv2d":
        if given["in_channels"] % given["groups"] or given["out_channels"] % given["groups"]:
            field.at("groups").refuse("a divisor of the channels")
        shape = (given["out_channels"], given["in_channels"] // given["groups"], *_pair(given["kernel_size"]))
    else:
        return {}
    return {"weight": shape, **({"bias": shape[:1]} if given["bias"] else {})}


def _check_sizes(field: Field, least: int) -> None:
    """Check a number of pixels, or two, of the rows and of the columns."""
    for each in field.sequence(2, tuple) if isinstance(field.value, tuple) else [field]:
        each.whole(least, 1 << 20)


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _describe(net: torch.nn.Sequential) -> list[tuple[str, str, Any]]:
    layers: list[tuple[str, str, Any]] = []
    for name, layer in net.named_children():
        kind = type(layer).__name__
        if isinstance(layer, torch.nn.Sequential):
            layers.append((name, "Sequential", _describe(layer)))
            continue
        if kind not in _ARGUMENTS:
            raise UserError(f"layer {name!r} is a {kind}, which cannot be written to a file")
        arguments = {key: getattr(layer, key) for key in _ARGUMENTS[kind]}
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            arguments["bias"] = layer.bias is not None
        layers.append((name, kind, arguments))
    return layers


def _rebuild(layers: list[tuple[str, str, Any]]) -> nn.Sequential:
    made: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for name, kind, arguments in layers:
        if kind == "Sequential":
            made[name] = _rebuild(arguments)
        else:
            made[name] = getattr(nn, kind)(**arguments)
    return nn.Sequential(made)
