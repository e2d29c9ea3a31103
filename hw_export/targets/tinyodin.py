"""tinyODIN: a crossbar of 256 neurons, programmed over SPI and sent samples as events.

Facts are from the chip's documentation (C. Frenkel; ``ChFrenkel/tinyODIN``, ``doc/README.md``, sections 2.1, 3 and 4).
A write sends 20 bits of address, then 20 bits of data::

    address = 0 1 cmd[1:0] addr[15:0]          cmd 1 neuron memory, 2 synapse memory; 0 configuration, without the 1
    data    = 0000 mask[7:0] byte[7:0]         a bit of the mask that is 1 keeps what was there
    addr    = 0 byte[1:0] word[12:0]           of a byte in the synapse memory

Neuron ``n`` is word ``n`` of 32 bits: membrane 11…0, threshold 23…12, leak 30…24, disabled 31. The synapse from
neuron ``pre`` to ``post`` takes four bits, two's complement, of byte ``post[2:1]`` of word ``{pre, post[7:3]}``: the
low half for an even ``post``.

The Verilog adds (``controller.v``, ``neuron_core.v``, ``scheduler.v``):

* The memories are open while SPI_GATE_ACTIVITY is 1. The gate does not wait for an event in flight: until that ends,
  what it should write to a neuron is replaced by what SPI wrote last. It may be opened **only while the core is idle**:
  no event in the queue or at work, no time reference, no output waiting for its acknowledge.
* A write to a neuron also compares: the word before the write fires if its membrane has reached its threshold (zeros
  do), and its event goes into the queue unless SPI_OPEN_LOOP is 1.
* A reset empties the queue. It leaves the memories and the configuration registers as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerDense, IntegerNetwork, spread
from hw_export.integer.simulator import IntegerRun
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.limits import BiasRange, Blocks, Kinds, Limit, Thresholds, Violation, WeightRange, above
from hw_export.targets.outline import check_codes, rebuild
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_text
from spikelfp.terminal import brief
from spikelfp.untrusted import read_regular

# Memories and SPI writes

Numbers = TypeVar("Numbers", int, NDArray[np.int64])
NEURONS = 256
"""Neurons of the chip, and rows of its crossbar."""
LOWEST, HIGHEST = -8, 7
"""Range of weights."""
WRITE, NEURON_MEMORY, SYNAPSE_MEMORY = 1 << 18, 1 << 16, 2 << 16
GATE_ACTIVITY, OPEN_LOOP, AER_SOURCE, MAX_NEURON = 0, 1, 2, 3
"""Configuration registers: 1 opens the memories and stops the network; 1 keeps spikes out of the network; source of
output events; last neuron that is processed."""
TIME_REFERENCE = 0x1FF
"""Address on the input bus of the time reference, the leak of all neurons; the address of an input event is its row."""
QUEUE = 128
"""Events that the queue holds, the one at work among them; further events are lost."""


class Write(NamedTuple):
    """SPI write.

    Attributes:
        address: 20 bits.
        mask: 8 bits, 1 for bits that the chip keeps.
        byte: 8 bits, the new ones; of a configuration register its value.
    """

    address: int
    mask: int
    byte: int

    @property
    def data(self) -> int:
        """Data of the transaction: the 20 bits after the address."""
        return self.mask << 8 | self.byte


def register_write(register: int, value: int) -> Write:
    """Make the write that sets a configuration register."""
    return Write(register, 0, value)


def open_memories() -> list[Write]:
    """Make the writes that stop the network, open the memories and keep events of writes out of the queue.

    They may be sent only while the core is idle.
    """
    return [register_write(GATE_ACTIVITY, 1), register_write(OPEN_LOOP, 1)]


def close_memories() -> list[Write]:
    """Make the writes that let spikes into the network again, close the memories and let the network run."""
    return [register_write(OPEN_LOOP, 0), register_write(GATE_ACTIVITY, 0)]


def clear_membranes(neurons: Iterable[int]) -> list[Write]:
    """Make the writes that set the membranes of neurons to 0 and keep the rest of their words; memories are open."""
    return [
        write
        for neuron in neurons
        for write in (Write(neuron_address(neuron, 0), 0x00, 0), Write(neuron_address(neuron, 1), 0xF0, 0))
    ]


def spi_lines(comment: str, writes: Sequence[Write]) -> list[str]:
    """Format a comment and the writes below it, address and data in hexadecimal, as lines of a file."""
    return [f"# {comment}", *(f"{write.address:05x} {write.data:05x}" for write in writes)]


def neuron_address(neuron: int, byte: int) -> int:
    """Compute the address of a byte, 0 to 3 from the lowest, of a neuron's word."""
    return WRITE | NEURON_MEMORY | byte << 8 | neuron


def neuron_word(threshold: int, leak: int, *, membrane: int = 0, disabled: bool = False) -> int:
    """Encode the 32-bit word of a neuron."""
    return int(disabled) << 31 | (leak & 0x7F) << 24 | (threshold & 0xFFF) << 12 | membrane & 0xFFF


def neuron_fields(word: int) -> tuple[int, int, bool]:
    """Decode the word of a neuron: threshold, leak, and whether it is disabled."""
    return word >> 12 & 0xFFF, word >> 24 & 0x7F, bool(word >> 31)


def synapse_address(pre: Numbers, post: Numbers) -> Numbers:
    """Compute the address of the byte that holds the synapse from ``pre`` to ``post``, for numbers or arrays."""
    return WRITE | SYNAPSE_MEMORY | (post >> 1 & 3) << 13 | pre << 5 | post >> 3


def synapse_bits(post: Numbers) -> Numbers:
    """Compute the lowest bit of a synapse to ``post`` in its byte: 0 or 4."""
    return (post & 1) * 4


def synapse_write(pre: int, post: int, weight: int) -> Write:
    """Make the write that sets one synapse and keeps its neighbour in the byte.

    Raises:
        ValueError: for a weight outside of −8 to 7.
    """
    if not LOWEST <= weight <= HIGHEST:
        raise ValueError(f"a weight of tinyODIN lies in {LOWEST} to {HIGHEST}, got {weight}")
    bits = synapse_bits(post)
    return Write(synapse_address(pre, post), 0xFF & ~(0xF << bits), (weight & 0xF) << bits)


def synapse_bytes(pre: int, weights: list[int]) -> list[Write]:
    """Make the writes of the synapses of a row, whole bytes; a 0 follows an odd number of weights."""
    full = [*weights, 0] if len(weights) % 2 else weights
    return [
        Write(synapse_address(pre, post), 0, (full[post] & 0xF) | (full[post + 1] & 0xF) << 4)
        for post in range(0, len(full), 2)
    ]


# Samples as a board sends them: events, the queue and the time they take

INPUTS = "input"
"""Name of the rows of the inputs."""
INPUT, OUTPUT, RECEIVER = 5, 6, 16
"""Cycles of an input on its way into the queue, of a spike on its way out, and allowed to the receiver of a spike."""


class Burst(NamedTuple):
    """Inputs that are sent one after another into an empty queue.

    Attributes:
        inputs: rows of the inputs, int64 ``[I]``.
        spikes: rows of all spikes that follow from them, in order, int64 ``[S]``.
        fill: most events in the queue at once.
    """

    inputs: NDArray[np.int64]
    spikes: NDArray[np.int64]
    fill: int


@dataclass(frozen=True)
class PlayedSample:
    """Sample that was sent through a core.

    Attributes:
        counts: spikes of each row in use at each step, int64 ``[T, rows]``.
        steps: bursts of each step.
    """

    counts: NDArray[np.int64]
    steps: Sequence[Sequence[Burst]]


class Core:
    """Core of tinyODIN with programmed memories.

    Args:
        neurons: words of the neurons, uint32 ``[256]``.
        synapses: weights, int8 ``[pre, post]``.
        rows: number of rows in use, inputs and neurons.
    """

    def __init__(self, neurons: NDArray[np.uint32], synapses: NDArray[np.int8], rows: int) -> None:
        fields = np.array([neuron_fields(int(word)) for word in neurons[:rows]], dtype=np.int64)
        self.rows = rows
        self._weights = synapses[:rows, :rows].astype(np.int64)
        self._threshold, self._leak, self._disabled = (np.ascontiguousarray(column) for column in fields.T)

    def play(self, sample: NDArray[np.int64]) -> PlayedSample:
        """Send a sample through the core, from membranes of 0.

        Args:
            sample: events of each input at each step, int64 ``[T, inputs]``.
        """
        given = [np.repeat(np.arange(len(row)), row) for row in sample]
        inputs, lengths = np.concatenate(given), np.array([len(rows) for rows in given])
        spikes, numbers, fills = _settle(inputs, lengths, self._weights, self._threshold, self._leak, self._disabled)
        ends = np.concatenate([[0], np.cumsum(numbers)])
        counts = np.zeros((len(sample), self.rows), dtype=np.int64)
        steps, first = [], 0
        for step, row in enumerate(given):
            own = slice(first, first + len(row))
            counts[step] = np.bincount(spikes[ends[own.start] : ends[own.stop]], minlength=self.rows)
            steps.append(list(_bursts(row, spikes, ends[own.start : own.stop + 1], fills[own])))
            first = own.stop
        return PlayedSample(counts, steps)


def _bursts(
    inputs: NDArray[np.int64], spikes: NDArray[np.int64], ends: NDArray[np.int64], fills: NDArray[np.int64]
) -> Iterator[Burst]:
    """Divide the inputs of a step into as few bursts as cannot overflow the queue, however fast they are sent."""
    first = 0
    while first < len(inputs):
        last = first + 1
        fill = int(fills[first])  # of a single input it does not depend on the speed of the sender
        while last < len(inputs) and 1 + ends[last + 1] - ends[first] <= QUEUE:
            last += 1
        if last > first + 1:
            fill = int(1 + ends[last] - ends[first])
        yield Burst(inputs[first:last], spikes[ends[first] : ends[last]], fill)
        first = last


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _settle(inputs, lengths, weights, threshold, leak, disabled):
    """Work off each input until the queue is empty: all spikes in order, and for each input their number and the fill.

    An event of row ``i``: for each neuron ``U = clip(V + w[i], −2048, 2047)``, a spike and ``V = 0`` where ``U ≥ θ``,
    else ``V = U``. After the events of a step membranes leak toward 0.
    """
    rows = len(threshold)
    state = np.zeros(rows, np.int64)
    numbers, fills = np.zeros(len(inputs), np.int64), np.zeros(len(inputs), np.int64)
    queue = np.empty(1024, np.int64)
    spikes, count = np.empty(1024, np.int64), 0
    place = 0
    for step in range(len(lengths)):
        for _ in range(lengths[step]):
            queue[0] = inputs[place]
            head, end, most = 0, 1, 1
            while head < end:
                row = weights[queue[head]]
                for post in range(rows):
                    u = min(max(state[post] + row[post], -2048), 2047)
                    if u >= threshold[post]:
                        u = 0
                        if disabled[post] == 0:
                            if end == len(queue):
                                queue = np.append(queue, queue)
                            queue[end] = post
                            end += 1
                            most = max(most, end - head)
                    state[post] = u
                head += 1
            if count + end > len(spikes):
                spikes = np.append(spikes, np.empty(count + end, np.int64))
            spikes[count : count + end - 1] = queue[1:end]
            count += end - 1
            numbers[place], fills[place] = end - 1, most
            place += 1
        for post in range(rows):
            if state[post] > 0:
                state[post] = max(state[post] - leak[post], 0)
            else:
                state[post] = min(state[post] + leak[post], 0)
    return spikes[:count], numbers, fills


def drain_cycles(spikes: int, rows: int) -> int:
    """Bound the cycles from the acknowledge of the last input until it and all spikes that follow are worked off.

    From the state machine of ``controller.v``, with ``rows`` in use: an event of the queue takes ``2 rows + 2`` cycles,
    an input :data:`INPUT` more for its way in, a spike :data:`OUTPUT` more for its way out. The receiver of a spike may
    take :data:`RECEIVER` of them to raise and lower the acknowledge. With a slower receiver, only cycles without
    request and acknowledge of the output count, because the core waits in the others.

    Args:
        spikes: number of spikes.
        rows: number of rows in use.
    """
    return (1 + spikes) * (2 * rows + 2) + spikes * (OUTPUT + RECEIVER)


def text_of(samples: Sequence[PlayedSample], rows: Mapping[str, range]) -> str:
    """Write samples as the text of ``samples.events``: one command a line, a word and a number; ``#`` is a comment.

    ::

        sample S        the next sample, from 0
        clear 0         bring all membranes to 0: send clear.spi
        step T          the next step, from 0
        input A         send address A on the input bus: four-phase handshake, next line
        drain N         wait N cycles, in which the queue drains
        expect A        address A has come on the output bus in this step; a line for each spike, in any order
        tref A          send address A, the time reference of all neurons; its acknowledge says that it is done

    A ``drain`` follows every burst. It is also put between the inputs of a step where the spikes that follow could be
    more than the queue holds, so the queue never overflows, however fast or slow inputs are sent.

    Args:
        samples: in order.
        rows: rows of the inputs and of each layer.
    """
    last = max(place[-1] for place in rows.values())
    lines = [
        "# the samples of this export for a tinyODIN programmed with tinyodin.spi: a word and a number a line",
        *(f"# rows {place[0]} to {place[-1]}: {name}" for name, place in rows.items()),
    ]
    for index, sample in enumerate(samples):
        lines += [f"sample {index}", "clear 0"]
        for step, parts in enumerate(sample.steps):
            lines.append(f"step {step}")
            for part in parts:
                lines += [f"input {row}" for row in part.inputs.tolist()]
                lines.append(f"drain {drain_cycles(len(part.spikes), last + 1)}")
            lines += [f"expect {row}" for part in parts for row in part.spikes.tolist()]
            lines.append(f"tref {TIME_REFERENCE}")
    return "\n".join(lines) + "\n"


def facts_of(samples: Sequence[PlayedSample], rows: Mapping[str, range]) -> dict[str, Any]:
    """Collect rows, queue and cycles for the manifest.

    Args:
        samples: in order.
        rows: rows of the inputs and of each layer.

    Raises:
        UserError: if the queue overflows however slowly the inputs are sent.
    """
    used = 1 + max(place[-1] for place in rows.values())
    each, out, leak = 2 * used + 2, OUTPUT + RECEIVER, 2 * used + INPUT
    largest = most = pauses = longest = 0
    for index, sample in enumerate(samples):
        for step, parts in enumerate(sample.steps):
            inputs, spikes = sum(len(part.inputs) for part in parts), sum(len(part.spikes) for part in parts)
            for part in parts:
                if part.fill > QUEUE:
                    raise UserError(
                        f"tinyodin loses spikes of these samples: in sample {index}, step {step}, one input event, of "
                        f"row {part.inputs[0]}, puts {part.fill} events into its queue of {QUEUE}: take fewer neurons "
                        "in a layer, or train with a higher threshold"
                    )
                largest = max(largest, part.fill)
            most, pauses = max(most, spikes), pauses + max(len(parts) - 1, 0)
            longest = max(longest, inputs * (each + INPUT) + spikes * (each + out) + leak)
    return {
        "rows": {name: [place[0], place[-1]] for name, place in rows.items()},
        "queue": {"entries": QUEUE, "largest": largest, "most_spikes": most, "pauses": pauses},
        "cycles": {
            "event": each,
            "input": each + INPUT,
            "spike": each + out,
            "time_reference": leak,
            "step": f"{each + INPUT} inputs + {each + out} spikes + {leak}",
            "longest_step": longest,
        },
    }


# The target

FILE, CLEAR_FILE, EVENTS_FILE = "tinyodin.spi", "clear.spi", "samples.events"
SPI_SIZE = 1 << 22
"""Most bytes of ``tinyodin.spi`` (4 MiB); all memories of the chip take a tenth of that."""

START = register_write(GATE_ACTIVITY, 0)
"""Last write of ``tinyodin.spi``."""
_HEXADECIMAL = re.compile("[0-9a-fA-F]{1,5}")  # 20 bits

OPEN = "while the core is idle: stop the network and open the memories"


@dataclass(frozen=True)
class Rows(Limit):
    """Number of inputs and neurons, which share the rows of the crossbar.

    Attributes:
        most: highest number.
    """

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        sizes = [math.prod(network.input_shape), *(math.prod(network.shape_of(layer)) for layer in network.neurons)]
        yield from above(None, f"inputs and neurons together ({' + '.join(map(str, sizes))})", sum(sizes), self.most)

    def __str__(self) -> str:
        return f"{self.most} inputs and neurons together"


@TARGETS.register("tinyodin")
class TinyOdin(Chip):
    """tinyODIN: SPI writes that program the chip, and samples as events.

    ``tinyodin.spi`` holds one SPI write a line, in the order to be sent, ``AAAAA DDDDD`` in hexadecimal: 20 bits of
    address and 20 of data; ``#`` starts a comment. ``clear.spi`` holds the writes that set all membranes to 0, which a
    reset does not do. ``samples.events`` holds samples as they are sent, with the spikes that come back
    (:func:`text_of`).

    Rows from 0 on are the inputs, then the neurons layer by layer. An input is a row of the crossbar whose neuron is
    disabled: its events are sent to the chip as events of that neuron. An event adds its row of weights to the 12-bit
    membranes, which saturate; a neuron fires at ``V ≥ θ`` and is reset to 0. When the queue has drained after the
    events of a step, the chip is sent a time reference of all neurons, which takes their leak off the membranes, toward
    0. Each neuron has its own threshold, and a leak made from it.
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
        WeightRange(-8, 7),
        BiasRange(0, 0),
        Thresholds(2**11 - 1),
        Rows(NEURONS),
    )

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        """Compute ``neurons``, uint32 words ``[rows]``, and ``synapses``, int8 ``[pre, post]``, of all rows in use."""
        inputs = math.prod(network.input_shape)
        rows = inputs + sum(layer.weight.shape[0] for layer in network.products)
        neurons = np.full(rows, neuron_word(2**11 - 1, 0, disabled=True), dtype=np.uint32)
        synapses = np.zeros((rows, rows), dtype=np.int8)
        first, size = 0, inputs
        for product, layer in zip(network.products, network.neurons, strict=True):
            start, outputs = first + size, product.weight.shape[0]
            synapses[first:start, start : start + outputs] = product.weight.numpy().T
            thresholds = spread(layer.threshold, (outputs,)).tolist()
            leaks = spread(code_of(layer, self.arithmetic, (outputs,)), (outputs,)).tolist()
            neurons[start : start + outputs] = list(map(neuron_word, thresholds, leaks))
            first, size = start, outputs
        return {"neurons": neurons, "synapses": synapses}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        codes = self.prepare(network)
        last = len(codes["neurons"]) - 1
        words = [
            Write(neuron_address(neuron, byte), 0, word >> 8 * byte & 0xFF)
            for neuron, word in enumerate(codes["neurons"].tolist())
            for byte in range(4)
        ]
        synapses = [write for pre, row in enumerate(codes["synapses"].tolist()) for write in synapse_bytes(pre, row)]
        registers = [register_write(AER_SOURCE, 0), register_write(MAX_NEURON, last)]
        lines = [
            *spi_lines(f"{OPEN}; spikes of writes stay out of the queue", open_memories()),
            *spi_lines("spikes leave as they are made; the last row in use", registers),
            *spi_lines("neurons", words),
            *spi_lines("synapses, row by row", synapses),
            *spi_lines("spikes go round in the network; close the memories and start", close_memories()),
        ]
        write_text(folder / FILE, "\n".join(lines) + "\n")
        membranes = clear_membranes(range(math.prod(network.input_shape), last + 1))
        lines = [
            *spi_lines(f"before each sample, {OPEN}", open_memories()),
            *spi_lines("membranes to 0: byte 0, and half of byte 1", membranes),
            *spi_lines("close the memories and go on", close_memories()),
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
                words = [neuron_fields(word) for word in neurons[start : start + layer["shape"][0]].tolist()]
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
            if address == OPEN_LOOP:
                open_loop = byte & 1
            elif address & ~0xFFFF == WRITE | NEURON_MEMORY and not open_loop:
                return f"{FILE} writes neurons in closed loop, which makes a core send false events: build it again"
        return ""

    def write_samples(
        self, network: IntegerNetwork, inputs: torch.Tensor, run: IntegerRun, folder: Path
    ) -> dict[str, Any]:
        """Write ``samples.events``, and collect facts of queue and time.

        Raises:
            UserError: if a single event of an input fills the queue beyond its 128 entries.
            DataError: if the files do not give the spikes of ``run``.
        """
        rows = {INPUTS: range(math.prod(network.input_shape)), **self.addresses(network)}
        spikes = torch.cat([each.flatten(2) for each in run.spikes.values()], 2)
        core = Core(*memories(_writes(folder / FILE)), rows=1 + max(place[-1] for place in rows.values()))
        samples = [core.play(sample.numpy()) for sample in inputs.flatten(2).transpose(0, 1).to(torch.int64)]
        counts = np.stack([sample.counts[:, len(rows[INPUTS]) :] for sample in samples], 1)
        if not np.array_equal(counts, spikes.numpy()):
            raise DataError(f"{folder / FILE} does not give the spikes of the arithmetic: report this as a fault")
        write_text(folder / EVENTS_FILE, text_of(samples, rows))
        return facts_of(samples, rows)

    def describe_samples(self, facts: Mapping[str, Any]) -> list[str]:
        queue, cycles = facts["queue"], facts["cycles"]
        return [
            f"queue: at most {queue['largest']} of {queue['entries']} entries as {EVENTS_FILE} is sent, with "
            f"{queue['pauses']} pauses among inputs; up to {queue['most_spikes']} spikes a step",
            f"cycles of a step: {cycles['step']}, at most {cycles['longest_step']}",
        ]


def memories(writes: Sequence[Write]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the memories of a chip after some writes, 0 where nothing was written.

    Args:
        writes: in the order they are sent.

    Returns:
        Words of the neurons, uint32 ``[256]``, and weights, int8 ``[pre, post]``.
    """
    neurons = np.zeros((NEURONS, 4), dtype=np.uint8)
    synapses = np.zeros((NEURONS, NEURONS // 2), dtype=np.uint8)
    for address, mask, byte in writes:
        memory = address & ~0xFFFF
        if memory == WRITE | NEURON_MEMORY:
            cells, place = neurons, (address & 0xFF, address >> 8 & 3)
        elif memory == WRITE | SYNAPSE_MEMORY:
            cells, place = synapses, (address >> 5 & 0xFF, (address & 0x1F) << 2 | address >> 13 & 3)
        else:
            continue
        cells[place] = cells[place] & mask | byte & ~mask & 0xFF
    halves = np.stack([synapses & 0xF, synapses >> 4], -1).reshape(NEURONS, NEURONS).astype(np.int8)
    return neurons.view("<u4")[:, 0], np.where(halves > 7, halves - 16, halves).astype(np.int8)


def _writes(path: Path) -> list[Write]:
    if not path.exists():
        raise DataError(f"there is no {path}")
    try:
        lines = read_regular(path, SPI_SIZE).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: byte {error.start} is {error.object[error.start]:#04x}") from None
    writes = []
    for number, line in enumerate(lines, 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 2 or not all(map(_HEXADECIMAL.fullmatch, fields)):
            raise DataError(f"{path}, line {number}: {brief(line)} is no address and data in hexadecimal")
        address, data = (int(each, 16) for each in fields)
        writes.append(Write(address, data >> 8 & 0xFF, data & 0xFF))
    if not writes or writes[-1] != START:
        raise DataError(f"{path} does not end by starting the chip: it is not whole")
    return writes
