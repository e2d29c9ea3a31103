"""Does another simulator, reading the file, give the spikes of our network, every single one?"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hw_export.chain import leaves
from hw_export.nir import read_chain
from hw_export.simulators import SIMULATORS, NotInstalledError, Simulator, UnsupportedError
from spikelfp.analysis import record
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import lif_scan
from spikelfp.nn import LIF

Status = Literal["identical", "different", "not installed", "unsupported", "failed"]


@dataclass(frozen=True)
class Difference:
    """The first spike (earliest step) that differs in a layer.

    neuron: its index in the layer. ours, theirs: how often it fires there. membrane, threshold: ``U`` and ``θ`` of our
    network, where they are known; where they are equal to seven digits, rounding decided and not the file.
    """

    sample: int
    step: int
    neuron: tuple[int, ...]
    ours: int
    theirs: int
    membrane: float | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        index = ", ".join(map(str, self.neuron))
        known = self.membrane is not None and self.threshold is not None
        why = f" (membrane {self.membrane:.9g}, threshold {self.threshold:.9g})" if known else ""
        return f"sample {self.sample}, step {self.step}, neuron {index}: {self.ours} here, {self.theirs} there{why}"


@dataclass(frozen=True)
class LayerResult:
    """One layer of neurons: how many spikes-or-not were ``compared``, ``spikes`` of our network among them,
    and how many differ.
    """

    layer: str
    compared: int
    spikes: int
    differences: int
    first: Difference | None


@dataclass(frozen=True)
class Result:
    """What one simulator made of the file. reason: why it is not compared, else empty. latency: steps that
    the spikes of each further layer lag in it, removed before the comparison.
    """

    simulator: str
    version: str | None
    status: Status
    reason: str = ""
    latency: int = 0
    layers: tuple[LayerResult, ...] = ()
    seconds: float = 0.0


def verify(
    net: torch.nn.Module,
    nir_path: str | Path,
    inputs: Tensor,
    simulators: Iterable[str | Simulator] | None = None,
) -> list[Result]:
    """Run ``inputs`` ``[T, B, …]`` through ``net`` and, from the NIR file, through each of the ``simulators``
    (names, or objects of one's own; default: all registered), and compare every spike of every LIF layer.

    A simulator that is not installed, cannot run the file, or fails, gets a :class:`Result` that says so; it never
    counts as identical. Raises :class:`~spikelfp.errors.UserError` for an unknown simulator, a file that
    cannot be read or that is of another network.
    """
    chosen = [SIMULATORS[s] if isinstance(s, str) else s for s in (SIMULATORS if simulators is None else simulators)]
    names = [name for name, layer in leaves(net) if isinstance(layer, LIF)]
    neurons = read_chain(nir_path).neurons
    if len(neurons) != len(names):
        raise DataError(f"{nir_path} has {len(neurons)} layers of neurons, the network {len(names)}")
    ours = record(net, inputs)
    for name, neuron in zip(names, neurons, strict=True):
        shape = tuple(ours[name].shape[2:])
        if shape != neuron.shape:
            raise DataError(f"{nir_path}: {neuron.name!r} is {neuron.shape}, layer {name!r} of the network {shape}")
    nodes = {neuron.name: name for name, neuron in zip(names, neurons, strict=True)}
    return [_compare(simulator, net, Path(nir_path), inputs, ours, nodes) for simulator in chosen]


def _compare(
    simulator: Simulator,
    net: torch.nn.Module,
    path: Path,
    inputs: Tensor,
    ours: dict[str, Tensor],
    nodes: dict[str, str],
) -> Result:
    version = simulator.version()
    began = time.perf_counter()
    try:
        theirs = simulator.run(path, inputs)
        for node, name in nodes.items():
            if theirs[node].shape != ours[name].shape:
                raise UnsupportedError(f"it gives {tuple(theirs[node].shape)} spikes for {tuple(ours[name].shape)}")
    except NotInstalledError as error:
        return Result(simulator.name, None, "not installed", str(error))
    except UnsupportedError as error:
        return Result(simulator.name, version, "unsupported", str(error))
    except UserError:
        raise
    except Exception as error:  # whatever the other program does, it is reported as its own
        lines = str(error).splitlines() or [""]
        return Result(simulator.name, version, "failed", f"{type(error).__name__}: {lines[0]}")
    seconds = time.perf_counter() - began
    layers = tuple(_layer(net, inputs, name, ours[name].bool(), theirs[node]) for node, name in nodes.items())
    status: Status = "different" if any(layer.differences for layer in layers) else "identical"
    return Result(simulator.name, version, status, "", simulator.latency, layers, seconds)


def _layer(net: torch.nn.Module, inputs: Tensor, name: str, ours: Tensor, theirs: Tensor) -> LayerResult:
    wrong = ours != theirs
    first = None
    if wrong.any():
        step, sample, *neuron = wrong.nonzero()[0].tolist()  # rows are sorted, the step first
        membrane, threshold = _membrane(net, inputs[: step + 1, sample : sample + 1], name, tuple(neuron))
        place = (step, sample, *neuron)
        here = int(ours[place])
        first = Difference(sample, step, tuple(neuron), here, 1 - here, membrane, threshold)
    return LayerResult(name, ours.numel(), int(ours.sum()), int(wrong.sum()), first)


def _membrane(net: torch.nn.Module, inputs: Tensor, name: str, neuron: tuple[int, ...]) -> tuple[float, float]:
    """``U`` at the last step of ``inputs`` ``[T, 1, …]``, and ``θ``, of one neuron of our network."""
    layer = net.get_submodule(name)
    assert isinstance(layer, LIF)
    currents: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: currents.append(arguments[0].detach()))
    try:
        record(net, inputs)
    finally:
        handle.remove()
    rest = torch.zeros_like(currents[0][0])
    constants = layer.constants.fitted(rest)
    trace = lif_scan(currents[0], rest, constants)
    threshold = torch.as_tensor(constants.threshold).expand(rest.shape)
    place = (0, *neuron)
    return trace.membrane[-1][place].item(), threshold[place].item()
