"""Verification of an export: every spike compared with simulators, a chip's arithmetic, or the log of a board."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.integer import Counts, IntegerNetwork, IntegerRun, IntegerSimulator
from hw_export.integer.energy import estimate
from hw_export.layers import leaves
from hw_export.nir import read_chain
from hw_export.samples import ExportSamples
from hw_export.simulators import SIMULATORS, NotInstalledError, Simulator, UnsupportedError
from hw_export.targets import Chip
from hw_export.targets.outline import read_arrays, write_arrays
from spikelfp.analysis import record
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import lif_scan
from spikelfp.nn import LIF
from spikelfp.untrusted import open_regular

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


SPIKES = "spikes.npz"
"""How often every neuron fires at every step for the samples of an export, uint8 ``[T, B, …]`` by name of the layer;
uint16 or uint32 for a layer that fires more than 255 times in a step."""


def run_on_chip(chip: Chip, network: IntegerNetwork, samples: ExportSamples) -> IntegerRun:
    """The whole-numbered ``samples`` through a network as the chip holds it (read from its files, or adapted)."""
    return IntegerSimulator(network, chip.arithmetic).run(samples.sequence())


def facts_of(
    chip: Chip, network: IntegerNetwork, run: IntegerRun, samples: ExportSamples, classes: Tensor
) -> dict[str, Any]:
    """Collect for the manifest: accuracy, the part of the samples that get the same class as in ``classes``, and
    spikes, operations, bytes and estimated energy of a sample."""
    counts = run.counts
    energy = estimate(counts, chip.energy)
    found = run.classes_at(samples.mask)
    return {
        "accuracy": (found == samples.labels).double().mean().item(),
        "agreement": (found == classes).double().mean().item(),
        "rates": {name: spikes.sum(dtype=torch.int64).item() / spikes.numel() for name, spikes in run.spikes.items()},
        "saturated": dict(run.saturated),
        "per_sample": {**_numbers(counts), "layers": {name: _numbers(part) for name, part in counts.layers.items()}},
        "energy": {
            "nanojoule": energy.total_nj,
            "parts": dict(energy.parts_nj),
            "not_published": list(energy.missing),
            "source": None if chip.energy is None else chip.energy.source,
        },
        "weights": sum(layer.weight.numel() for layer in network.products),
    }


def _numbers(counts: Counts) -> dict[str, float]:
    return {name: value for name, value in asdict(counts).items() if name != "layers"}


def save_spikes(path: Path, run: IntegerRun) -> None:
    """Write the spikes of a run, for :func:`verify_chip` and for the tests of a firmware."""
    write_arrays(path, {name: _narrow(spikes.numpy()) for name, spikes in run.spikes.items()})


def _narrow(counts: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
    """``counts``, none below 0, in the smallest type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def verify_chip(chip: Chip, folder: Path, manifest: Mapping[str, Any], samples: ExportSamples) -> Result:
    """Read the chip's files of an export back, run them in its arithmetic, and compare every spike with those that were
    recorded when the export was made.

    Raises :class:`~spikelfp.errors.DataError` for files that are missing or damaged.
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
    """Read what :func:`save_spikes` has written, for ``samples`` or the first of those it was made for.

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
    """Compare the spikes of a layer, ``[T, B, …]``; the first difference is of the earliest step, or of the first
    sample (``by_sample``)."""
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


INPUT = "input"
_ECHOES = ("clear", "drain", "expect", "tref")
_SHOWN = 60
_LONGEST = 10_000
"""Characters of a line: no file makes this program hold more of it."""


@dataclass
class _Log:
    """How often each neuron, and each input, fires at each step, flattened ``[T, B, N]``.

    stray: the first spike that is of no neuron or no step, and strays: how many there are.
    """

    layers: Mapping[str, NDArray[np.int64]]
    inputs: NDArray[np.int64]
    has_inputs: bool = False
    stray: str | None = None
    strays: int = 0

    def is_stray(self, text: str) -> None:
        """Take note of a spike that belongs nowhere."""
        self.strays += 1
        self.stray = self.stray or text


def verify_log(
    path: str | Path, chip: Chip, folder: Path, samples: ExportSamples, recorded_samples: int | None = None
) -> Result:
    """Compare a log with the spikes that were recorded when the export was made.

    Args:
        path: of the log.
        chip: that the export is for.
        folder: of the export.
        samples: of the export, or the first of them: those to be compared.
        recorded_samples: of the export altogether. Where they are more, the log may go on with the others, which are
            not read; by default those to be compared.

    Returns:
        A result like that of a simulator; spikes that are of no neuron or no step are in its ``reason``.

    Raises:
        DataError: for a log that is no such text or does not have all steps of all samples, and for files of the
            export that are missing or damaged.
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
    first = min((layer for layer in layers if layer.first), key=_when_first, default=None)
    if first is not None:
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


def _when_first(layer: LayerResult) -> tuple[int, int]:
    assert layer.first is not None
    return layer.first.sample, layer.first.step


def _described(layer: LayerResult, chip: Chip, network: IntegerNetwork) -> str:
    """The first difference of a layer, with the address of its neuron."""
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
    for where, words in _lines(path):
        word, rest = words[0], words[1:]
        if word in ("sample", "step"):
            number = _number(rest, where, word)
            begins = word == "sample"
            if not begins and sample < 0:
                raise DataError(f"{where}: a step before the first sample: write 'sample 0' in front of it")
            if begins and sample >= 0 and step != samples.steps - 1:
                raise DataError(f"{where}: sample {sample} has {step + 1} steps, the export {samples.steps}")
            expected = (sample if begins else step) + 1
            if number != expected:
                raise DataError(f"{where}: {word} {number}, expected {word} {expected}")
            if begins and number >= all_samples:
                raise DataError(f"{where}: sample {number}, but samples 0 to {all_samples - 1} are to be compared")
            if begins and number == len(samples):
                return log
            if not begins and number >= samples.steps:
                raise DataError(f"{where}: step {number}, but a sample has the steps 0 to {samples.steps - 1}")
            sample, step = (number, -1) if begins else (sample, number)
        elif word == INPUT:
            log.has_inputs = True
            index = _number(rest, where, word)
            if step < 0 or index >= inputs:
                log.is_stray(f"{where}: an event of input {index}{_when(sample, step, index < inputs)}")
            else:
                log.inputs[step, sample, index] += 1
        elif word == "spike":
            name, index = _neuron(rest, where, places, sizes)
            if step < 0 or name is None:
                who = f"address {index}" if name is None else f"layer {name!r}, neuron {index}"
                log.is_stray(f"{where}: a spike of {who}{_when(sample, step, name is not None)}")
            else:
                log.layers[name][step, sample, index] += 1
        elif word not in _ECHOES:
            raise DataError(
                f"{where}: {_shown(' '.join(words))} is no line of a log: expected sample, step, spike or input and a "
                "number"
            )
    if (sample, step) != (len(samples) - 1, samples.steps - 1):
        ends = "it has no sample" if sample < 0 else f"it ends in sample {sample} after {step + 1} of its steps"
        whole = sample + (step == samples.steps - 1)
        how = f"compare the first with --samples {whole}" if whole > 0 else "write 'sample' and 'step' lines into it"
        raise DataError(f"{path} does not have all {len(samples)} samples of {samples.steps} steps: {ends}; {how}")
    return log


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each line is that says something, and its words."""
    try:
        # editors of Windows begin a file with a mark
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), ""), 1):
                if len(line) > _LONGEST:
                    raise DataError(f"{path}, line {number} has more than {_LONGEST} characters: this is no log")
                words = line.partition("#")[0].split()
                if words:
                    yield f"{path}, line {number}", words
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text: a log is lines like 'step 0' and 'spike 70'") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _number(words: list[str], where: str, what: str) -> int:
    """The one whole number behind ``what``, of up to nine digits."""
    if len(words) == 1 and words[0].isascii() and words[0].isdigit() and len(words[0]) <= 9:
        return int(words[0])
    raise DataError(f"{where}: {what!r} takes one whole number from 0, got {_shown(' '.join(words))}")


def _neuron(
    words: list[str], where: str, places: Mapping[int, tuple[str, int]], sizes: Mapping[str, int]
) -> tuple[str | None, int]:
    """The layer and index of a neuron; no layer, and the address, where there is no such neuron."""
    if len(words) == 2:
        name, index = words[0], _number(words[1:], where, f"spike {words[0]}"[:_SHOWN])
        if name not in sizes:
            raise DataError(f"{where}: there is no layer {_shown(name)}: the export has {', '.join(sizes)}")
        if index >= sizes[name]:
            raise DataError(f"{where}: neuron {index} of layer {name!r}, which has {sizes[name]}")
        return name, index
    address = _number(words, where, "spike")
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
