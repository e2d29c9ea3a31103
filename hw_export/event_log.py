"""The log of a board, or of any simulator of one, against the spikes of an export.

A log is text, one thing a line, in the order it happened; ``#`` starts a comment::

    sample S            the next sample begins, from 0
    step T              its next step begins, from 0
    spike A             a neuron fired: its address on the output bus of the chip
    spike LAYER N       the same by the name of its layer in the manifest and its index there, from 0, row-major

A neuron that fires twice has two lines. The order of spikes within a step is free. ``input A`` says that an event of
input ``A`` was sent: where a log has any of these lines, they are compared with the samples. ``clear``, ``drain``,
``expect`` and ``tref`` (the other commands of ``samples.events``) may stand in a log and mean nothing there, so a host
can write down what it does.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hw_export.integer import IntegerNetwork
from hw_export.on_chip import SPIKES, compare_layer, recorded_spikes
from hw_export.samples import Samples
from hw_export.targets import Chip
from hw_export.verify import LayerResult, Result
from spikelfp.errors import DataError
from spikelfp.untrusted import open_regular

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
    path: str | Path, chip: Chip, folder: Path, samples: Samples, recorded_samples: int | None = None
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


def _read(path: Path, chip: Chip, network: IntegerNetwork, samples: Samples, all_samples: int) -> _Log:
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
