"""What every simulator offers to the check."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain, read_chain
from hw_export.simulators.quiet import quiet
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import Registry


class NotInstalledError(Exception):
    """The simulator is not installed here."""


class UnsupportedError(Exception):
    """The simulator cannot run this file; the text says why."""


class Simulator(ABC):
    """Runs a NIR file, each layer's spikes watched.

    A simulator of your own is a class derived from this one with :meth:`spikes`, registered in :data:`SIMULATORS`;
    one that needs no package leaves ``package`` and ``module`` out.

    Attributes:
        name: the one it is registered by, else that of its package or class.
        package: its name in the package index.
        module: what to import.
        install: what to hand to ``pip install``, where the package alone would not go together with ours.
        resets: those it can run.
        cannot: why not the others, where there is more to say.
        latency: how many steps later than in our networks the spikes of each further layer come: those of the k-th
            layer of neurons (from 0) are ``k · latency`` steps late. :meth:`run` gives them without it.
    """

    name: str
    package: ClassVar[str] = ""
    module: ClassVar[str] = ""
    install: ClassVar[str] = ""
    resets: ClassVar[frozenset[str]] = frozenset({"zero", "subtract"})
    cannot: ClassVar[Mapping[str, str]] = MappingProxyType({})
    latency: ClassVar[int] = 0

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__(**facts)
        cls.name = cls.package or cls.__name__

    def version(self) -> str | None:
        """Find the version of the package, ``None`` where it is not installed."""
        if not self.module:
            return "unknown"
        if importlib.util.find_spec(self.module) is None:
            return None
        try:
            return importlib.metadata.version(self.package or self.module)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    def available(self) -> bool:
        """Whether the package is installed."""
        return self.version() is not None

    def run(self, path: str | Path, inputs: Tensor) -> dict[str, Tensor]:
        """Spikes of every LIF node of the file at ``path``, bool ``[T, B, …]``, by the name of the node.

        inputs: float32 ``[T, B, …]``, of the shape of the graph's input or of as many elements.

        Raises :class:`NotInstalledError`, and :class:`UnsupportedError` where the simulator cannot run the
        file.
        """
        if not self.available():
            wanted = self.install or self.package or self.module
            raise NotInstalledError(f"{self.name} is not installed: pip install {wanted}")
        chain = read_chain(path)
        for neuron in chain.neurons:
            if neuron.reset not in self.resets:
                reason = self.cannot.get(neuron.reset)
                raise UnsupportedError(
                    f"{self.name} cannot reset by {neuron.reset!r} (neurons {neuron.name!r})"
                    + (f": {reason}" if reason else "")
                )
        sequence = inputs.reshape(*inputs.shape[:2], -1).to(torch.float32)
        if sequence[0, 0].numel() != torch.Size(chain.input_shape).numel():
            raise ShapeError(f"the file takes inputs of {chain.input_shape}, got {tuple(inputs.shape[2:])} per step")
        # building layers draws random weights first: the caller's random state is not to move
        with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = self.spikes(chain, sequence.unflatten(2, chain.input_shape))
        return {name: spikes.bool() for name, spikes in found.items()}

    @abstractmethod
    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        """Spikes of every LIF node, latency removed; ``chain`` is fresh from the file and may be changed."""


class _Simulators(Registry[Simulator]):
    """Simulators by name, which becomes their ``name``."""

    def register(self, name: str, **facts: Any) -> Callable[[Any], Any]:
        """Make a decorator that files an instance of a class under ``name``, or an object as it is."""
        file = super().register(name, **facts)

        def add(entry: Any) -> Any:
            made = entry() if isinstance(entry, type) and issubclass(entry, Simulator) else entry
            if not isinstance(made, Simulator):
                raise UserError(f"simulator {name!r} must be a class derived from Simulator, got {entry!r}")
            file(made)
            made.name = name
            return entry

        return add


SIMULATORS = _Simulators("simulator")


class Watch:
    """Keeps what some modules of a torch network give out, call by call."""

    def __init__(self, modules: dict[str, torch.nn.Module]) -> None:
        self._seen: dict[str, list[Tensor]] = {name: [] for name in modules}
        self._handles = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: self._seen[name].append(_first(output).detach().clone())
            )
            for name, module in modules.items()
        ]

    def stacked(self) -> dict[str, Tensor]:
        """All outputs of each module, the calls along a new first axis; ends the watch."""
        for handle in self._handles:
            handle.remove()
        return {name: torch.stack(outputs) for name, outputs in self._seen.items()}


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The spikes of a module that gives ``spikes`` or ``(spikes, state)``."""
    return output if isinstance(output, Tensor) else output[0]


def is_vector(values: np.ndarray) -> bool:
    """Whether constants differ between the neurons of a layer."""
    return bool((values != values.flat[0]).any())


def tensor_of(values: np.ndarray) -> Tensor:
    """Constants of neurons as float32 of their shape, the kind of floats that importers compute with."""
    return torch.from_numpy(values.astype(np.float32))


def batch_flatten(net: torch.nn.Module) -> None:
    """Tell the ``Flatten`` modules of ``net`` of the batch axis, which NIR's dimensions do not count."""
    for module in net.modules():
        if isinstance(module, torch.nn.Flatten):
            module.start_dim += module.start_dim >= 0
            module.end_dim += module.end_dim >= 0
