"""Which layer the accuracy is lost in."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_export.quantize.make import quantize
from hw_export.quantize.network import QuantizedNetwork
from hw_export.quantize.rates import compare


@torch.no_grad()
def accuracy_by_layer(
    net: torch.nn.Module, quantized: QuantizedNetwork, inputs: Tensor, labels: Tensor, mask: Tensor | None = None
) -> dict[str, float]:
    """Accuracy of ``net`` with the weights of one layer quantised and all else in floats, by the name of the layer.

    inputs: of ``net``, ``[T, B, …]``. labels: int64 ``[B]``. mask: of :func:`compare`.
    One pass for each layer of weights.
    """
    found: dict[str, float] = {}
    for layer in quantized.report:
        floats = quantize(net, 32)
        weight = floats.get_submodule(layer.layer).weight
        assert isinstance(weight, Tensor)
        own = quantized.get_submodule(layer.layer).weight
        assert isinstance(own, Tensor)
        weight.copy_(own * layer.scale)
        accuracy = compare(floats, floats, inputs, labels, mask).float_accuracy
        assert accuracy is not None
        found[layer.layer] = accuracy
    return found
