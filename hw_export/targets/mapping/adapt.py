"""A network as the arithmetic of a chip runs it."""

from __future__ import annotations

from dataclasses import replace

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.network import IntegerNetwork, Neurons


def adapted(network: IntegerNetwork, arithmetic: Arithmetic) -> IntegerNetwork:
    """The same network in the chip's terms.

    A threshold ``k`` that sums must exceed is ``k + 1`` where the chip fires at ``>=``, which is the same for whole
    numbers. Without leak (β = 1) θ taken off at the spike and one step later are the same: whichever the chip has.
    """
    return replace(
        network,
        layers=tuple(_neurons(layer, arithmetic) if isinstance(layer, Neurons) else layer for layer in network.layers),
    )


def _neurons(layer: Neurons, arithmetic: Arithmetic) -> Neurons:
    reset = layer.reset
    if layer.beta == 1.0 and reset not in arithmetic.resets:
        other = {"subtract": "immediate", "immediate": "subtract"}.get(reset, reset)
        reset = other if other in arithmetic.resets else reset
    return replace(layer, reset=reset, threshold=layer.threshold + (1 if arithmetic.fires == ">=" else 0))
