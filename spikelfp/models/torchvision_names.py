"""Names that torchvision gives to the layers of the networks that have its shape.

The layers are those of ``torchvision.models.vgg16``, ``vgg16_bn``, ``resnet18`` and ``resnet34``. The networks here
have other names, since their blocks are nested and :class:`spikelfp.nn.Noise` may stand in front of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spikelfp import nn

HINTS = {
    "vgg16": "--head 7x7 has the dense layers of torchvision's network, for images of any size",
    "vgg16-bn": "--head 7x7 has the dense layers of torchvision's network, for images of any size",
    "resnet18": "--stem 7x7 begins as torchvision's network, for images of any size",
    "resnet34": "--stem 7x7 begins as torchvision's network, for images of any size",
}
"""Options with which the networks have the shape of torchvision's for small images, too."""


def torchvision_names(net: torch.nn.Module, model: str) -> dict[str, str]:
    """Find the layers of a network by torchvision's names.

    Args:
        net: a network.
        model: its name in :data:`spikelfp.models.models`.

    Returns:
        The name here of each layer with weights by its name there; empty for other networks than those of
        :data:`HINTS`.
    """
    if model not in HINTS:
        return {}
    return dict(_vgg(net) if model.startswith("vgg") else _resnet(net))


def _vgg(net: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """``features.N`` and ``classifier.N``, numbered as here but for noise, the average and the flattening."""
    part, number = "features", 0
    for name, layer in net.named_children():
        if isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten):
            part, number = "classifier", 0
        elif not isinstance(layer, nn.Noise):
            yield f"{part}.{number}", name
            number += 1


def _resnet(net: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """``conv1``, ``bn1``, ``layerN.M.convK``, ``layerN.M.bnK``, ``layerN.M.downsample.K``, ``fc``."""
    for name, layer in net.named_children():
        if name == "conv1":
            yield from _numbered(layer, name, "")
        elif name == "fc":
            yield "fc", next(own for own, each in _weighted(layer, name) if isinstance(each, nn.Linear))
        elif name.startswith("layer"):
            for block, each in layer.named_children():
                where = f"{name}.{block}"
                inner, shortcut = each.get_submodule("0.branches").children()
                yield from _numbered(inner, f"{where}.0.branches.0", f"{where}.")
                for number, (own, _) in enumerate(_weighted(shortcut, f"{where}.0.branches.1")):
                    yield f"{where}.downsample.{number}", own


def _numbered(layer: torch.nn.Module, name: str, there: str) -> Iterator[tuple[str, str]]:
    """Convolutions and BatchNorms of a part, each kind numbered from 1."""
    convolutions = norms = 0
    for own, each in _weighted(layer, name):
        if isinstance(each, nn.BatchNorm2d):
            norms += 1
            yield f"{there}bn{norms}", own
        else:
            convolutions += 1
            yield f"{there}conv{convolutions}", own


def _weighted(layer: torch.nn.Module, name: str) -> Iterator[tuple[str, torch.nn.Module]]:
    """Layers with weights of their own, by their names in the network."""
    for inside, each in layer.named_modules():
        if any(True for _ in each.parameters(recurse=False)):
            yield f"{name}.{inside}" if inside else name, each
