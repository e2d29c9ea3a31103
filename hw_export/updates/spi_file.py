"""A stream as a text file of the SPI writes that bring it into a tinyODIN chip.

One write a line, as in the ``tinyodin.spi`` of an export: 20 bits of address and 20 of data in hexadecimal; ``#``
starts a comment. A line ``idle`` stands before each frame: what follows must not be sent before the core is idle
(:mod:`hw_export.updates.spi`). A frame opens the memories, writes weights and closes them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hw_export.updates.content import Frame, Header, changes_of
from hw_export.updates.decoder import Decoder, read_events
from hw_export.updates.image import IntegerImage
from hw_export.updates.replay import apply, base_of, tail_notes
from hw_export.updates.spi import SpiWriter
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_whole

SPI_TITLE = "# SPI writes of a stream of updates for tinyODIN"
"""Begins such a file."""
IDLE = "idle"
_TRANSACTION = 5


@dataclass(frozen=True)
class SpiFile:
    """Figures of a file that was written. frames: of the stream, the base image among them. openings: of the
    memories. writes: of weights. step: of the stream, at its end."""

    frames: int
    openings: int
    writes: int
    step: int
    notes: tuple[str, ...]


class _Text:
    """Lines of what a writer sends, as it sends it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.openings = self.writes = 0

    def line(self, text: str) -> None:
        self._file.write(f"{text}\n".encode())

    def idle(self) -> None:
        self.openings += 1
        self.line(IDLE)

    def send(self, wire: bytes) -> None:
        self.writes += len(wire) // _TRANSACTION - 2  # without the gate, opened and closed
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
    """Write the frames of ``stream`` as SPI writes to the file ``out``, whole or not at all.

    Args:
        stream: file of a stream.
        out: file to write.
        base: the base image, where the stream does not hold it.
        upto: the last step; by default that of the end.
        whole: begin with all weights of the base image; without, the chip must hold them.
        strict: refuse a stream that was cut, or not closed.

    Raises:
        UserError: for a network that is none for tinyODIN, a step that is not in the stream, no base image.
        DataError: for a damaged stream or another base image.
        SaveError: when ``out`` cannot be written.
    """
    done: list[SpiFile] = []
    write_whole(out, lambda file: done.append(_write(str(stream), file, base, upto, whole, strict)))
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
        if isinstance(event, Header):
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
