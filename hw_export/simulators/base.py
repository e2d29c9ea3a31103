"""Base class of simulators, their registry, and what adapters share: watched modules, and layers as matrices."""

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
from hw_export.nir.chain import ChainNode
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import Registry


class NotInstalledError(Exception):
    """Refusal to run a simulator that is not installed."""


class UnsupportedError(Exception):
    """Refusal to run a file that the simulator cannot run; the text tells why."""


class Simulator(ABC):
    """Simulator that runs a NIR file and records the spikes of each layer.

    To add a simulator, derive a class from this one with :meth:`spikes` and register it in :data:`SIMULATORS`. One that
    needs no package leaves ``package`` and ``module`` out.

    Attributes:
        name: name by which the simulator is registered, else that of its package or class.
        package: name in the package index.
        module: module to import.
        install: arguments of ``pip install``, where the package alone does not work together with ours.
        resets: resets that it can run.
        cannot: reasons for other resets, where there is more to say.
        latency: steps by which spikes of each further layer come later than in our networks: those of the k-th layer of
            neurons (from 0) are ``k · latency`` steps late. :meth:`run` removes it.
        delays: whether its synapses may have delays of whole steps.
    """

    name: str
    package: ClassVar[str] = ""
    module: ClassVar[str] = ""
    install: ClassVar[str] = ""
    resets: ClassVar[frozenset[str]] = frozenset({"zero", "subtract"})
    cannot: ClassVar[Mapping[str, str]] = MappingProxyType({})
    latency: ClassVar[int] = 0
    delays: ClassVar[bool] = False

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__(**facts)
        cls.name = cls.package or cls.__name__

    def version(self) -> str | None:
        """Find the version of the package; ``None`` where it is not installed."""
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
        """Run a NIR file.

        Args:
            path: of the file.
            inputs: ``[T, B, …]``, of the shape of the graph's input or of as many elements, run as float32.

        Returns:
            Spikes of every LIF node by its name, bool ``[T, B, …]``.

        Raises:
            NotInstalledError: where the package is missing.
            UnsupportedError: where the simulator cannot run the file.
            ShapeError: for inputs that do not fit the file.
        """
        if not self.available():
            wanted = self.install or self.package or self.module
            raise NotInstalledError(f"{self.name} is not installed: pip install {wanted}")
        chain = read_chain(path, delays=True)
        late = next((name for name, node in chain.graph.nodes.items() if isinstance(node, nir.Delay)), None)
        if late is not None and not self.delays:
            able = ", ".join(name for name in SIMULATORS if SIMULATORS[name].delays)
            raise UnsupportedError(f"{self.name} is run without delays here, and {late!r} is a Delay: verify in {able}")
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
        # building layers draws random weights, and the caller's random state must not move
        with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = self.spikes(chain, sequence.unflatten(2, chain.input_shape))
        return {name: spikes.bool() for name, spikes in found.items()}

    @abstractmethod
    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        """Run a chain of layers; called by :meth:`run`.

        Args:
            chain: layers of the file, just read; they may be changed.
            inputs: float32 ``[T, B, …]`` of the shape of the graph's input.

        Returns:
            Spikes of every LIF node by its name, ``[T, B, …]``, latency removed.

        Raises:
            UnsupportedError: where the simulator cannot run them.
        """


class _Simulators(Registry[Simulator]):
    """Registry of simulators, whose name becomes their ``name``."""

    def register(self, name: str, **facts: Any) -> Callable[[Any], Any]:
        """Make a decorator that registers an instance of a class under ``name``, or an object as it is."""
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
"""Simulators by name."""


# For simulators that import NIR


class Watch:
    """Recorder of the outputs of modules of a torch network, call by call.

    Args:
        modules: by the name under which their outputs are kept.
    """

    def __init__(self, modules: dict[str, torch.nn.Module]) -> None:
        self._seen: dict[str, list[Tensor]] = {name: [] for name in modules}
        self._handles = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: self._seen[name].append(_first(output).detach().clone())
            )
            for name, module in modules.items()
        ]

    def stacked(self) -> dict[str, Tensor]:
        """End the recording and stack the outputs of each module, the calls along a new first axis."""
        for handle in self._handles:
            handle.remove()
        return {name: torch.stack(outputs) for name, outputs in self._seen.items()}


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Spikes of a module that returns ``spikes`` or ``(spikes, state)``."""
    return output if isinstance(output, Tensor) else output[0]


def is_vector(values: np.ndarray) -> bool:
    """Whether constants differ between the neurons of a layer."""
    return bool((values != values.flat[0]).any())


def tensor_of(values: np.ndarray) -> Tensor:
    """Convert constants of neurons to float32, with which importers compute, keeping their shape."""
    return torch.from_numpy(values.astype(np.float32))


def batch_flatten(net: torch.nn.Module) -> None:
    """Shift the dimensions of ``Flatten`` modules by the batch axis, which NIR's dimensions do not count."""
    for module in net.modules():
        if isinstance(module, torch.nn.Flatten):
            module.start_dim += module.start_dim >= 0
            module.end_dim += module.end_dim >= 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence simulators within the block, because they print and warn a lot while they import a network.

    Nothing is printed to stdout, warned or logged below an error. All is put back after the block, and so is
    ``sys.excepthook``, which brian2 replaces when it is imported.
    """
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
    """Hide a module within the block: importing it raises ``ModuleNotFoundError``, unless it was imported before."""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            sys.modules.pop(module, None)


# For simulators that import no NIR: a file as layers of neurons, each driven by one matrix

LARGEST = 2**26
"""Most entries of a matrix that is built."""


@dataclass(frozen=True)
class DenseLayer:
    """Layer of neurons that receive ``Σ_d W_d @ x[t − d] + bias`` at every step.

    Constants are rounded to float32 as the importers of other simulators do, so that a threshold that was an integer is
    one again.

    Attributes:
        neuron: node of the file.
        by_delay: matrices ``W_d``, float64 ``[size, inputs]``, by their delay in steps; without delays only that of 0.
        bias: float64 ``[size]``.
    """

    neuron: Neuron
    by_delay: Mapping[int, np.ndarray]
    bias: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """The matrix of a layer without delays, float64 ``[size, inputs]``."""
        return self.by_delay[0]

    @property
    def longest(self) -> int:
        """Longest delay in steps."""
        return max(self.by_delay)

    def synapses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """List the weights other than 0: numbers of their neurons and inputs, the weights, and their delays."""
        found = []
        for delay, weight in self.by_delay.items():
            target, source = np.nonzero(weight)
            found.append((target, source, weight[target, source], np.full(len(target), delay)))
        target, source, weights, delays = (np.concatenate(each) for each in zip(*found, strict=True))
        return target, source, weights, delays

    def current(self, x: np.ndarray) -> np.ndarray:
        """Compute what inputs ``x [B, T, inputs]`` bring to the neurons, ``[B, T, size]``, with the bias."""
        total = np.zeros((*x.shape[:2], self.size)) + self.bias
        for delay, weight in self.by_delay.items():
            steps = max(x.shape[1] - delay, 0)
            total[:, x.shape[1] - steps :] += x[:, :steps] @ weight.T
        return total

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.bias)

    @property
    def beta(self) -> np.ndarray:
        """Decay β of each neuron, float64 ``[size]``."""
        return self.neuron.beta.astype(np.float32).astype(np.float64).ravel()

    @property
    def threshold(self) -> np.ndarray:
        """Threshold θ of each neuron, float64 ``[size]``."""
        return self.neuron.threshold.astype(np.float32).astype(np.float64).ravel()

    @property
    def reset(self) -> str:
        """Reset by a spike: ``zero``, ``subtract`` (θ one step later) or ``immediate`` (θ at once)."""
        return self.neuron.reset


def dense_layers(chain: Chain) -> list[DenseLayer]:
    """Make a dense layer for every layer of neurons of a chain; all nodes between two of them become one matrix.

    Args:
        chain: layers of a file.

    Raises:
        UnsupportedError: for a node that is not linear, nodes after the last neurons, and a matrix that would have more
            than :data:`LARGEST` entries.
    """
    neurons = {neuron.name: neuron for neuron in chain.neurons}
    found: list[DenseLayer] = []
    shape = chain.input_shape
    between: list[ChainNode] = []
    for place in chain.path:
        if place.name in neurons:
            matrices, bias = _matrices(chain, between, shape)
            found.append(DenseLayer(neurons[place.name], matrices, bias))
            shape, between = neurons[place.name].shape, []
        else:
            between.append(place)
    if between:
        raise UnsupportedError(f"nodes after the last neurons ({type(between[0].node).__name__}) are not read here")
    return found


def check_decays(layers: list[DenseLayer]) -> None:
    """Check that decays lie between 0 and 1, for simulators whose membranes decay by ``exp(−1/τ)``.

    Raises:
        UnsupportedError: for neurons without a leak (β = 1), and for those that keep nothing (β = 0).
    """
    for layer in layers:
        outside = layer.beta[(layer.beta <= 0) | (layer.beta >= 1)]
        if len(outside):
            raise UnsupportedError(
                f"its decay exp(−1/τ) lies between 0 and 1, neurons {layer.neuron.name!r} have {outside[0]:g}"
            )


def _matrices(
    chain: Chain, places: list[ChainNode], shape: tuple[int, ...]
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Compute the matrix of each delay, and the offset, of a map of nodes, by applying them to unit vectors."""
    inputs = torch.Size(shape).numel()
    nothing = {0: torch.zeros(1, *shape, dtype=torch.float64)}
    offset = _apply(chain, places, nothing)[0]
    if offset.numel() * inputs > LARGEST:
        raise UnsupportedError(f"a matrix of {offset.numel()} × {inputs} is too large to be written out")
    units = torch.eye(inputs, dtype=torch.float64).unflatten(1, shape)
    rows = max(1, LARGEST // (64 * offset.numel()))
    columns: dict[int, Tensor] = {}
    for first in range(0, inputs, rows):
        for delay, part in _apply(chain, places, {0: units[first : first + rows]}, linear=True).items():
            own = columns.setdefault(delay, torch.zeros(inputs, offset.numel(), dtype=torch.float64))
            own[first : first + rows] = part.flatten(1)
    return {delay: own.T.numpy() for delay, own in sorted(columns.items())}, offset.flatten().numpy()


Later = dict[int, Tensor]
"""Values that arrive some steps later, by the number of steps."""


def _apply(chain: Chain, places: list[ChainNode], x: Later, linear: bool = False) -> Later:
    """Apply nodes to values; ``linear`` leaves out their constants."""
    for place in places:
        if isinstance(place.node, nir.Delay):
            x = _delay(chain, place.name, place.node, x, linear)
        elif place.branches:
            total: Later = {}
            for way in place.branches:
                own = x if way.delay is None else _delay(chain, *way.delay, x, linear)
                for delay, part in _apply_one(way.node, own, linear).items():
                    total[delay] = total[delay] + part if delay in total else part
            x = total
        else:
            x = _apply_one(place.node, x, linear)
    return x


def _apply_one(node: nir.NIRNode, x: Later, linear: bool) -> Later:
    constant = _apply_node(node, torch.zeros_like(x[min(x)][:1]))
    if linear:
        return {delay: _apply_node(node, part) - constant for delay, part in x.items()}
    (part,) = x.values()  # a constant, which no delay has split
    return {0: _apply_node(node, part)}


def _delay(chain: Chain, name: str, node: nir.Delay, x: Later, linear: bool) -> Later:
    if not linear:
        if any(bool(part.any()) for part in x.values()):
            raise UnsupportedError(f"{name!r} delays a bias, which would begin later than its layer: not read here")
        return x
    steps, found = torch.from_numpy(chain.steps(name, node)), dict[int, Tensor]()
    for delay, part in x.items():
        for own in steps.unique().tolist():
            kept = torch.where(steps == own, part, 0.0)
            found[delay + own] = found[delay + own] + kept if delay + own in found else kept
    return found


def _apply_node(node: nir.NIRNode, x: Tensor) -> Tensor:
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
