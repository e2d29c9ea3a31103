"""Streams as the SPI writes that bring them into a tinyODIN chip, sent frame by frame or written to a text file.

:mod:`hw_export.targets.tinyodin` describes the memories of the chip and how a write is coded. A transaction is 40 bits,
the highest first: 20 bits of address, then 20 of data. The chip keeps the bits that are 1 in the mask:
``stored = (byte & ~mask) | (stored & mask)``.

The memories take writes while SPI_GATE_ACTIVITY is 1, which also stops the network. It may become 1 **only while the
core is idle**: nothing in the queue, no time reference at work, no output waiting for its acknowledge. The gate does
not wait for an event in flight, and what that event should write to neurons is replaced by what SPI wrote last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hw_export.targets.tinyodin import (
    GATE_ACTIVITY,
    HIGHEST,
    LOWEST,
    NEURONS,
    register_write,
    synapse_address,
    synapse_bits,
)
from hw_export.updates.content import (
    Change,
    Decoder,
    Frame,
    IntegerImage,
    Parameter,
    StreamHeader,
    changes_of,
    check_image,
    read_events,
)
from hw_export.updates.replay import apply, base_of, tail_notes
from spikelfp import checks
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_whole
from spikelfp.terminal import brief


@dataclass(frozen=True, eq=False)
class SpiWrites:
    """SPI writes, ``N`` of them, in order.

    Attributes:
        address: uint32 ``[N]``, 20 bits used.
        mask: uint8 ``[N]``, 1 for bits that the chip keeps.
        byte: uint8 ``[N]``, new bits.
    """

    address: NDArray[np.uint32]
    mask: NDArray[np.uint8]
    byte: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.address)

    def transactions(self) -> NDArray[np.uint64]:
        """Join address and data to the 40 bits of each write, uint64 ``[N]``."""
        data = self.mask.astype(np.uint64) << np.uint64(8) | self.byte
        return self.address.astype(np.uint64) << np.uint64(20) | data

    def to_bytes(self) -> bytes:
        """Encode the writes as they go over the wire, five bytes each."""
        return self.transactions().astype(">u8").view(np.uint8).reshape(-1, 8)[:, 3:].tobytes()


def gate(held: bool) -> SpiWrites:
    """Make the write to SPI_GATE_ACTIVITY that opens the memories and stops the network, or lets it go on.

    Args:
        held: ``True`` to open the memories. Do so only while the core is idle, as described above; an event in flight
            leaves wrong membranes and thresholds.
    """
    address, mask, byte = register_write(GATE_ACTIVITY, int(held))
    return SpiWrites(np.array([address], np.uint32), np.array([mask], np.uint8), np.array([byte], np.uint8))


@dataclass(frozen=True)
class _Layer:
    """Weights ``[outputs, inputs]`` between the neurons from ``pre`` on and those from ``post`` on."""

    inputs: int
    outputs: int
    pre: int
    post: int


class SpiLayout:
    """Layout of a network on tinyODIN: the inputs take the first of its 256 neurons, then layer follows layer.

    The neurons of the chip have no bias: a bias that is not 0 is refused when it is to be written.

    Args:
        parameters: of a stream or an image, ``<layer>.weight`` ``[out, in]`` in the order they run, of at most 4 bits.

    Attributes:
        neurons: number of neurons in use, those of the inputs too.
        ranges: neurons of the inputs, then of every layer.

    Raises:
        UserError: for layers that are not dense, weights of more than 4 bits, layers that do not fit each other, no
            weights at all, and more than 256 inputs and neurons.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        if not isinstance(parameters, Iterable) or not all(isinstance(p, Parameter) for p in parameters):
            raise UserError(f"parameters are those of a stream or an image, got {brief(parameters)}")
        self._layers: dict[str, _Layer] = {}
        self._biases: set[str] = set()
        begin = end = 0
        for p in parameters:
            if p.name.endswith(".bias"):
                self._biases.add(p.name)
                continue
            if len(p.shape) != 2:
                raise UserError(f"{p.name} has shape {p.shape}: tinyODIN takes dense layers, [out, in]")
            if p.grid.low < LOWEST or p.grid.high > HIGHEST:
                raise UserError(
                    f"{p.name} lies on a grid from {p.grid.low} to {p.grid.high}, tinyODIN's weights from {LOWEST} to "
                    f"{HIGHEST}: record with 4 bits or fewer"
                )
            outputs, inputs = p.shape
            end = end or inputs
            if inputs != end - begin:
                raise UserError(f"{p.name} takes {inputs} inputs, the layer before it has {end - begin} neurons")
            self._layers[p.name] = _Layer(inputs, outputs, begin, end)
            begin, end = end, end + outputs
        if end > NEURONS:
            raise UserError(f"the network has {end} inputs and neurons, {end - NEURONS} more than tinyODIN's {NEURONS}")
        if not self._layers:
            raise UserError("there are no weights to be put onto the chip")
        self.neurons = end
        starts = [layer.pre for layer in self._layers.values()] + [begin, end]
        self.ranges = tuple(range(low, high) for low, high in pairwise(starts))

    def image(self, image: IntegerImage) -> SpiWrites:
        """Make the writes that bring a whole image onto the chip; synapses between other neurons stay as they are.

        Args:
            image: integers of the parameters.

        Raises:
            UserError: for a bias that is not 0.
        """
        return self.writes(changes_of(check_image("image", image)))

    def writes(self, changes: Iterable[Change]) -> SpiWrites:
        """Make the writes for the changes of a frame, at rising addresses; two synapses in a byte take one write.

        Args:
            changes: new values of elements.

        Raises:
            UserError: for a bias that is not 0, and a parameter that is not on the chip.
        """
        pre, post, value = [], [], []
        for change in changes:
            if change.parameter in self._biases:
                if change.values.any():
                    raise UserError(
                        f"{change.parameter} is not 0, and tinyODIN's neurons have no bias: use layers with bias=False"
                    )
                continue
            layer = self._layers.get(change.parameter)
            if layer is None:
                raise UserError(f"{change.parameter} is not on the chip: it has {', '.join(self._layers)}")
            pre.append(layer.pre + change.indices % layer.inputs)
            post.append(layer.post + change.indices // layer.inputs)
            value.append(change.values)
        if not value:
            return SpiWrites(np.zeros(0, np.uint32), np.zeros(0, np.uint8), np.zeros(0, np.uint8))
        posts = np.concatenate(post)
        addresses = synapse_address(np.concatenate(pre), posts).astype(np.uint32)
        address, place = np.unique(addresses, return_inverse=True)
        shift = synapse_bits(posts)
        mask, data = np.full(len(address), 0xFF, np.int64), np.zeros(len(address), np.int64)
        np.bitwise_and.at(mask, place, ~(0xF << shift))
        np.bitwise_or.at(data, place, (np.concatenate(value).astype(np.int64) & 0xF) << shift)
        return SpiWrites(address, mask.astype(np.uint8), data.astype(np.uint8))


class SpiWriter:
    """Target of :func:`~hw_export.updates.follow` that sends each frame to a tinyODIN, opening its memories once.

    Only weights are sent; send the thresholds, leaks and registers of ``tinyodin.spi`` before. A frame that changes no
    weight of the chip sends nothing.

    Args:
        send: takes the bytes of one or more transactions, five each, as they go over the wire.
        wait_idle: returns when the core is idle. It is called before each frame, because opening the memories of a core
            at work corrupts its neurons. No pin of the core tells; docs/export.md says how a host knows.

    Attributes:
        layout: layout of the network on the chip, ``None`` before the header of the stream was read.
    """

    def __init__(self, send: Callable[[bytes], object], wait_idle: Callable[[], object]) -> None:
        self._send, self._wait_idle = send, wait_idle
        self.layout: SpiLayout | None = None

    def begin(self, parameters: Sequence[Parameter]) -> None:
        """Lay out the parameters of a stream.

        Args:
            parameters: of the header.

        Raises:
            UserError: for parameters that :class:`SpiLayout` refuses.
        """
        self.layout = SpiLayout(parameters)

    def write_frame(self, step: int, changes: Sequence[Change]) -> None:
        """Send the changes of a frame.

        Args:
            step: steps of training, not used.
            changes: new values of elements.

        Raises:
            UserError: for a bias that is not 0, a parameter that is not on the chip, and a frame before :meth:`begin`.
        """
        if self.layout is None:
            raise UserError("a writer must know the parameters before its first frame: call begin, or use follow")
        writes = self.layout.writes(changes)
        if len(writes):
            self._wait_idle()
            self._send(gate(True).to_bytes() + writes.to_bytes() + gate(False).to_bytes())


# A stream as a text file

SPI_TITLE = "# SPI writes of a stream of updates for tinyODIN"
"""First words of a file of SPI writes."""
IDLE = "idle"
"""Line after which the sender must wait until the core is idle."""
_TRANSACTION = 5
"""Bytes of a transaction."""


@dataclass(frozen=True)
class SpiFile:
    """Figures of a file of SPI writes.

    Attributes:
        frames: frames of the stream, the base image among them.
        openings: times that the memories are opened.
        writes: writes of weights.
        step: step of training with which the file ends.
        notes: remarks, such as a stream that was cut.
    """

    frames: int
    openings: int
    writes: int
    step: int
    notes: tuple[str, ...]


class _Text:
    """Text file that takes what a :class:`SpiWriter` sends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.openings = self.writes = 0

    def line(self, text: str) -> None:
        self._file.write(f"{text}\n".encode())

    def idle(self) -> None:
        self.openings += 1
        self.line(IDLE)

    def send(self, wire: bytes) -> None:
        self.writes += len(wire) // _TRANSACTION - 2  # without opening and closing the memories
        digits = wire.hex()
        size = 2 * _TRANSACTION
        for place in range(0, len(digits), size):
            self.line(f"{digits[place : place + 5]} {digits[place + 5 : place + size]}")


def write_spi(
    stream: str | Path,
    out: str | Path,
    base: IntegerImage | None = None,
    upto: int | None = None,
    *,
    whole: bool = True,
    strict: bool = False,
) -> SpiFile:
    """Write a stream as SPI writes to a text file, whole or not at all.

    A line is one write, as in the ``tinyodin.spi`` of an export: 20 bits of address and 20 of data in hexadecimal;
    ``#`` starts a comment. A line ``idle`` precedes each frame: send what follows once the core is idle. A frame opens
    the memories, writes weights and closes the memories.

    Args:
        stream: file of a stream.
        out: file to write.
        base: the base image, where the stream does not hold it.
        upto: last step of training, by default the end of the stream.
        whole: begin with all weights of the base image; otherwise the chip must hold them already.
        strict: refuse a stream that was cut, or not closed.

    Returns:
        Figures of the file.

    Raises:
        UserError: for a network that tinyODIN cannot hold, a step that is not in the stream, and a missing base image.
        DataError: for a damaged stream, and another base image.
        SaveError: when ``out`` cannot be written.
    """
    if upto is not None:
        upto = checks.whole("upto, a step of training,", upto, None)
    for name, value in (("whole", whole), ("strict", strict)):
        checks.truth(name, value)
    done: list[SpiFile] = []
    write_whole(checks.path("out", out), lambda file: done.append(_write(str(stream), file, base, upto, whole, strict)))
    return done[0]


def _write(
    stream: str, file: BinaryIO, base: IntegerImage | None, upto: int | None, whole: bool, strict: bool
) -> SpiFile:
    text, decoder = _Text(file), Decoder(stream)
    writer = SpiWriter(text.send, text.idle)
    image: IntegerImage | None = None
    frames, step, stopped = 0, 0, False
    notes: tuple[str, ...] = ()
    text.line(f"{SPI_TITLE}: address and data")
    text.line(f"# '{IDLE}': go on when the core is idle, or its neurons are corrupted")
    for event in read_events(stream, decoder):
        if isinstance(event, StreamHeader):
            if upto is not None and upto < event.step:
                raise UserError(f"{stream} begins at step {event.step}: there is no step {upto} in it")
            writer.begin(event.parameters)
            step = event.step
            if whole or base is not None or event.base is not None:
                image = base_of(event, base, stream)
            if whole and image is not None:
                text.line(f"# step {step}: the base image")
                writer.write_frame(step, changes_of(image))
                frames += 1
            continue
        if upto is not None and event.step > upto:
            stopped = True
            break
        if image is not None:
            apply(image, event, stream)
        if isinstance(event, Frame):
            text.line(f"# step {event.step}")
            writer.write_frame(event.step, event.changes)
            frames += 1
        step = event.step
    if not stopped:
        notes = tail_notes(stream, decoder)
        if decoder.header is None or (strict and notes):
            raise DataError(f"{stream}: {notes[0]}")
        if upto is not None and upto > decoder.step:
            raise UserError(f"{stream} ends at step {decoder.step}: there is no step {upto} in it")
    return SpiFile(frames, text.openings, text.writes, step, notes)
