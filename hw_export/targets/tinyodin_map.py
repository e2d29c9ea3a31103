"""Where things lie in tinyODIN's memories, and how a write to them looks on its SPI bus.

From the chip's documentation (sections 2.1, 3 and 4). A write sends 20 bits of address, then 20 bits of data::

    address = 0 1 cmd[1:0] addr[15:0]          cmd 1 neuron memory, 2 synapse memory; 0 configuration, without the 1
    data    = 0000 mask[7:0] byte[7:0]         a bit of the mask that is 1 keeps what was there
    addr    = 0 byte[1:0] word[12:0]           of a byte in the synapse memory

Neuron ``n`` is word ``n`` of 32 bits: membrane 11…0, threshold 23…12, leak 30…24, disabled 31. The synapse from
neuron ``pre`` to ``post`` is four bits, two's complement, of byte ``post[2:1]`` of word ``{pre, post[7:3]}``: the low
half for an even ``post``.

What its Verilog adds to that (``controller.v``, ``neuron_core.v``, ``scheduler.v``):

* The memories are open while SPI_GATE_ACTIVITY is 1. The gate does not wait for an event that is being worked on: until
  that one ends, what would be written to a neuron is replaced by what SPI wrote last. It may be opened **only while the
  core is idle**: no event in the queue or at work, no time reference, no output waiting for its acknowledge.
* A write to a neuron also compares: the word that was there fires if its membrane has reached its threshold (zeros
  do), and its event goes into the queue unless SPI_OPEN_LOOP is 1.
* A reset empties the queue. It leaves the memories as they are, and the configuration registers too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Numbers = TypeVar("Numbers", int, NDArray[np.int64])
NEURONS = 256
LOWEST, HIGHEST = -8, 7
WRITE, NEURON_MEMORY, SYNAPSE_MEMORY = 1 << 18, 1 << 16, 2 << 16
GATE_ACTIVITY, OPEN_LOOP, AER_SOURCE, MAX_NEURON = 0, 1, 2, 3
"""Configuration registers: 1 opens the memories and stops the network; 1 keeps spikes from the network; source of
output events; the last neuron that is processed."""
TIME_REFERENCE = 0x1FF
"""Address on the input bus of the time reference of all neurons, their leak; an input event has its row for address."""
QUEUE = 128
"""Events that the queue holds, the one that is being worked on among them; what a neuron emits beyond is lost."""


class Write(NamedTuple):
    """One write: a 20-bit address, a mask of the bits to keep, and the byte (a register's value)."""

    address: int
    mask: int
    byte: int

    @property
    def data(self) -> int:
        """The 20 bits after the address."""
        return self.mask << 8 | self.byte


def register_write(register: int, value: int) -> Write:
    """Set a configuration register."""
    return Write(register, 0, value)


def open_memories() -> list[Write]:
    """Stop the network, open the memories, and keep what writes to neurons emit out of the queue; only when idle."""
    return [register_write(GATE_ACTIVITY, 1), register_write(OPEN_LOOP, 1)]


def close_memories() -> list[Write]:
    """Let spikes go round in the network again, then close the memories and let it run."""
    return [register_write(OPEN_LOOP, 0), register_write(GATE_ACTIVITY, 0)]


def clear_membranes(neurons: Iterable[int]) -> list[Write]:
    """Set the membranes of ``neurons`` to 0, and nothing else of their words; for open memories."""
    return [
        write
        for neuron in neurons
        for write in (Write(neuron_address(neuron, 0), 0x00, 0), Write(neuron_address(neuron, 1), 0xF0, 0))
    ]


def spi_line(write: Write) -> str:
    """A write as it stands in a file: address and data in hexadecimal."""
    return f"{write.address:05x} {write.data:05x}"


def spi_lines(comment: str, writes: Sequence[Write]) -> list[str]:
    """A comment, and ``writes`` below it."""
    return [f"# {comment}", *(spi_line(write) for write in writes)]


def neuron_address(neuron: int, byte: int) -> int:
    """Address of a byte, 0 to 3 from the lowest, of a neuron's word."""
    return WRITE | NEURON_MEMORY | byte << 8 | neuron


def neuron_word(threshold: int, leak: int, *, membrane: int = 0, disabled: bool = False) -> int:
    """The word of a neuron."""
    return int(disabled) << 31 | (leak & 0x7F) << 24 | (threshold & 0xFFF) << 12 | membrane & 0xFFF


def neuron_fields(word: int) -> tuple[int, int, bool]:
    """Threshold, leak, and whether a neuron is disabled, of its word."""
    return word >> 12 & 0xFFF, word >> 24 & 0x7F, bool(word >> 31)


def synapse_address(pre: Numbers, post: Numbers) -> Numbers:
    """Address of the byte that holds the synapse from ``pre`` to ``post``, one number or many."""
    return WRITE | SYNAPSE_MEMORY | (post >> 1 & 3) << 13 | pre << 5 | post >> 3


def synapse_bits(post: Numbers) -> Numbers:
    """The lowest bit, in its byte, of a synapse to ``post``: 0 or 4."""
    return (post & 1) * 4


def synapse_write(pre: int, post: int, weight: int) -> Write:
    """Set one synapse to a weight of −8 to 7 and keep its neighbour in the byte."""
    if not LOWEST <= weight <= HIGHEST:
        raise ValueError(f"a weight of tinyODIN lies in {LOWEST} to {HIGHEST}, got {weight}")
    bits = synapse_bits(post)
    return Write(synapse_address(pre, post), 0xFF & ~(0xF << bits), (weight & 0xF) << bits)


def synapse_bytes(pre: int, weights: list[int]) -> list[Write]:
    """All synapses of a row, whole bytes; an odd number of ``weights`` is filled up with 0."""
    full = [*weights, 0] if len(weights) % 2 else weights
    return [
        Write(synapse_address(pre, post), 0, (full[post] & 0xF) | (full[post + 1] & 0xF) << 4)
        for post in range(0, len(full), 2)
    ]
