"""Export of a kind of neurons: written as layers that are known, as a node of NIR and back, and in integers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import nir
import numpy as np
import torch
from torch import Tensor

from spikelfp import checks
from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters, Reset
from spikelfp.nn import graph

if TYPE_CHECKING:
    from hw_export.nir.dialects import Dialect

ARGUMENT = "argument_"
"""Prefix of the names of a layer's arguments in metadata."""

Numbers = float | np.ndarray
"""A constant of a layer: one number for all neurons, or float64 that broadcasts to the shape of a step."""


def numbers(value: float | Tensor | np.ndarray) -> Numbers:
    """Convert constants of a layer to float64.

    Args:
        value: a number, a tensor or an array.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    return value.astype(np.float64) if isinstance(value, np.ndarray) else float(value)


def stored(name: str, value: Any) -> Any:
    """Convert an argument of a layer to the form that metadata hold; ``None`` is left out.

    Raises:
        UserError: for what is no number, text, flag or tensor.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise UserError(
            f"the argument {name} is a {type(value).__name__}, and metadata hold numbers, texts, flags and tensors: "
            "write what makes the neurons again in facts, and read it in make"
        )
    return value


def constant(value: Numbers) -> float | Tensor:
    """Convert constants to those of a layer, float32 where they are a vector.

    Args:
        value: a number or an array.
    """
    return torch.from_numpy(value.astype(np.float32)) if isinstance(value, np.ndarray) else value


def least(value: float | Tensor) -> float:
    """Find the smallest of the constants of a layer."""
    return float(np.min(numbers(value)))


def most(value: float | Tensor) -> float:
    """Find the largest of the constants of a layer."""
    return float(np.max(numbers(value)))


def compact(values: Any) -> Numbers:
    """Reduce equal values to one number; else returns the array, of size 1 along every axis without change."""
    array = np.asarray(values, np.float64)
    if array.min() == array.max():
        return float(array.flat[0])
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if (array == first).all():
            array = first
    return array


@dataclass(frozen=True)
class LIFConstants:
    """Constants of a layer of neurons as read from a file.

    The neurons step ``Y[t] = α Y[t−1] + scale ⊙ I[t] + shift``, ``U[t] = β U[t−1] + Y[t]`` and fire at ``U >
    threshold``. Each constant is one number, or an array that broadcasts to the shape of the layer.

    Attributes:
        beta: decay of the membrane per step.
        threshold: of the membrane.
        alpha: decay of the synaptic current per step, 0 without a synapse.
        scale: of the current.
        shift: constant part of the current.
    """

    beta: Numbers
    threshold: Numbers
    alpha: Numbers = 0.0
    scale: Any = 1.0
    shift: Any = 0.0


@dataclass(frozen=True)
class NodeContext:
    """Place in a graph of the neurons that become a node.

    Attributes:
        name: of the layer.
        shape: of one sample at one step.
        dialect: name and conventions of the dialect in which the file is written.
        gain: how many times too large currents arrive, because average pooling in front is written as a sum.
        offset: constant current that the node has to add; 0 for none.
        adder: name of the layer that adds it.
        write_if: whether neurons without leak may be written as IF.
    """

    name: str
    shape: tuple[int, ...]
    dialect: tuple[str, Dialect]
    gain: int = 1
    offset: float | np.ndarray = 0.0
    adder: str = ""
    write_if: bool = False

    def full(self, value: float | Tensor | np.ndarray) -> np.ndarray:
        """Repeat a number, or constants that broadcast, to the shape of the layer, float64."""
        return np.array(np.broadcast_to(numbers(value), self.shape), np.float64)

    def no_offset(self, because: str) -> None:
        """Refuse a constant current, which the node cannot hold.

        Args:
            because: end of the error, a relative clause on the neurons.

        Raises:
            UserError: where there is an offset, naming both layers.
        """
        if np.any(np.asarray(self.offset)):
            raise UserError(f"layer {self.adder!r} adds an offset in front of the neurons {self.name!r}, {because}")


class NeuronExport:
    """Export of one kind of neurons; a file with a subclass, registered by :func:`exports`, is all that a kind needs.

    The shortest way is :meth:`lower`: neurons that are LIF neurons by another name become those, and NIR, quantisation,
    chips, files of networks and simulators follow; whole numbers have the arithmetic of LIF neurons only. Neurons with
    dynamics of their own, for which NIR has a node, override :meth:`write`, and where the arguments of the layer are
    not enough to make it again, :meth:`make`.

    Attributes:
        kind: class of the layers; set by :func:`exports`.
        standard: whether NIR's own node says all there is, so that it is read without further metadata.
        takes_gain: whether :meth:`write` heeds ``gain``. If not, average pooling in front stays average pooling.
        takes_offset: whether :meth:`write` heeds ``offset``. If not, a ``Scale`` with a shift in front is refused.
        form: for the standard kinds, whether they have a synapse and whether they feed back.
    """

    kind: type[torch.nn.Module]
    standard: ClassVar[bool] = False
    takes_gain: ClassVar[bool] = False
    takes_offset: ClassVar[bool] = False
    form: ClassVar[tuple[bool, bool] | None] = None

    @property
    def name(self) -> str:
        """Name of the class, by which files know the kind."""
        return self.kind.__name__

    def lower(self, layer: Any) -> Sequence[torch.nn.Module] | None:
        """Write ``layer`` as other layers, one after the other, with the same spikes; ``None`` where it stays."""
        return None

    def write(self, layer: Any, at: NodeContext) -> nir.NIRNode:
        """Make the node of a layer, every parameter a full float64 array (:meth:`NodeContext.full`).

        Args:
            layer: to be written.
            at: its place in the graph.

        Raises:
            UserError: where NIR has no node for it.
        """
        raise UserError(f"layer {at.name!r} is a {self.name}, which NIR has no node for: leave it out or replace it")

    def facts(self, layer: Any, at: NodeContext) -> dict[str, Any]:
        """Collect the node's metadata; for neurons that are not standard, the arguments of the layer too.

        Args:
            layer: to be written.
            at: its place in the graph.

        Returns:
            Numbers, texts and arrays by name.
        """
        found = {"layer": at.name, "dt": at.dialect[1].dt}
        if self.standard:
            return found
        given = {f"{ARGUMENT}{key}": stored(key, value) for key, value in graph.arguments(layer).items()}
        return found | {"neuron": self.name} | given

    def make(self, arguments: dict[str, Any], feedback: torch.nn.Module | None) -> torch.nn.Module:
        """Make the layer of a node that is not standard, from the arguments that are in its metadata.

        Args:
            arguments: of the layer, by name, as they were when it was written.
            feedback: the weights by which spikes return to the neurons, where there are any.

        Raises:
            UserError: for arguments that do not go together.
        """
        if feedback is not None:
            raise UserError(f"{self.name} neurons with feedback cannot be made from their arguments alone")
        return self.kind(**arguments)

    def feedback(self, layer: Any) -> torch.nn.Module | None:
        """Find the weights by which spikes of ``layer`` return to it one step later; ``None`` without feedback."""
        return None

    def read(self, constants: LIFConstants, reset: Reset, feedback: torch.nn.Module | None) -> torch.nn.Module:
        """Make the layer of a standard node.

        Args:
            constants: of the neurons.
            reset: effect of a spike on the membrane.
            feedback: the weights by which spikes return to the neurons, where there are any.
        """
        raise NotImplementedError  # is called for kinds with a form alone

    def integer(self, name: str, layer: Any) -> LIFParameters:
        """Return the constants by which a layer runs in integers (:class:`hw_export.integer.Arithmetic`).

        Args:
            name: of the layer, for errors.
            layer: of neurons.

        Raises:
            UserError: for a kind without such an arithmetic.
        """
        raise UserError(f"layer {name!r} is a {self.name}, which no chip of spiking neurons holds")


_KINDS: dict[type[torch.nn.Module], NeuronExport] = {}


def exports(kind: type[torch.nn.Module]) -> Callable[[type[NeuronExport]], type[NeuronExport]]:
    """Class decorator: registers a :class:`NeuronExport` for the layers of class ``kind``.

    Args:
        kind: class of the layers.

    Raises:
        UserError: for another class of a name that is registered already.
    """

    def add(cls: type[NeuronExport]) -> type[NeuronExport]:
        taken = next((own for own in _KINDS if own is kind or own.__name__ == kind.__name__), None)
        if taken is not None and (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
            raise UserError(f"there is an export of neurons called {kind.__name__} already: choose another name")
        if taken is not None:
            del _KINDS[taken]  # the same file, imported again
        export = cls()
        export.kind = kind
        _KINDS[kind] = export
        return cls

    return add


def export_of(layer: torch.nn.Module) -> NeuronExport | None:
    """Find the export of a layer by its exact class, since one derived from it may compute something else.

    Args:
        layer: of any kind.

    Returns:
        The export; ``None`` for a class without one.
    """
    return _KINDS.get(type(layer))


def export_named(name: str) -> NeuronExport | None:
    """Find the export of a kind.

    Args:
        name: of its class.

    Returns:
        The export; ``None`` for an unknown name.
    """
    return next((export for kind, export in _KINDS.items() if kind.__name__ == name), None)


def standard(synapse: bool, feeds_back: bool) -> NeuronExport:
    """Find the export of LIF neurons.

    Args:
        synapse: whether they have synaptic currents.
        feeds_back: whether their spikes return to them.
    """
    return next(export for export in _KINDS.values() if export.form == (synapse, feeds_back))


def lowered(net: torch.nn.Module) -> torch.nn.Module:
    """Replace every layer that is other layers by another name, in a copy; return ``net`` itself without any.

    A layer ``name`` that becomes several has the last of them under its name, and those before as ``name_0`` and so on.

    Args:
        net: any network.

    Raises:
        UserError: for what is no network.
    """
    if not any(_lower(layer) for layer in checks.network(net).modules()):
        return net
    twin = copy.deepcopy(net)
    for holder in list(twin.modules()):
        made: OrderedDict[str, torch.nn.Module | None] = OrderedDict()
        for name, layer in holder._modules.items():
            layers = None if layer is None else _lower(layer)
            if layer is None or layers is None:
                made[name] = layer
                continue
            for index, each in enumerate(layers[:-1]):
                label = f"{name}_{index}"
                while label in holder._modules or hasattr(type(holder), label):
                    label += "_"
                made[label] = each
            made[name] = layers[-1].train(layer.training)
        if list(made.values()) != list(holder._modules.values()):
            holder._modules = made
    return twin


def _lower(layer: torch.nn.Module) -> Sequence[torch.nn.Module] | None:
    export = export_of(layer)
    layers = None if export is None else export.lower(layer)
    if layers is None:
        return None
    if not layers or any(_lower(each) for each in layers):
        raise UserError(f"{type(layer).__name__} neurons are to be exported as layers that are known, got {layers!r}")
    return layers
