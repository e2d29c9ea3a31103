"""Verification of an export: every spike compared with simulators, a chip's arithmetic, or the log of a board."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.integer import IntegerNetwork, IntegerRun, IntegerSimulator
from hw_export.layers import leaves
from hw_export.nir import read_chain
from hw_export.samples import ExportSamples
from hw_export.simulators import SIMULATORS, NotInstalledError, Simulator, UnsupportedError
from hw_export.targets import Chip
from hw_export.targets.outline import read_arrays, write_arrays
from spikelfp import checks, nn
from spikelfp.analysis import record
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import lif_scan
from spikelfp.terminal import brief
from spikelfp.untrusted import open_regular

Status = Literal["identical", "different", "not installed", "unsupported", "failed"]


@dataclass(frozen=True)
class Difference:
    """First spike of a layer that differs, at the earliest step.

    Attributes:
        sample: index in the batch.
        step: from 0.
        neuron: index in the layer.
        ours: how often it fires in the export.
        theirs: how often it fires in the simulator, chip or log.
        membrane: ``U`` in the exported network, where it is known.
        threshold: ``θ`` likewise. Where the two agree to seven digits, rounding decided and not the file.
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
    """Comparison of one layer of neurons.

    Attributes:
        layer: name of the layer.
        compared: number of neurons times steps times samples.
        spikes: number of spikes of the exported network.
        differences: number of those compared that differ.
        first: the first difference, ``None`` without any.
    """

    layer: str
    compared: int
    spikes: int
    differences: int
    first: Difference | None


@dataclass(frozen=True)
class Result:
    """Comparison with one simulator, chip or log.

    Attributes:
        simulator: its name.
        version: of the simulator, ``None`` where it has none.
        status: ``identical``, ``different``, ``not installed``, ``unsupported`` or ``failed``.
        reason: why there is no comparison, or a remark; else empty.
        latency: steps by which the spikes of each further layer lag, removed before the comparison.
        layers: comparison of each layer.
        seconds: time of the run.
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
    """Compare every spike of every LIF layer with other simulators that read the NIR file.

    A simulator that is not installed, cannot run the file, or fails, gets a :class:`Result` that says so; it never
    counts as identical.

    Args:
        net: the exported network.
        nir_path: file of the network.
        inputs: ``[T, B, …]``.
        simulators: names, or objects of one's own; by default all registered ones.

    Returns:
        A result for each simulator.

    Raises:
        UserError: for an unknown simulator.
        DataError: for a file that cannot be read or that is of another network.
    """
    if isinstance(simulators, str) or not isinstance(simulators, Iterable | None):
        raise UserError(f"simulators are a list of names, such as ['norse', 'sinabs'], got {brief(simulators)}")
    chosen = [_simulator(each) for each in (SIMULATORS if simulators is None else simulators)]
    checks.finite("inputs", inputs)
    names = [name for name, layer in leaves(net) if isinstance(layer, nn.LIF)]
    neurons = read_chain(nir_path, delays=True).neurons
    if len(neurons) != len(names):
        raise DataError(f"{nir_path} has {len(neurons)} layers of neurons, the network {len(names)}")
    ours = record(net, inputs)
    for name, neuron in zip(names, neurons, strict=True):
        shape = tuple(ours[name].shape[2:])
        if shape != neuron.shape:
            raise DataError(f"{nir_path}: {neuron.name!r} is {neuron.shape}, layer {name!r} of the network {shape}")
    nodes = {neuron.name: name for name, neuron in zip(names, neurons, strict=True)}
    return [_compare(simulator, net, Path(nir_path), inputs, ours, nodes) for simulator in chosen]


def _simulator(given: Any) -> Simulator:
    return given if callable(getattr(given, "run", None)) else SIMULATORS[given]


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
    except Exception as error:  # any error of the other program is reported as its own
        lines = str(error).splitlines() or [""]
        return Result(simulator.name, version, "failed", f"{type(error).__name__}: {lines[0]}")
    seconds = time.perf_counter() - began
    layers = tuple(_layer(net, inputs, name, ours[name].bool(), theirs[node]) for node, name in nodes.items())
    status: Status = "different" if any(layer.differences for layer in layers) else "identical"
    return Result(simulator.name, version, status, "", simulator.latency, layers, seconds)


def _layer(net: torch.nn.Module, inputs: Tensor, name: str, ours: Tensor, theirs: Tensor) -> LayerResult:
    result = compare_layer(name, ours, theirs)
    first = result.first
    if first is None:
        return result
    until = inputs[: first.step + 1, first.sample : first.sample + 1]
    membrane, threshold = _membrane(net, until, name, first.neuron)
    return replace(result, first=replace(first, membrane=membrane, threshold=threshold))


def _membrane(net: torch.nn.Module, inputs: Tensor, name: str, neuron: tuple[int, ...]) -> tuple[float, float]:
    """Compute ``U`` at the last step of ``inputs`` ``[T, 1, …]``, and ``θ``, of one neuron of ``net``."""
    layer = net.get_submodule(name)
    assert isinstance(layer, nn.LIF)
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


# --- chips: the spikes recorded at the export, and those of the files in the chip's arithmetic ---

SPIKES = "spikes.npz"
"""File of the spikes of every neuron at every step for the samples of an export, by name of the layer.

Counts are uint8 ``[T, B, …]``; uint16 or uint32 for a layer that fires more than 255 times in a step.
"""


def run_on_chip(chip: Chip, network: IntegerNetwork, samples: ExportSamples) -> IntegerRun:
    """Run whole-numbered ``samples`` through a network as the chip holds it (read from its files, or adapted)."""
    return IntegerSimulator(network, chip.arithmetic).run(samples.sequence())


def save_spikes(path: Path, run: IntegerRun) -> None:
    """Write the spikes of a run, for :func:`verify_chip` and for the tests of a firmware."""
    counts = {name: spikes.numpy() for name, spikes in run.spikes.items()}
    write_arrays(path, {name: own.astype(np.min_scalar_type(int(own.max(initial=0)))) for name, own in counts.items()})


def verify_chip(chip: Chip, folder: Path, manifest: Mapping[str, Any], samples: ExportSamples) -> Result:
    """Run the chip's files of an export in its arithmetic and compare every spike with those recorded at the export.

    Args:
        chip: that the export is for.
        folder: of the export.
        manifest: of the export.
        samples: of the export, or the first of them.

    Raises:
        DataError: for files that are missing or damaged.
    """
    began = time.perf_counter()
    run = run_on_chip(chip, chip.read(folder), samples)
    recorded = recorded_spikes(folder / SPIKES, list(run.spikes), samples)
    layers = tuple(compare_layer(name, recorded[name], spikes) for name, spikes in run.spikes.items())
    different = any(layer.differences for layer in layers)
    return Result(
        f"{chip.name} arithmetic",
        str(manifest["versions"]["spikelfp"]),
        "different" if different else "identical",
        chip.outdated(folder),
        chip.arithmetic.latency,
        layers,
        time.perf_counter() - began,
    )


def recorded_spikes(path: Path, names: list[str], samples: ExportSamples) -> dict[str, Tensor]:
    """Read a file of :func:`save_spikes`, for ``samples`` or the first of those it was made for.

    Returns:
        int64 ``[T, B, …]`` by layer.

    Raises:
        DataError: for a file that is missing, damaged, of other layers, or of fewer steps or samples.
    """
    recorded = read_arrays(path)
    if list(recorded) != names:
        raise DataError(f"{path} is of the layers {', '.join(recorded)}, not {', '.join(names)}")
    for name, spikes in recorded.items():
        if (
            spikes.dtype.kind not in "ui"
            or spikes.ndim < 3
            or len(spikes) != samples.steps
            or spikes.shape[1] < len(samples)
        ):
            raise DataError(
                f"{path}: layer {name!r} is {spikes.dtype} {spikes.shape}, not whole numbers of "
                f"{samples.steps} steps and {len(samples)} samples or more"
            )
    return {name: torch.from_numpy(spikes.astype(np.int64))[:, : len(samples)] for name, spikes in recorded.items()}


def compare_layer(name: str, recorded: Tensor, found: Tensor, *, by_sample: bool = False) -> LayerResult:
    """Compare the spikes of a layer, ``[T, B, …]``.

    Args:
        name: of the layer.
        recorded: spikes of the export.
        found: spikes to compare with them.
        by_sample: take the first difference of the first sample, in place of the earliest step of all.

    Raises:
        DataError: for other shapes.
    """
    if recorded.shape != found.shape:
        raise DataError(f"layer {name!r} was recorded as {tuple(recorded.shape)}, it gives {tuple(found.shape)}")
    wrong = recorded != found
    first = None
    if wrong.any():
        if by_sample:
            sample, step, *neuron = wrong.transpose(0, 1).nonzero()[0].tolist()
        else:
            step, sample, *neuron = wrong.nonzero()[0].tolist()
        place = (step, sample, *neuron)
        first = Difference(sample, step, tuple(neuron), int(recorded[place]), int(found[place]))
    return LayerResult(name, recorded.numel(), int(recorded.sum(dtype=torch.int64)), int(wrong.sum()), first)


# --- logs of boards ---

INPUT = "input"
_ECHOES = ("clear", "drain", "expect", "tref")
_SHOWN = 60
_LONGEST = 10_000
"""Most characters of a line that are read into memory."""


@dataclass
class _Log:
    """Counts of spikes of each neuron, and of events of each input, at each step, ``[T, B, N]``.

    Attributes:
        layers: by name.
        inputs: of the inputs.
        has_inputs: whether the log has any events of inputs.
        stray: description of the first spike that is of no neuron or no step.
        strays: number of such spikes.
    """

    layers: Mapping[str, NDArray[np.int64]]
    inputs: NDArray[np.int64]
    has_inputs: bool = False
    stray: str | None = None
    strays: int = 0

    def is_stray(self, text: str) -> None:
        """Count a spike that belongs nowhere."""
        self.strays += 1
        self.stray = self.stray or text


def verify_log(
    path: str | Path, chip: Chip, folder: Path, samples: ExportSamples, recorded_samples: int | None = None
) -> Result:
    """Compare the log of a board, or of any simulator of one, with the spikes that were recorded at the export.

    A log is text, one thing a line, in the order it happened; ``#`` starts a comment::

        sample S            the next sample begins, from 0
        step T              its next step begins, from 0
        spike A             a neuron fired: its address on the output bus of the chip
        spike LAYER N       the same by the name of its layer in the manifest and its index there, from 0, row-major

    A neuron that fires twice has two lines. The order of spikes within a step is free. ``input A`` says that an event
    of input ``A`` was sent: where a log has any of these lines, they are compared with the samples. ``clear``,
    ``drain``, ``expect`` and ``tref`` (the other commands of ``samples.events``) may stand in a log and are skipped, so
    a host can write down all it does.

    Args:
        path: of the log.
        chip: that the export is for.
        folder: of the export.
        samples: of the export, or the first of them: those to be compared.
        recorded_samples: number of samples of the whole export. Where they are more, the log may go on with the others,
            which are not read; by default those to be compared.

    Returns:
        A result like that of a simulator; spikes that are of no neuron or no step are in its ``reason``.

    Raises:
        DataError: for a log that is no such text or does not have all steps of all samples, and for files of the export
            that are missing or damaged.
    """
    began = time.perf_counter()
    network = chip.read(folder)
    recorded = recorded_spikes(folder / SPIKES, [layer.name for layer in network.neurons], samples)
    log = _read(Path(path), chip, network, samples, max(len(samples), recorded_samples or 0))
    pairs = [(name, recorded[name], log.layers[name]) for name in recorded]
    if log.has_inputs:
        pairs.insert(0, (INPUT, samples.sequence().flatten(2).to(torch.int64), log.inputs))
    layers = tuple(
        compare_layer(name, ours, torch.from_numpy(theirs).reshape(ours.shape), by_sample=True)
        for name, ours, theirs in pairs
    )
    found = [] if log.stray is None else [log.stray]
    if log.strays > 1:
        found.append(f"{log.strays - 1} more like it")
    differing = [(layer.first.sample, layer.first.step, place) for place, layer in enumerate(layers) if layer.first]
    if differing:
        first = layers[min(differing)[2]]
        found.append(f"first difference in layer {first.layer!r} at {_described(first, chip, network)}")
    return Result(
        f"log of {chip.name}",
        None,
        "different" if found else "identical",
        "; ".join(found),
        0,
        layers,
        time.perf_counter() - began,
    )


def _described(layer: LayerResult, chip: Chip, network: IntegerNetwork) -> str:
    """Describe the first difference of a layer, with the address of its neuron."""
    first = layer.first
    assert first is not None
    addresses = {INPUT: range(math.prod(network.input_shape)), **chip.addresses(network)}.get(layer.layer)
    shape = (
        network.input_shape
        if layer.layer == INPUT
        else next(network.shape_of(each) for each in network.neurons if each.name == layer.layer)
    )
    index = first.neuron[0] if len(first.neuron) == 1 else int(np.ravel_multi_index(first.neuron, shape))
    where = "" if addresses is None else f" (address {addresses[index]})"
    return (
        f"sample {first.sample}, step {first.step}, neuron {index}{where}: {first.ours} in the export, "
        f"{first.theirs} in the log"
    )


def _read(path: Path, chip: Chip, network: IntegerNetwork, samples: ExportSamples, all_samples: int) -> _Log:
    sizes = {layer.name: math.prod(network.shape_of(layer)) for layer in network.neurons}
    shape = (samples.steps, len(samples))
    inputs = math.prod(network.input_shape)
    log = _Log(
        {name: np.zeros((*shape, size), np.int64) for name, size in sizes.items()}, np.zeros((*shape, inputs), np.int64)
    )
    places = {
        address: (name, index)
        for name, addresses in chip.addresses(network).items()
        for index, address in enumerate(addresses)
    }
    sample = step = -1
    for where, fields in _lines(path):
        keyword, rest = fields[0], fields[1:]
        if keyword in ("sample", "step"):
            number = _number(rest, where, keyword)
            begins = keyword == "sample"
            if not begins and sample < 0:
                raise DataError(f"{where}: a step before the first sample: write 'sample 0' in front of it")
            if begins and sample >= 0 and step != samples.steps - 1:
                raise DataError(f"{where}: sample {sample} has {step + 1} steps, the export {samples.steps}")
            expected = (sample if begins else step) + 1
            if number != expected:
                raise DataError(f"{where}: {keyword} {number}, expected {keyword} {expected}")
            if begins and number >= all_samples:
                raise DataError(f"{where}: sample {number}, but samples 0 to {all_samples - 1} are to be compared")
            if begins and number == len(samples):
                return log
            if not begins and number >= samples.steps:
                raise DataError(f"{where}: step {number}, but a sample has the steps 0 to {samples.steps - 1}")
            sample, step = (number, -1) if begins else (sample, number)
        elif keyword == INPUT:
            log.has_inputs = True
            index = _number(rest, where, keyword)
            if step < 0 or index >= inputs:
                log.is_stray(f"{where}: an event of input {index}{_when(sample, step, index < inputs)}")
            else:
                log.inputs[step, sample, index] += 1
        elif keyword == "spike":
            name, index = _neuron(rest, where, places, sizes)
            if step < 0 or name is None:
                who = f"address {index}" if name is None else f"layer {name!r}, neuron {index}"
                log.is_stray(f"{where}: a spike of {who}{_when(sample, step, name is not None)}")
            else:
                log.layers[name][step, sample, index] += 1
        elif keyword not in _ECHOES:
            raise DataError(
                f"{where}: {_shown(' '.join(fields))} is no line of a log: expected sample, step, spike or input and a "
                "number"
            )
    if (sample, step) != (len(samples) - 1, samples.steps - 1):
        ends = "it has no sample" if sample < 0 else f"it ends in sample {sample} after {step + 1} of its steps"
        whole = sample + (step == samples.steps - 1)
        how = f"compare the first with --samples {whole}" if whole > 0 else "write 'sample' and 'step' lines into it"
        raise DataError(f"{path} does not have all {len(samples)} samples of {samples.steps} steps: {ends}; {how}")
    return log


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the fields of each line that is not empty."""
    try:
        # editors of Windows begin a file with a mark
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), ""), 1):
                if len(line) > _LONGEST:
                    raise DataError(f"{path}, line {number} has more than {_LONGEST} characters: this is no log")
                fields = line.partition("#")[0].split()
                if fields:
                    yield f"{path}, line {number}", fields
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text: a log is lines like 'step 0' and 'spike 70'") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _number(fields: list[str], where: str, what: str) -> int:
    """Read the only field after ``what``, a whole number of up to nine digits."""
    if len(fields) == 1 and fields[0].isascii() and fields[0].isdigit() and len(fields[0]) <= 9:
        return int(fields[0])
    raise DataError(f"{where}: {what!r} takes one whole number from 0, got {_shown(' '.join(fields))}")


def _neuron(
    fields: list[str], where: str, places: Mapping[int, tuple[str, int]], sizes: Mapping[str, int]
) -> tuple[str | None, int]:
    """Find the layer and index of a neuron; no layer, and the address, where there is no such neuron."""
    if len(fields) == 2:
        name, index = fields[0], _number(fields[1:], where, f"spike {fields[0]}"[:_SHOWN])
        if name not in sizes:
            raise DataError(f"{where}: there is no layer {_shown(name)}: the export has {', '.join(sizes)}")
        if index >= sizes[name]:
            raise DataError(f"{where}: neuron {index} of layer {name!r}, which has {sizes[name]}")
        return name, index
    address = _number(fields, where, "spike")
    if not places:
        raise DataError(f"{where}: neurons of this chip have no addresses: write 'spike LAYER NEURON'")
    return places.get(address, (None, address))


def _when(sample: int, step: int, known: bool) -> str:
    if sample < 0:
        return " before the first sample"
    if step < 0:
        return f" before the first step of sample {sample}"
    return "" if known else f" in sample {sample}, step {step}, which the network does not have"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
