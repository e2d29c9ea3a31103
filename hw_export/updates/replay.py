"""Reading streams of updates: integers of any step, image files, running targets that follow, and figures.

docs/update-stream.md specifies the format of the stream.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hw_export.updates.content import (
    Change,
    Decoder,
    Frame,
    IntegerImage,
    Mark,
    Parameter,
    Plain,
    Stream,
    StreamHeader,
    changes_of,
    check_image,
    encode_header,
    left_over,
    name_of,
    read_events,
)
from hw_export.updates.format import Link, write_record
from spikelfp import checks
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_whole
from spikelfp.registry import checked_keywords
from spikelfp.untrusted import check_size


@checked_keywords()
def replay(
    stream: Stream, base: IntegerImage | None = None, upto: int | None = None, *, strict: bool = False
) -> IntegerImage:
    """Restore the integers after a step of training by writing the frames over the base image.

    For every step that was compared, the result is bit for bit what rounding the live weights at that step gives. For a
    step between two comparisons it is the image of the earlier one.

    Args:
        stream: path of the stream, or its bytes.
        base: base image, where the stream does not hold it; it must have the digest in the header.
        upto: step of training, by default the last one.
        strict: refuse a stream that was cut, or not closed. Otherwise the image of its last whole frame is given, with
            a note in ``notes``.

    Returns:
        The image; its ``step`` is that of its last frame.

    Raises:
        DataError: for another base image, a damaged, repeated, misplaced or missing frame, an unknown version, and
            bytes that are no frame.
        UserError: for a step that is not in the stream, and a missing base image.
    """
    if upto is not None:
        upto = checks.whole("upto, a step of training,", upto, None)
    checks.truth("strict", strict)
    decoder = Decoder(name_of(stream))
    image: IntegerImage | None = None
    for event in read_events(stream, decoder):
        if isinstance(event, StreamHeader):
            image = base_of(event, base, decoder.name)
            if upto is not None and upto < event.step:
                raise UserError(f"{decoder.name} begins at step {event.step}: there is no step {upto} in it")
        elif image is not None:
            if upto is not None and event.step > upto:
                return image
            apply(image, event, decoder.name)
    notes = tail_notes(stream, decoder)
    if image is None or (strict and notes):
        raise DataError(f"{decoder.name}: {notes[0]}")
    if upto is not None and upto > decoder.step:
        raise UserError(f"{decoder.name} ends at step {decoder.step}: there is no step {upto} in it")
    image.notes = notes
    return image


def base_of(header: StreamHeader, base: IntegerImage | None, name: str) -> IntegerImage:
    """Copy the base image of a stream: ``base``, or that of its header.

    Args:
        header: header of the stream.
        base: base image; ``None`` for that of the header.
        name: name of the stream in errors.

    Raises:
        DataError: for an image without the digest of the header.
        UserError: where there is no image at all.
    """
    if base is not None:
        if check_image("base", base).digest() != header.digest:
            raise DataError(
                f"{name} was recorded from another base image: it wants {header.digest.hex()[:12]}…, "
                f"this one is {base.digest().hex()[:12]}…"
            )
        image = base.copy()
        image.step, image.notes = header.step, ()
        return image
    if header.base is None:
        raise UserError(f"{name} does not hold its base image: hand in the one it was recorded from")
    return header.base.copy()


def apply(image: IntegerImage, event: Frame | Mark | StreamHeader, name: str = "the stream") -> None:
    """Write a frame over an image, or compare the image with a mark.

    Raises:
        DataError: for a mark with another digest.
    """
    if isinstance(event, Frame):
        for change in event.changes:
            image.write(change.parameter, change.indices, change.values)
        image.step = event.step
    elif isinstance(event, Mark):
        if image.digest() != event.digest:
            raise DataError(f"{name}: the image at step {event.step} does not have the digest that was recorded")
        image.step = event.step


def tail_notes(stream: Stream, decoder: Decoder) -> tuple[str, ...]:
    """Describe the end of a stream that was read to its last whole record: cut, not closed, or nothing to note."""
    rest = left_over(stream, decoder)
    if decoder.header is None:
        return (f"it ends inside its header, after {rest} bytes: nothing can be restored",)
    notes = []
    if rest:
        notes.append(
            f"it ends inside a frame: the last {rest} bytes are lost, and what came after step {decoder.step} with them"
        )
    elif not decoder.closed:
        notes.append(f"it was not closed: frames after step {decoder.step} may be missing")
    return tuple(notes)


# Image files


def save_image(path: str | Path, image: IntegerImage) -> None:
    """Write an image to a file, whole or not at all: a stream whose header holds the image, without frames.

    Args:
        path: file to write.
        image: its integers; notes are not kept.

    Raises:
        SaveError: when the file cannot be written.
    """
    check_image("image", image)
    data, _ = write_record(encode_header(StreamHeader(image.parameters, image.step, 1, image.digest(), image)), Link())
    write_whole(checks.path("path", path), lambda file: file.write(data))


def load_image(path: str | Path) -> IntegerImage:
    """Read an image from a file of :func:`save_image`.

    Args:
        path: of the file.

    Raises:
        DataError: for a file that is missing, cut or damaged, and for a stream with frames.
    """
    decoder = Decoder(str(path))
    events = list(read_events(path, decoder))
    if not events or left_over(path, decoder):
        raise DataError(f"{path} is cut off: it holds no whole image")
    header = events[0]
    assert isinstance(header, StreamHeader)
    if len(events) > 1:
        raise DataError(f"{path} is a stream with frames, no image: make one of it with `hw-export updates replay`")
    if header.base is None:
        raise DataError(f"{path} holds no image, only its digest")
    return header.base


# Streams that grow, written into running targets


class UpdateTarget(Protocol):
    """Holder of integers that takes new ones: a simulator, a chip, an :class:`~hw_export.updates.IntegerImage`."""

    def write(self, parameter: str, indices: NDArray[np.int64], values: NDArray[np.int32]) -> object:
        """Set elements of a parameter.

        Args:
            parameter: name of the parameter.
            indices: int64 ``[N]``, places of the elements in row-major order.
            values: int32 ``[N]``, their new integers.
        """


@runtime_checkable
class FrameTarget(Protocol):
    """Target of whole frames, such as a chip that must be stopped for each (:class:`~hw_export.updates.SpiWriter`)."""

    def begin(self, parameters: Sequence[Parameter]) -> object:
        """Prepare for frames of these parameters; called once, after the header of the stream was read."""

    def write_frame(self, step: int, changes: Sequence[Change]) -> object:
        """Write the changes of a frame; the first ones are the base image, all elements of all parameters.

        Args:
            step: steps of training after which the network had these integers.
            changes: of each parameter that changed.
        """


class Follower:
    """Writes a growing stream into a running target, at each :meth:`poll` up to the end of the file.

    The base image is written first. A frame is written once all of it is in the file and its checks have passed. A
    frame that is not complete yet is left for a later poll, and so is a file that does not exist yet.

    Args:
        path: file of the stream.
        target: takes the integers, single changes or whole frames.
        base: base image, where the stream does not hold it.
        write_base: whether to write the base image; ``False`` for a target that holds it already.

    Attributes:
        path: as given.
        target: as given.
        base: as given.
        write_base: as given.
        step: steps of training after which the network had the integers of the target.
        closed: whether the recording has ended there.
    """

    def __init__(
        self,
        path: str | Path,
        target: UpdateTarget | FrameTarget,
        *,
        base: IntegerImage | None = None,
        write_base: bool = True,
    ) -> None:
        if not isinstance(target, FrameTarget) and not callable(getattr(target, "write", None)):
            raise UserError(
                f"a target takes integers by write(parameter, indices, values), as an IntegerSimulator does; a "
                f"{type(target).__name__} does not"
            )
        checks.truth("write_base", write_base)
        self.path, self.target, self.base, self.write_base = checks.path("path", path), target, base, write_base
        self._decoder = Decoder(str(path))

    @property
    def step(self) -> int:
        """Steps of training after which the network had the integers of the target."""
        return self._decoder.step

    @property
    def closed(self) -> bool:
        """Whether the recording has ended."""
        return self._decoder.closed

    def poll(self) -> Iterator[Frame]:
        """Write the frames that were appended since the last poll.

        Yields:
            Each frame after it was written.

        Raises:
            DataError: for another base image, and a damaged, repeated, misplaced or missing frame.
            UserError: for a missing base image.
        """
        if self._decoder.header is None and not self.path.exists():
            return
        for event in read_events(self.path, self._decoder):
            if isinstance(event, StreamHeader):
                self._begin(event)
            elif isinstance(event, Frame):
                self._write(event.step, event.changes)
                yield event

    def _begin(self, header: StreamHeader) -> None:
        if isinstance(self.target, FrameTarget):
            self.target.begin(header.parameters)
        if not self.write_base and self.base is None:
            return
        image = base_of(header, self.base, str(self.path))
        if self.write_base:
            self._write(image.step, changes_of(image))

    def _write(self, step: int, changes: Sequence[Change]) -> None:
        if isinstance(self.target, FrameTarget):
            self.target.write_frame(step, changes)
            return
        for change in changes:
            self.target.write(change.parameter, change.indices, change.values)


def follow(
    path: str | Path,
    target: UpdateTarget | FrameTarget,
    *,
    base: IntegerImage | None = None,
    write_base: bool = True,
    interval: float = 0.05,
    patience: float | None = None,
) -> Iterator[Frame]:
    """Write the frames of a stream into a target as they are appended, until the recording is closed.

    Args:
        path: file of the stream, which need not exist yet.
        target: takes the integers, single changes or whole frames.
        base: base image, where the stream does not hold it.
        write_base: whether to write the base image; ``False`` for a target that holds it already.
        interval: seconds between two polls of the file.
        patience: seconds without a new frame after which to end; ``None`` waits for ever.

    Yields:
        Each frame after it was written.

    Raises:
        UserError: for an interval or patience out of range, and a missing base image.
        DataError: for another base image, and a damaged, repeated, misplaced or missing frame.
    """
    interval = checks.number("interval", interval)
    patience = None if patience is None else checks.number("patience", patience)
    if interval <= 0 or (patience is not None and patience < 0):
        raise UserError(f"interval must be above 0 and patience at least 0 seconds, got {interval} and {patience}")
    follower = Follower(path, target, base=base, write_base=write_base)
    last = time.monotonic()
    while True:
        for frame in follower.poll():
            yield frame
            last = time.monotonic()
        if follower.closed or (patience is not None and time.monotonic() - last >= patience):
            return
        time.sleep(interval)


# Figures of a stream

MANY_SATURATED = 0.01
"""Share of a layer's weights at the ends of their grid above which a note says so."""


@dataclass(frozen=True)
class ParameterSummary:
    """Figures of one parameter over the stream.

    Attributes:
        name: of the parameter.
        elements: number of its elements.
        bits: of an integer.
        changes: elements written, over all frames.
        density: changes for each element and comparison.
        saturated_first: elements at an end of the grid in the base image; ``None`` without a base image.
        saturated_last: elements at an end of the grid in the last image; ``None`` without a base image.
    """

    name: str
    elements: int
    bits: int
    changes: int
    density: float
    saturated_first: int | None
    saturated_last: int | None


@dataclass(frozen=True, eq=False)
class Series:
    """Figures of each of the ``F`` frames of a stream.

    Attributes:
        step: steps of training, int64 ``[F]``.
        size: bytes of the record, int64 ``[F]``.
        changes: changed elements by name of the parameter, int64 ``[F]`` each.
        saturated: elements at an end of the grid by name of the parameter, int64 ``[F]`` each; empty without a base
            image.
    """

    step: NDArray[np.int64]
    size: NDArray[np.int64]
    changes: Mapping[str, NDArray[np.int64]]
    saturated: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of a stream.

    Attributes:
        first_step: steps of training before the base image.
        steps: steps of training that the stream covers.
        every: steps between two comparisons of the weights.
        looks: number of comparisons.
        frames: number of comparisons that found a change.
        bytes: of the whole stream.
        header_bytes: of the header.
        mean_frame_bytes: mean bytes of a frame.
        image_bytes: of one dense image.
        dense_bytes: of one dense image for each comparison.
        share_of_dense: ``bytes / dense_bytes``; ``None`` without a comparison.
        density: share of elements that changed, mean over the comparisons.
        largest_density: share of elements that changed in one frame, at most.
        base_digest: digest of the base image, hexadecimal.
        embedded: whether the stream holds the base image.
        closed: whether the recording has ended.
        parameters: figures of each parameter.
        about: notes of the header.
        notes: remarks, such as a stream that was cut or weights at the ends of their grid.
        series: figures of each frame.
    """

    first_step: int
    steps: int
    every: int
    looks: int
    frames: int
    bytes: int
    header_bytes: int
    mean_frame_bytes: float
    image_bytes: int
    dense_bytes: int
    share_of_dense: float | None
    density: float
    largest_density: float
    base_digest: str
    embedded: bool
    closed: bool
    parameters: tuple[ParameterSummary, ...]
    about: Mapping[str, Plain]
    notes: tuple[str, ...]
    series: Series = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the series as plain values."""
        return {
            **{name: value for name, value in vars(self).items() if name not in ("parameters", "series")},
            "about": dict(self.about),
            "parameters": [asdict(p) for p in self.parameters],
        }


def inspect(stream: Stream, base: IntegerImage | None = None) -> Summary:
    """Read a whole stream and sum it up; a stream that was cut is summed up as far as it goes, with a note.

    Args:
        stream: path of the stream, or its bytes.
        base: base image, where the stream does not hold it; only needed to count saturated weights.

    Returns:
        Figures of the stream.

    Raises:
        DataError: for a damaged stream, another base image, and so many parameters and frames that one number for each
            of both takes more memory than :func:`~spikelfp.untrusted.most`.
    """
    decoder = Decoder(name_of(stream))
    count: _Count | None = None
    for event in read_events(stream, decoder):
        if isinstance(event, StreamHeader):
            has_base = base is not None or event.base is not None
            count = _Count(event, base_of(event, base, decoder.name) if has_base else None, decoder.link.offset)
        elif count is not None:
            count.add(event, decoder.name)
    notes = tail_notes(stream, decoder)
    if count is None:
        raise DataError(f"{decoder.name}: {notes[0]}")
    return count.summary(decoder, notes)


class _Count:
    """Sums over the frames so far."""

    def __init__(self, header: StreamHeader, image: IntegerImage | None, header_bytes: int) -> None:
        self.header, self.image, self.header_bytes = header, image, header_bytes
        self.first = image.saturated() if image is not None else {}
        self.parameters = {p.name: p for p in header.parameters}
        self.rows: list[tuple[int, int]] = []
        """Step and bytes of each frame."""
        self.changes: list[tuple[int, str, int, int]] = []
        """Number of the frame, name of the parameter, changed elements, and by how many more of them are at an end."""

    def add(self, event: Any, name: str) -> None:
        if isinstance(event, Frame):
            for change in event.changes:
                more = 0
                if self.image is not None:
                    p = self.parameters[change.parameter]
                    before = self.image.arrays[p.name].reshape(-1)[change.indices]
                    more = _at_ends(change.values, p) - _at_ends(before, p)
                self.changes.append((len(self.rows), change.parameter, len(change.indices), more))
            self.rows.append((event.step, event.size))
        if self.image is not None:
            apply(self.image, event, name)

    def summary(self, decoder: Decoder, notes: tuple[str, ...]) -> Summary:
        header, rows = self.header, self.rows
        check_size(16 * len(rows) * len(header.parameters), decoder.link.offset, decoder.name)
        changes, saturated = self._series()
        steps = decoder.step - header.step
        looks = -(-steps // header.every)
        elements = sum(p.size for p in header.parameters)
        image_bytes = sum(p.size * p.dtype.itemsize for p in header.parameters)
        totals = np.sum(list(changes.values()), axis=0) if rows else _column([])
        size = decoder.link.offset
        parameters = tuple(
            self._parameter(p, int(changes[p.name].sum()), looks, saturated.get(p.name)) for p in header.parameters
        )
        return Summary(
            first_step=header.step,
            steps=steps,
            every=header.every,
            looks=looks,
            frames=len(rows),
            bytes=size,
            header_bytes=self.header_bytes,
            mean_frame_bytes=float(np.mean([row[1] for row in rows])) if rows else 0.0,
            image_bytes=image_bytes,
            dense_bytes=image_bytes * looks,
            share_of_dense=size / (image_bytes * looks) if looks else None,
            density=float(totals.sum()) / (elements * looks) if looks else 0.0,
            largest_density=float(totals.max(initial=0)) / elements,
            base_digest=header.digest.hex(),
            embedded=header.base is not None,
            closed=decoder.closed,
            parameters=parameters,
            about=header.about,
            notes=(*notes, *_saturation_notes(parameters)),
            series=Series(_column([row[0] for row in rows]), _column([row[1] for row in rows]), changes, saturated),
        )

    def _series(self) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
        """Count elements that changed, and elements at an end of the grid, by parameter, one number a frame."""
        changed = {name: np.zeros(len(self.rows), np.int64) for name in self.parameters}
        at_ends = {name: np.zeros(len(self.rows), np.int64) for name in self.first}
        for frame, name, count, more in self.changes:
            changed[name][frame] = count
            if name in at_ends:
                at_ends[name][frame] = more
        return changed, {name: self.first[name] + more.cumsum() for name, more in at_ends.items()}

    def _parameter(
        self, p: Parameter, changes: int, looks: int, saturated: NDArray[np.int64] | None
    ) -> ParameterSummary:
        density = changes / (p.size * looks) if looks and p.size else 0.0
        first = self.first.get(p.name)
        last = first if saturated is None or not len(saturated) else int(saturated[-1])
        return ParameterSummary(p.name, p.size, p.bits, changes, density, first, last)


def _column(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _at_ends(values: NDArray[Any], p: Parameter) -> int:
    return int(((values <= p.grid.low) | (values >= p.grid.high)).sum())


def _saturation_notes(parameters: tuple[ParameterSummary, ...]) -> list[str]:
    return [
        f"{p.saturated_last / p.elements:.1%} of {p.name} are at an end of their grid and cannot grow: "
        "record with more headroom"
        for p in parameters
        if p.saturated_last is not None and p.bits > 2 and p.saturated_last > MANY_SATURATED * p.elements
    ]
