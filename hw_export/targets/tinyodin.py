"""tinyODIN: a crossbar of 256 neurons, programmed over SPI."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.network import Dense, IntegerNetwork
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.checks.limits import Biases, Blocks, Kinds, Limit, Thresholds, Weights
from hw_export.targets.checks.violation import Violation, above
from hw_export.targets.files import tinyodin_map as chip
from hw_export.targets.files.outline import check_codes, code_of, rebuild
from spikelfp.errors import DataError
from spikelfp.files import write_text

FILE = "tinyodin.spi"
START = chip.register_write(chip.GATE_ACTIVITY, 0)


@dataclass(frozen=True)
class Rows(Limit):
    """Inputs and neurons share the rows of the crossbar."""

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        sizes = [math.prod(network.input_shape), *(math.prod(network.shape_of(one)) for one in network.neurons)]
        yield from above(None, f"inputs and neurons together ({' + '.join(map(str, sizes))})", sum(sizes), self.most)

    def __str__(self) -> str:
        return f"{self.most} inputs and neurons together"


class TinyOdin(Chip):
    """``tinyodin.spi``: one SPI write a line, in the order to be sent, ``AAAAA DDDDD`` in hexadecimal: 20 bits of
    address and 20 of data (:mod:`hw_export.targets.files.tinyodin_map`); ``#`` starts a comment.

    Rows 0 … are the inputs, then the neurons layer by layer. An input is a row of the crossbar whose neuron is
    disabled: its events are sent to the chip as those of that neuron. After the events of a step the chip is sent a
    time reference of all neurons, which is the leak. A layer has one threshold, and one leak made from it.
    """

    name = "tinyodin"
    summary: ClassVar[str] = "tinyODIN: SPI writes, 4-bit weights, 256 neurons and inputs, linear leak, reset to zero"
    bits: ClassVar[tuple[int, ...]] = (2, 3, 4)
    default_bits: ClassVar[int] = 4
    sources: ClassVar[tuple[str, ...]] = (
        "ChFrenkel/tinyODIN doc/README.md: SPI bus, memories, neuron and synapse words, registers",
        "ChFrenkel/tinyODIN lif_neuron.v: 12-bit saturating state, spike at >= threshold, leak toward 0",
    )
    arithmetic = Arithmetic(12, decay="linear", decay_bits=7, fires=">=", resets=frozenset({"zero"}), by_event=True)
    limits = (
        Kinds((Dense,)),
        Blocks(),
        Weights(-8, 7),
        Biases(0, 0),
        Thresholds(2**11 - 1, single=True),
        Rows(chip.NEURONS),
    )

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        """``neurons``: uint32 words; ``synapses``: ``[pre, post]`` int8, over all rows in use."""
        inputs = math.prod(network.input_shape)
        rows = inputs + sum(layer.weight.shape[0] for layer in network.products)
        neurons = np.full(rows, chip.neuron_word(2**11 - 1, 0, disabled=True), dtype=np.uint32)
        synapses = np.zeros((rows, rows), dtype=np.int8)
        first, size = 0, inputs
        for product, layer in zip(network.products, network.neurons, strict=True):
            start, outputs = first + size, product.weight.shape[0]
            synapses[first:start, start : start + outputs] = product.weight.numpy().T
            word = chip.neuron_word(int(layer.threshold.max()), code_of(layer, self.arithmetic))
            neurons[start : start + outputs] = word
            first, size = start, outputs
        return {"neurons": neurons, "synapses": synapses}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        codes = self.prepare(network)
        last = len(codes["neurons"]) - 1
        lines = [
            "# stop the network and open the memories",
            _line(chip.register_write(chip.GATE_ACTIVITY, 1)),
            "# spikes go round in the network, and out as they are made; the last row in use",
            _line(chip.register_write(chip.OPEN_LOOP, 0)),
            _line(chip.register_write(chip.AER_SOURCE, 0)),
            _line(chip.register_write(chip.MAX_NEURON, last)),
            "# neurons",
        ]
        for neuron, word in enumerate(codes["neurons"].tolist()):
            lines += [_line(chip.Write(chip.neuron_address(neuron, b), 0, word >> 8 * b & 0xFF)) for b in range(4)]
        lines.append("# synapses, row by row")
        for pre, row in enumerate(codes["synapses"].tolist()):
            lines += [_line(write) for write in chip.synapse_bytes(pre, row)]
        lines += ["# close the memories and start", _line(START)]
        write_text(folder / FILE, "\n".join(lines) + "\n")

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        neurons, synapses = memories(_writes(folder / FILE))
        tensors: dict[str, torch.Tensor] = {}
        codes: dict[str, list[int]] = {}
        first, size = 0, math.prod(facts["input_shape"])
        for layer in facts["layers"]:
            start = first + size
            if layer["kind"] == "dense":
                outputs = layer["shape"][0]
                tensors[f"{layer['name']}.weight"] = torch.from_numpy(
                    synapses[first:start, start : start + outputs].T.astype(np.int32)
                )
                tensors[f"{layer['name']}.bias"] = torch.zeros(outputs, dtype=torch.int64)
            elif layer["kind"] == "neurons":
                words = [chip.neuron_fields(word) for word in neurons[start : start + layer["shape"][0]].tolist()]
                if any(disabled for _, _, disabled in words):
                    raise DataError(f"layer {layer['name']!r} has disabled neurons")
                tensors[f"{layer['name']}.threshold"] = torch.tensor([threshold for threshold, _, _ in words])
                codes[layer["name"]] = [leak for _, leak, _ in words]
                first, size = start, len(words)
        network = rebuild(facts, tensors)
        check_codes(network, self.arithmetic, codes)
        return network

    def notes(self, network: IntegerNetwork) -> list[str]:
        notes = super().notes(network)
        if network.input_scale > 1:
            notes.append(f"an input x is x events of its row, up to {network.input_scale} in a step")
        return [*notes, "its queue holds 128 events: send the inputs of a step as fast as it takes them, not faster"]


def memories(writes: Sequence[chip.Write]) -> tuple[np.ndarray, np.ndarray]:
    """What a chip holds after ``writes``: the words of its neurons, uint32 ``[256]``, and its weights, int8
    ``[pre, post]``; 0 where nothing was written."""
    neurons = np.zeros((chip.NEURONS, 4), dtype=np.uint8)
    synapses = np.zeros((chip.NEURONS, chip.NEURONS // 2), dtype=np.uint8)
    for address, mask, byte in writes:
        memory = address & ~0xFFFF
        if memory == chip.WRITE | chip.NEURON_MEMORY:
            cells, place = neurons, (address & 0xFF, address >> 8 & 3)
        elif memory == chip.WRITE | chip.SYNAPSE_MEMORY:
            cells, place = synapses, (address >> 5 & 0xFF, (address & 0x1F) << 2 | address >> 13 & 3)
        else:
            continue
        cells[place] = cells[place] & mask | byte & ~mask & 0xFF
    halves = np.stack([synapses & 0xF, synapses >> 4], -1).reshape(chip.NEURONS, chip.NEURONS).astype(np.int8)
    return neurons.view("<u4")[:, 0], np.where(halves > 7, halves - 16, halves).astype(np.int8)


def _line(write: chip.Write) -> str:
    return f"{write.address:05x} {write.data:05x}"


def _writes(path: Path) -> list[chip.Write]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise DataError(f"there is no {path}") from None
    writes = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            address, data = (int(word, 16) for word in words)
        except ValueError:
            raise DataError(f"{path}, line {number}: {line!r} is no address and data in hexadecimal") from None
        writes.append(chip.Write(address, data >> 8 & 0xFF, data & 0xFF))
    if not writes or writes[-1] != START:
        raise DataError(f"{path} does not end by starting the chip: it is not whole")
    return writes


TARGETS.register("tinyodin")(TinyOdin())
