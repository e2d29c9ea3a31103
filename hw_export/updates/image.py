"""The weights of a network as the whole numbers a chip holds."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.quantize.prepare import as_floats
from hw_export.updates.packing import FLOAT64, TAGS, VALUE_BITS, typed
from spikelfp.errors import ShapeError, UserError
from spikelfp.quantized import Grid

LIMIT = 2**24
"""Largest magnitude of an integer: float32, in which live parameters are rounded, holds every whole number up to it."""

MOST_ELEMENTS = 2**31 - 1
"""Of one parameter."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter: its name in the network, its shape, and the grid its integers lie on."""

    name: str
    shape: tuple[int, ...]
    grid: Grid

    def __post_init__(self) -> None:
        low, high, scale = self.grid.low, self.grid.high, self.grid.scale
        if not self.name.isprintable() and any("\ud800" <= char <= "\udfff" for char in self.name):
            raise UserError(f"streams and images name parameters in UTF-8, and {self.name!r} is no text: rename it")
        if not -LIMIT <= low <= high <= LIMIT:
            raise UserError(f"{self.name}: a grid from {low} to {high} is not within ±2^24")
        if self.size > MOST_ELEMENTS:
            raise UserError(f"{self.name}: {self.size} elements are more than the {MOST_ELEMENTS} a stream can hold")
        if isinstance(scale, Tensor):
            per_channel = (self.shape[0], *[1] * (len(self.shape) - 1)) if self.shape else ()
            if tuple(scale.shape) != per_channel:
                raise ShapeError(f"{self.name}: scales of shape {tuple(scale.shape)}, expected {per_channel}")
        if not all(math.isfinite(value) and value > 0 for value in self.scales):
            raise UserError(f"{self.name}: a scale must be finite and above 0, got {self.scales[:3]}")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def scales(self) -> list[float]:
        """The scale, or one for each output channel."""
        scale = self.grid.scale
        return scale.double().flatten().tolist() if isinstance(scale, Tensor) else [float(scale)]

    @property
    def bits(self) -> int:
        """Least of 2, 4, 8, 16 and 32 bits, in two's complement, that hold the grid."""
        low, high = self.grid.low, self.grid.high
        return next(bits for bits in VALUE_BITS if -(1 << bits - 1) <= low and high < 1 << bits - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8, int16 or int32: what an element is kept in."""
        return np.dtype(f"<i{max(self.bits, 8) // 8}")

    def entry(self) -> list[Any]:
        """As in the header of a stream: name, shape, bits, lowest and highest integer, scale or scales."""
        grid = self.grid
        per_channel = isinstance(grid.scale, Tensor)
        scale = typed(np.array(self.scales), FLOAT64) if per_channel else self.scales[0]
        return [self.name, list(self.shape), self.bits, grid.low, grid.high, scale]

    def integers(self, live: Tensor) -> NDArray[Any]:
        """``live`` on the grid, in :attr:`dtype`; NaN and infinity are refused."""
        if tuple(live.shape) != self.shape:
            raise ShapeError(f"{self.name} has shape {tuple(live.shape)}, the grid was chosen for {self.shape}")
        if not torch.isfinite(live).all():
            raise UserError(f"{self.name} holds NaN or infinity, which no integer stands for")
        return self.grid.to_integers(live.detach()).to("cpu", torch.int32).numpy().astype(self.dtype)


class IntegerImage:
    """Whole numbers for every parameter of a network: what a chip holds, and what a stream of updates changes.

    parameters: in the order of the stream. arrays: one for each, int8, int16 or int32, of the parameter's shape.
    step: after how many steps of training. notes: what whoever uses it should know, such as a stream that was cut.
    """

    def __init__(
        self,
        parameters: tuple[Parameter, ...],
        arrays: Mapping[str, NDArray[Any]],
        step: int = 0,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.parameters, self.step, self.notes = parameters, step, notes
        self.arrays = {p.name: np.ascontiguousarray(arrays[p.name], p.dtype).reshape(p.shape) for p in parameters}

    @staticmethod
    def of(net: torch.nn.Module, grids: Mapping[str, Grid], step: int = 0) -> IntegerImage:
        """The live parameters of ``net`` on ``grids``, ``round(w / scale)`` limited to the grid.

        Raises :class:`~spikelfp.errors.UserError` for a grid without a parameter, a parameter without a grid, and for
        values that are not finite.
        """
        live = dict(net.named_parameters())
        for name in [*grids, *live]:
            if name not in live or name not in grids:
                raise UserError(f"{name}: {'a grid without a parameter' if name in grids else 'no grid is given'}")
        parameters = tuple(Parameter(name, tuple(live[name].shape), grids[name]) for name in live)
        return IntegerImage(parameters, {p.name: p.integers(live[p.name]) for p in parameters}, step)

    @property
    def grids(self) -> dict[str, Grid]:
        """The grid of every parameter."""
        return {p.name: p.grid for p in self.parameters}

    @property
    def nbytes(self) -> int:
        """Bytes of all integers: what sending the whole image takes."""
        return sum(array.nbytes for array in self.arrays.values())

    def write(self, parameter: str, indices: NDArray[np.int64], values: NDArray[np.int32]) -> None:
        """Set elements, counted in row-major order, to absolute values."""
        self.arrays[parameter].reshape(-1)[indices] = values

    def copy(self) -> IntegerImage:
        """One that can be changed by itself."""
        return IntegerImage(
            self.parameters, {name: array.copy() for name, array in self.arrays.items()}, self.step, self.notes
        )

    def digest(self) -> bytes:
        """SHA-256 over every parameter's header entry, as in a stream, followed by its integers, little endian."""
        total = hashlib.sha256()
        for p in self.parameters:
            total.update(cbor2.dumps(p.entry()))
            total.update(self.arrays[p.name].astype(p.dtype, copy=False).data)
        return total.digest()

    def typed_arrays(self) -> list[cbor2.CBORTag]:
        """The integers as CBOR typed arrays, in the order of the parameters."""
        return [typed(self.arrays[p.name].reshape(-1), TAGS[p.dtype.itemsize]) for p in self.parameters]

    def saturated(self) -> dict[str, int]:
        """How many elements of each parameter lie at an end of its grid, where they cannot grow any more."""
        return {
            p.name: int(((self.arrays[p.name] <= p.grid.low) | (self.arrays[p.name] >= p.grid.high)).sum())
            for p in self.parameters
        }

    def to_net(self, net: torch.nn.Module) -> torch.nn.Module:
        """A copy of ``net`` whose parameters are ``scale · q``: what the integers stand for. It computes with them as
        they are, also where ``net`` is trained with quantised weights."""
        made = copy.deepcopy(net)
        as_floats(made)
        live = dict(made.named_parameters())
        for p in self.parameters:
            if p.name not in live or tuple(live[p.name].shape) != p.shape:
                raise ShapeError(f"the network has no parameter {p.name} of shape {p.shape}")
            integers = torch.from_numpy(self.arrays[p.name].astype(np.int32)).to(live[p.name])
            live[p.name].data.copy_(p.grid.to_real(integers))
        return made

    def at(self, step: int, notes: tuple[str, ...] = ()) -> IntegerImage:
        """The same integers, at another step."""
        made = copy.copy(self)
        made.step, made.notes = step, notes
        return made
