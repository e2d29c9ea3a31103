"""A stage of a network: layers that add up, and the neurons behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hw_export.integer import exact
from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.constants import Constants
from hw_export.integer.network import Flatten, IntegerNetwork, Neurons, Pool
from hw_export.integer.products import Product, totals
from spikelfp.errors import UserError

Totals = dict[str, Tensor]
"""For each layer of weights, by name: ``Σ |x|`` of what came to each of its inputs, int64.

Event by event, for each stage, by name: how many events came from each input.
"""
CURRENT = ".current"
"""Behind the name of the neurons: the state that holds their currents."""
MOST_MATRIX = 2**27  # weights that a stage may have as one matrix


class Stage:
    """What stands between the spikes of one layer of neurons and those of the next.

    name: of the neurons. shape: of their output for a sample and step. in_shape: of the input. bits: of a weight.
    registers: names of what each neuron keeps from step to step, its membrane and, with a synapse, its current.
    """

    def __init__(
        self,
        layers: tuple[Product | Pool | Flatten, ...],
        constants: Constants,
        name: str,
        in_shape: tuple[int, ...],
        shape: tuple[int, ...],
        bits: int,
    ) -> None:
        self.bits = bits
        self.layers, self.constants, self.name = layers, constants, name
        self.in_shape, self.shape, self.size = in_shape, shape, math.prod(shape)
        self.registers = (name,) if constants.arithmetic.synapse is None else (name, name + CURRENT)
        self._offset: Tensor | None = None
        self._matrix: Tensor | None = None

    @property
    def products(self) -> tuple[Product, ...]:
        """Its layers of weights."""
        return tuple(layer for layer in self.layers if isinstance(layer, Product))

    def sums(self, x: Tensor, peak: int, seen: Totals | None = None, times: int = 1) -> Tensor:
        """What whole numbers ``x [R, *in_shape]`` of magnitude up to ``peak`` add up to at the neurons, without biases.

        ``[R, N]`` in float32, float64 or int64, whichever holds all sums exactly. seen: ``times`` the totals of what
        came to each layer of weights are added to it.
        """
        for layer in self.layers:
            if isinstance(layer, Product):
                if seen is not None:
                    seen[layer.name] = seen.get(layer.name, 0) + times * totals(x)
                peak *= layer.gain()
                x = layer.sums(x, exact.dtype_for(peak, layer.name))
            elif isinstance(layer, Pool):
                peak *= math.prod(layer.kernel) if layer.kind == "sum" else 1
                x = exact.pooled(x.to(exact.dtype_for(peak, layer.name)), layer)
            else:
                x = x.flatten(1)
        if peak << self.constants.arithmetic.shift >= exact.LIMIT:
            exact.dtype_for(peak << self.constants.arithmetic.shift, self.name)
        return x.flatten(1).contiguous()

    def offset(self) -> Tensor:
        """What the biases add up to at the neurons at every step, int64 ``[N]``: the sums of no input."""
        if self._offset is None:
            x = torch.zeros(1, *self.in_shape, dtype=torch.int64, device=self.constants.threshold.device)
            for layer in self.layers:
                if isinstance(layer, Product):
                    x = layer.sums(x, torch.int64)
                    x = x + layer.bias.view(-1, *[1] * (x.dim() - 2))
                else:
                    x = exact.pooled(x, layer) if isinstance(layer, Pool) else x.flatten(1)
            self._offset = x.flatten()
        return self._offset

    def matrix(self) -> Tensor:
        """What an event of each input adds to each of the neurons, int64 ``[K, N]``.

        Raises :class:`~spikelfp.errors.UserError` where that is no sum (pooling by the largest value), or too large.
        """
        if self._matrix is None:
            inputs = math.prod(self.in_shape)
            for layer in self.layers:
                if isinstance(layer, Pool) and layer.kind != "sum":
                    raise UserError(f"layer {layer.name!r} takes the largest of its inputs, but events are added")
            if inputs * self.size > MOST_MATRIX:
                raise UserError(
                    f"the {inputs} inputs of the neurons {self.name!r} reach {self.size} of them: event by event at "
                    f"most {MOST_MATRIX} weights are simulated"
                )
            each = torch.eye(inputs, dtype=torch.int8, device=self.constants.threshold.device)
            self._matrix = self.sums(each.view(inputs, *self.in_shape), 1).to(torch.int64)
        return self._matrix

    def operations(self, seen: Totals) -> int:
        """How many weights that are not zero the events of ``seen`` reach."""
        if self.constants.arithmetic.by_event:
            return int((seen[self.name] * (self.matrix() != 0).sum(1)).sum())
        return sum(int((seen[product.name] * product.reached()).sum()) for product in self.products)

    def written(self) -> None:
        """Weights or biases have changed: forget what was made from them."""
        self._offset = self._matrix = None


def stages(network: IntegerNetwork, arithmetic: Arithmetic, device: torch.device) -> Iterator[Stage]:
    """The stages of ``network`` in the order they run, with copies of its weights on ``device``.

    Raises :class:`~spikelfp.errors.UserError` for neurons that the ``arithmetic`` cannot be.
    """
    before: list[Product | Pool | Flatten] = []
    came = in_shape = network.input_shape
    last = network.neurons[-1]
    for layer, shape in zip(network.layers, network.shapes, strict=True):
        if isinstance(layer, Neurons):
            constants = Constants.of(layer, arithmetic, shape, layer is last).to(device)
            yield Stage(tuple(before), constants, layer.name, in_shape, shape, network.bits)
            before, in_shape = [], shape
        elif isinstance(layer, (Pool, Flatten)):
            before.append(layer)
        else:
            before.append(Product(layer, came, shape, network.bits, device))
        came = shape
