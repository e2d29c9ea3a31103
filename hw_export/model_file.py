"""A network in a file of plain data and tensors: it loads with ``torch.load(weights_only=True)``."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import CheckpointError, DataError, UserError
from spikelfp.files import write_tensors
from spikelfp.untrusted import load_tensors

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
    write_tensors(path, content)


def load_network(path: str | Path) -> nn.Sequential:
    """The network of a file of :func:`save_network`, for inference (rules are not kept).

    Raises :class:`~spikelfp.errors.CheckpointError` for a file that is missing, damaged or another's.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no network at {path}")
    try:
        content = load_tensors(path)
        if content["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {content['format']}, expected {FORMAT}")
        with torch.device("meta"):  # layers can declare any size: none is made that the weights do not have
            declared = _rebuild(content["layers"]).state_dict()
        for name, value in declared.items():
            there = content["weights"].get(name)
            if there is None or there.shape != value.shape:
                found = "nothing" if there is None else tuple(there.shape)
                raise CheckpointError(f"{path}: {name} is {tuple(value.shape)} in its layers, {found} in its weights")
        with torch.random.fork_rng(devices=[]):
            net = _rebuild(content["layers"])
        net.load_state_dict(content["weights"])
    except CheckpointError:
        raise
    except DataError as error:
        raise CheckpointError(str(error)) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            f"{path} is not a readable network ({type(error).__name__}): truncated, or of another program"
        ) from None
    return net.eval().requires_grad_(False)


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
        elif kind in _ARGUMENTS:
            made[name] = getattr(nn, kind)(**arguments)
        else:
            raise CheckpointError(f"{kind!r} is no layer of this version")
    return nn.Sequential(made)
