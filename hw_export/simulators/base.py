"""What every simulator offers to the check."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_export.nir import Chain, Neuron, read_chain
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing is printed to stdout, warned or logged below an error; all is put back
    after, and so is ``sys.excepthook``, which brian2 replaces when it is imported."""
    before, hook = logging.root.manager.disable, sys.excepthook
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        sys.excepthook = hook


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Within the block ``module`` cannot be imported (``ModuleNotFoundError``), unless it was before."""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            sys.modules.pop(module, None)


LARGEST = 2**26
"""Entries of the largest matrix that is built."""


@dataclass(frozen=True)
class Stage:
    """``size`` neurons that receive ``weight @ x + bias`` (float64 ``[size, inputs]``, ``[size]``) at every
    step.

    beta, threshold: of each neuron, rounded to float32 as the importers of other simulators do, so that a
    threshold that was an integer is one again. reset: what a spike does to the membrane, ``zero``, ``subtract`` (θ one
    step later) or ``immediate`` (θ at once).
    """

    neuron: Neuron
    weight: np.ndarray
    bias: np.ndarray

    @property
    def size(self) -> int:
        return len(self.bias)

    @property
    def beta(self) -> np.ndarray:
        return self.neuron.beta.astype(np.float32).astype(np.float64).ravel()

    @property
    def threshold(self) -> np.ndarray:
        return self.neuron.threshold.astype(np.float32).astype(np.float64).ravel()

    @property
    def reset(self) -> str:
        return self.neuron.reset


def stages(chain: Chain) -> list[Stage]:
    """The layers of neurons of ``chain``; all nodes between two of them become one matrix.

    Raises :class:`UnsupportedError` for a node that is not linear or a matrix that would be too large.
    """
    neurons = {neuron.name: neuron for neuron in chain.neurons}
    found: list[Stage] = []
    shape = chain.input_shape
    between: list[nir.NIRNode] = []
    for name, node in chain.nodes:
        if name in neurons:
            weight, bias = _matrix(between, shape)
            found.append(Stage(neurons[name], weight, bias))
            shape, between = neurons[name].shape, []
        else:
            between.append(node)
    if between:
        raise UnsupportedError(f"nodes behind the last neurons ({type(between[0]).__name__}) are not read here")
    return found


def decays(layers: list[Stage]) -> None:
    """For simulators whose membranes decay by ``exp(−1/τ)``: :class:`UnsupportedError` for neurons without leak or
    with nothing but leak.
    """
    for layer in layers:
        outside = layer.beta[(layer.beta <= 0) | (layer.beta >= 1)]
        if len(outside):
            raise UnsupportedError(
                f"its decay exp(−1/τ) lies between 0 and 1, neurons {layer.neuron.name!r} have {outside[0]:g}"
            )


def _matrix(nodes: list[nir.NIRNode], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of the affine map of ``nodes``: what it makes of 0 and of each unit vector."""
    inputs = torch.Size(shape).numel()
    nothing = torch.zeros(1, *shape, dtype=torch.float64)
    offset = _apply(nodes, nothing)
    if offset.numel() * inputs > LARGEST:
        raise UnsupportedError(f"a matrix of {offset.numel()} × {inputs} is too large to be written out")
    units = torch.eye(inputs, dtype=torch.float64).unflatten(1, shape)
    columns = (_apply(nodes, part) - offset for part in units.split(max(1, LARGEST // (64 * offset.numel()))))
    return torch.cat([part.flatten(1) for part in columns]).T.numpy(), offset.flatten().numpy()


def _apply(nodes: list[nir.NIRNode], x: Tensor) -> Tensor:
    for node in nodes:
        x = _apply_one(node, x)
    return x


def _apply_one(node: nir.NIRNode, x: Tensor) -> Tensor:
    if isinstance(node, nir.Affine):
        return F.linear(x, _tensor(node.weight), _tensor(node.bias))
    if isinstance(node, nir.Conv2d):
        stride, dilation = (tuple(int(v) for v in size) for size in (node.stride, node.dilation))
        padding = node.padding if isinstance(node.padding, str) else tuple(int(v) for v in node.padding)
        weight, bias = _tensor(node.weight), _tensor(node.bias)
        return F.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
    if isinstance(node, nir.Scale):
        return x * _tensor(node.scale)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        kernel, stride, padding = (
            tuple(int(v) for v in size) for size in (node.kernel_size, node.stride, node.padding)
        )
        divisor = 1 if isinstance(node, nir.SumPool2d) else None
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor)
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    raise UnsupportedError(f"a {type(node).__name__} node is not read here")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))
