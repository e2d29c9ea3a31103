"""tinyODIN: a crossbar of 256 neurons, programmed over SPI."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerDense, IntegerNetwork, spread
from hw_export.integer.simulator import IntegerRun
from hw_export.targets import tinyodin_map as chip
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.files import check_codes, rebuild
from hw_export.targets.limits import Biases, Blocks, Kinds, Limit, Thresholds, Violation, Weights, above
from hw_export.targets.tinyodin_events import INPUTS, Core, facts_of, text_of
from spikelfp.errors import DataError
from spikelfp.files import write_text
from spikelfp.terminal import brief
from spikelfp.untrusted import read_regular

FILE, CLEAR_FILE, EVENTS_FILE = "tinyodin.spi", "clear.spi", "samples.events"
SPI_SIZE = 1 << 22
"""Bytes that ``tinyodin.spi`` may have (4 MiB): all memories of the chip take a tenth of that."""

START = chip.register_write(chip.GATE_ACTIVITY, 0)
_WORD = re.compile("[0-9a-fA-F]{1,5}")  # 20 bits

OPEN = "while the core is idle: stop the network and open the memories"


@dataclass(frozen=True)
class Rows(Limit):
    """Inputs and neurons share the rows of the crossbar."""

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        sizes = [math.prod(network.input_shape), *(math.prod(network.shape_of(one)) for one in network.neurons)]
        yield from above(None, f"inputs and neurons together ({' + '.join(map(str, sizes))})", sum(sizes), self.most)

    def __str__(self) -> str:
        return f"{self.most} inputs and neurons together"


@TARGETS.register("tinyodin")
class TinyOdin(Chip):
    """``tinyodin.spi``: one SPI write a line, in the order to be sent, ``AAAAA DDDDD`` in hexadecimal: 20 bits of
    address and 20 of data (:mod:`hw_export.targets.tinyodin_map`); ``#`` starts a comment. ``clear.spi``: the
    writes that set all membranes to 0, for a reset leaves them. ``samples.events``: the samples as they are sent, with
    the spikes that come back (:mod:`hw_export.targets.tinyodin_events`).

    Rows 0 … are the inputs, then the neurons layer by layer. An input is a row of the crossbar whose neuron is
    disabled: its events are sent to the chip as those of that neuron. When the queue has drained after the events of a
    step the chip is sent a time reference of all neurons, which is the leak. Each neuron has its threshold, and a leak
    made from that.
    """

    summary: ClassVar[str] = "tinyODIN: SPI writes, 4-bit weights, 256 neurons and inputs, linear leak, reset to zero"
    bits: ClassVar[tuple[int, ...]] = (2, 3, 4)
    default_bits: ClassVar[int] = 4
    per_neuron: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "ChFrenkel/tinyODIN doc/README.md: SPI bus, memories, neuron and synapse words, registers",
        "ChFrenkel/tinyODIN lif_neuron.v: 12-bit saturating state, spike at >= threshold, leak toward 0",
    )
    energy = EnergyModel(
        synaptic_operation_pj=12.7,
        spike_pj=0.0,
        memory_byte_pj=0.0,
        taken="on ODIN, of which tinyODIN is a smaller version without published figures: 28 nm, 0.55 V, the power of "
        "the whole chip, static power too, over its highest rate of synaptic operations, each with a neuron's update",
        source="C. Frenkel et al., A 0.086-mm² 12.7-pJ/SOP 64k-synapse 256-neuron online-learning digital spiking "
        "neuromorphic processor in 28-nm CMOS, IEEE Trans. Biomedical Circuits and Systems 13(1), 2019, pp. 145-158, "
        "doi:10.1109/TBCAS.2018.2880425",
    )
    arithmetic = Arithmetic(
        12, decay="linear", decay_bits=7, fires=">=", resets=frozenset({"zero"}), by_event=True, crossbar=True
    )
    limits = (
        Kinds((IntegerDense,)),
        Blocks(),
        Weights(-8, 7),
        Biases(0, 0),
        Thresholds(2**11 - 1),
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
            thresholds = spread(layer.threshold, (outputs,)).tolist()
            leaks = spread(code_of(layer, self.arithmetic, (outputs,)), (outputs,)).tolist()
            neurons[start : start + outputs] = list(map(chip.neuron_word, thresholds, leaks))
            first, size = start, outputs
        return {"neurons": neurons, "synapses": synapses}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        codes = self.prepare(network)
        last = len(codes["neurons"]) - 1
        words = [
            chip.Write(chip.neuron_address(neuron, byte), 0, word >> 8 * byte & 0xFF)
            for neuron, word in enumerate(codes["neurons"].tolist())
            for byte in range(4)
        ]
        synapses = [
            write for pre, row in enumerate(codes["synapses"].tolist()) for write in chip.synapse_bytes(pre, row)
        ]
        registers = [chip.register_write(chip.AER_SOURCE, 0), chip.register_write(chip.MAX_NEURON, last)]
        lines = [
            *chip.spi_lines(f"{OPEN}; spikes of writes stay out of the queue", chip.open_memories()),
            *chip.spi_lines("spikes leave as they are made; the last row in use", registers),
            *chip.spi_lines("neurons", words),
            *chip.spi_lines("synapses, row by row", synapses),
            *chip.spi_lines("spikes go round in the network; close the memories and start", chip.close_memories()),
        ]
        write_text(folder / FILE, "\n".join(lines) + "\n")
        membranes = chip.clear_membranes(range(math.prod(network.input_shape), last + 1))
        lines = [
            *chip.spi_lines(f"before each sample, {OPEN}", chip.open_memories()),
            *chip.spi_lines("membranes to 0: byte 0, and half of byte 1", membranes),
            *chip.spi_lines("close the memories and go on", chip.close_memories()),
        ]
        write_text(folder / CLEAR_FILE, "\n".join(lines) + "\n")

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
        return [
            *notes,
            "a time reference overtakes the queue: send it when the queue has drained (samples.events has the cycles)",
        ]

    def addresses(self, network: IntegerNetwork) -> dict[str, range]:
        first, found = math.prod(network.input_shape), {}
        for layer in network.neurons:
            size = math.prod(network.shape_of(layer))
            found[layer.name] = range(first, first + size)
            first += size
        return found

    def outdated(self, folder: Path) -> str:
        open_loop = 0
        for address, _, byte in _writes(folder / FILE):
            if address == chip.OPEN_LOOP:
                open_loop = byte & 1
            elif address & ~0xFFFF == chip.WRITE | chip.NEURON_MEMORY and not open_loop:
                return f"{FILE} writes neurons in closed loop, which makes a core send false events: build it again"
        return ""

    def write_samples(
        self, network: IntegerNetwork, inputs: torch.Tensor, run: IntegerRun, folder: Path
    ) -> dict[str, Any]:
        """``samples.events``, and what it says of queue and time.

        Raises:
            UserError: if a single event of an input fills the queue beyond its 128 entries.
        """
        rows = {INPUTS: range(math.prod(network.input_shape)), **self.addresses(network)}
        spikes = torch.cat([each.flatten(2) for each in run.spikes.values()], 2)
        core = Core(*memories(_writes(folder / FILE)), rows=1 + max(place[-1] for place in rows.values()))
        found = [core.play(sample.numpy()) for sample in inputs.flatten(2).transpose(0, 1).to(torch.int64)]
        own = [one.counts[:, len(rows[INPUTS]) :] for one in found]
        if not np.array_equal(np.stack(own, 1), spikes.numpy()):
            raise DataError(f"{folder / FILE} does not give the spikes of the arithmetic: report this as a fault")
        write_text(folder / EVENTS_FILE, text_of(found, rows))
        return facts_of(found, rows)

    def words(self, facts: Mapping[str, Any]) -> list[str]:
        queue, cycles = facts["queue"], facts["cycles"]
        return [
            f"queue: at most {queue['largest']} of {queue['entries']} entries as {EVENTS_FILE} is sent, with "
            f"{queue['pauses']} pauses among inputs; up to {queue['most_spikes']} spikes a step",
            f"cycles of a step: {cycles['step']}, at most {cycles['longest_step']}",
        ]


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


def _writes(path: Path) -> list[chip.Write]:
    if not path.exists():
        raise DataError(f"there is no {path}")
    try:
        lines = read_regular(path, SPI_SIZE).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: byte {error.start} is {error.object[error.start]:#04x}") from None
    writes = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not all(_WORD.fullmatch(word) for word in words):
            raise DataError(f"{path}, line {number}: {brief(line)} is no address and data in hexadecimal")
        address, data = (int(word, 16) for word in words)
        writes.append(chip.Write(address, data >> 8 & 0xFF, data & 0xFF))
    if not writes or writes[-1] != START:
        raise DataError(f"{path} does not end by starting the chip: it is not whole")
    return writes
