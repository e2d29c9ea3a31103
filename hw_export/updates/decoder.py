"""From bytes, as they arrive, to the header, frames and marks of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hw_export.updates.content import (
    FRAME,
    MARK,
    Frame,
    Header,
    Mark,
    decode,
    decode_frame,
    decode_header,
    decode_mark,
)
from hw_export.updates.framing import Link, Record, read_record
from spikelfp.errors import DataError
from spikelfp.untrusted import open_regular

Stream = str | Path | bytes
"""A file, or the bytes of one."""

_CHUNK = 1 << 20

Event = Header | Frame | Mark


class Decoder:
    """Reads a stream in pieces and keeps its place.

    name: of the stream, for errors. header: once it was read. step: of the last record. closed: whether that was a
    mark. link: its place; ``link.offset`` bytes were read. Memory grows with the bytes handed in, not with what they
    claim.
    """

    def __init__(self, name: str = "the stream") -> None:
        self.name, self.link = name, Link()
        self.header: Header | None = None
        self.step, self.closed = 0, False

    def take(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """Everything complete in ``data``, which begins at byte ``link.offset`` of the stream; ``link`` moves along.

        Raises :class:`~spikelfp.errors.DataError` at the first byte that is wrong; what came before is good.
        """
        view, start = memoryview(data), self.link.offset
        while self.link.offset - start < len(view):
            try:
                record = read_record(view[self.link.offset - start :], self.link)
                if record is None:
                    return
                event = self._event(record)
            except DataError as error:
                raise DataError(f"{self.name}: {error}") from None
            self.link = record.after
            yield event

    def _event(self, record: Record) -> Event:
        try:
            item = decode(record.body)
            if self.header is None:
                self.header = decode_header(item)
                self.step = self.header.step
                return self.header
            return self._later(item, record)
        except DataError as error:
            if self.header is None:
                raise
            raise DataError(f"frame {record.sequence} at byte {record.offset} cannot be used: {error}") from None

    def _later(self, item: list, record: Record) -> Frame | Mark:
        assert self.header is not None
        if item[0] == FRAME:
            frame = decode_frame(item, self.header.parameters)
            if frame.step <= self.step:
                raise DataError(f"it is of step {frame.step}, the one before of {self.step}")
            self.step, self.closed = frame.step, False
            return replace(frame, sequence=record.sequence, size=record.size)
        if item[0] == MARK:
            mark = decode_mark(item)
            if mark.step < self.step:
                raise DataError(f"it is of step {mark.step}, the one before of {self.step}")
            self.step, self.closed = mark.step, True
            return mark
        raise DataError(f"its kind {item[0]} is not known")


def name_of(stream: Stream) -> str:
    """How errors call it."""
    return "the stream" if isinstance(stream, bytes) else str(stream)


def read_events(stream: Stream, decoder: Decoder) -> Iterator[Event]:
    """All complete records of ``stream``, from the place of ``decoder`` on; see :func:`left_over` for the rest."""
    if isinstance(stream, bytes):
        yield from decoder.take(memoryview(stream)[decoder.link.offset :])
        return
    try:
        with open_regular(stream) as file:
            file.seek(decoder.link.offset)
            waiting = bytearray()
            while chunk := file.read(max(_CHUNK, len(waiting))):  # doubles, for a record longer than a chunk
                waiting += chunk
                before = decoder.link.offset
                yield from decoder.take(bytes(waiting))
                del waiting[: decoder.link.offset - before]
    except OSError as error:
        raise DataError(f"cannot read {stream}: {error.strerror or error}") from None


def left_over(stream: Stream, decoder: Decoder) -> int:
    """Bytes behind the last complete record."""
    size = len(stream) if isinstance(stream, bytes) else Path(stream).stat().st_size
    return max(size - decoder.link.offset, 0)
