"""From a stream back to the integers of any step."""

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
    Header,
    IntegerImage,
    Mark,
    Parameter,
    Plain,
    Stream,
    changes_of,
    encode_header,
    left_over,
    name_of,
    read_events,
)
from hw_export.updates.format import Link, write_record
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_whole
from spikelfp.untrusted import check_size


def replay(
    stream: Stream, base: IntegerImage | None = None, upto: int | None = None, *, strict: bool = False
) -> IntegerImage:
    """The image after step ``upto`` (default: at the end), by writing the frames over the base image.

    It is bit for bit what rounding the live weights at that step gives, for every step the recording looked at; between
    two of these, the image of the earlier. ``step`` of the result says which step it is of.

    base: where the stream does not hold its own; the one it was recorded from, which its digest tells.
    A stream whose last frame was cut off, or that was not closed, gives the image up to there, with a note in ``notes``
    (``strict``: an error).

    Raises :class:`~spikelfp.errors.DataError` for another base image, a damaged, repeated, misplaced or missing frame,
    an unknown version, or bytes that are no frame, and :class:`~spikelfp.errors.UserError` for a step that the stream
    does not reach, or no base image.
    """
    decoder = Decoder(name_of(stream))
    image: IntegerImage | None = None
    for event in read_events(stream, decoder):
        if isinstance(event, Header):
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


def base_of(header: Header, given: IntegerImage | None, name: str) -> IntegerImage:
    """A copy of the base image, the one handed in or the stream's own; an error if it is not the one recorded from."""
    if given is not None:
        if given.digest() != header.digest:
            raise DataError(
                f"{name} was recorded from another base image: it wants {header.digest.hex()[:12]}…, "
                f"this one is {given.digest().hex()[:12]}…"
            )
        return given.copy().at(header.step)
    if header.base is None:
        raise UserError(f"{name} does not hold its base image: hand in the one it was recorded from")
    return header.base.copy()


def apply(image: IntegerImage, event: Frame | Mark | Header, name: str = "the stream") -> None:
    """Write a frame over ``image``; a mark is compared with it."""
    if isinstance(event, Frame):
        for change in event.changes:
            image.write(change.parameter, change.indices, change.values)
        image.step = event.step
    elif isinstance(event, Mark):
        if image.digest() != event.digest:
            raise DataError(f"{name}: the image at step {event.step} does not have the digest that was recorded")
        image.step = event.step


def tail_notes(stream: Stream, decoder: Decoder) -> tuple[str, ...]:
    """What is to be said about the end of a stream that was read as far as it goes."""
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


def save_image(path: str | Path, image: IntegerImage) -> None:
    """Write ``image`` to ``path``, whole or not at all."""
    data, _ = write_record(encode_header(Header(image.parameters, image.step, 1, image.digest(), image)), Link())
    write_whole(path, lambda file: file.write(data))


def load_image(path: str | Path) -> IntegerImage:
    """The image of a file of :func:`save_image`.

    Raises :class:`~spikelfp.errors.DataError` for a file that is missing, cut or damaged, and for a stream with frames.
    """
    decoder = Decoder(str(path))
    events = list(read_events(path, decoder))
    if not events or left_over(path, decoder):
        raise DataError(f"{path} is cut off: it holds no whole image")
    header = events[0]
    assert isinstance(header, Header)
    if len(events) > 1:
        raise DataError(f"{path} is a stream with frames, no image: make one of it with `hw-export updates replay`")
    if header.base is None:
        raise DataError(f"{path} holds no image, only its digest")
    return header.base


class Target(Protocol):
    """What holds integers and takes new ones: a simulator, a chip, an :class:`~hw_export.updates.IntegerImage`."""

    def write(self, parameter: str, indices: NDArray[np.int64], values: NDArray[np.int32]) -> object:
        """Set elements of ``parameter``, counted in row-major order, to ``values``."""


@runtime_checkable
class FrameTarget(Protocol):
    """A target of whole frames, like a chip that must be stopped for each (:class:`~hw_export.updates.SpiWriter`)."""

    def begin(self, parameters: Sequence[Parameter]) -> object:
        """Get ready for frames of these parameters; called once, when the header of the stream was read."""

    def write_frame(self, step: int, changes: Sequence[Change]) -> object:
        """Set the elements of ``changes``, those of ``step``: of all parameters the base image, then frame by frame."""


class Follower:
    """Brings ``target`` up to the end of the stream file ``path``, again and again.

    The base image, the stream's or the one handed in, is written first, all of it; ``write_base=False`` leaves it out,
    for a target that holds it already. A frame is written when all of it is there and its checks have passed; one that
    is half written yet, and a file that does not exist yet, are waited for.

    step: of what the target holds. closed: whether the recording has ended there.
    """

    def __init__(
        self,
        path: str | Path,
        target: Target | FrameTarget,
        *,
        base: IntegerImage | None = None,
        write_base: bool = True,
    ) -> None:
        self.path, self.target, self.base, self.write_base = Path(path), target, base, write_base
        self._decoder = Decoder(str(path))

    @property
    def step(self) -> int:
        return self._decoder.step

    @property
    def closed(self) -> bool:
        return self._decoder.closed

    def poll(self) -> Iterator[Frame]:
        """The frames that arrived since, each when the target has it; raises what :func:`replay` would."""
        if self._decoder.header is None and not self.path.exists():
            return
        for event in read_events(self.path, self._decoder):
            if isinstance(event, Header):
                self._begin(event)
            elif isinstance(event, Frame):
                self._write(event.step, event.changes)
                yield event

    def _begin(self, header: Header) -> None:
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
    target: Target | FrameTarget,
    *,
    base: IntegerImage | None = None,
    write_base: bool = True,
    interval: float = 0.05,
    patience: float | None = None,
) -> Iterator[Frame]:
    """Write the frames of ``path`` into ``target`` as they are appended; gives each frame when the target has it.

    Ends when the recording is closed, or when nothing has come for ``patience`` seconds (``None``: waits for ever). The
    file is looked at every ``interval`` seconds. The other arguments are those of :class:`Follower`.
    """
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


MANY_SATURATED = 0.01
"""Share of a layer's weights at the ends of their grid from which on a note says so."""


@dataclass(frozen=True)
class ParameterSummary:
    """One parameter over the stream.

    changes: elements written, over all frames. density: changes for each element and look. saturated_first,
    saturated_last: elements at an end of the grid in the base image and in the last; ``None`` without a base image.
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
    """One value for each frame, ``F`` of them. step: int64 ``[F]``; size: bytes, int64 ``[F]``; changes, saturated: by
    parameter, int64 ``[F]`` each (saturated: empty without a base image)."""

    step: NDArray[np.int64]
    size: NDArray[np.int64]
    changes: Mapping[str, NDArray[np.int64]]
    saturated: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Summary:
    """A stream in numbers.

    steps: of training it covers, from ``first_step``; looks: at the weights, one in ``every`` steps. frames: looks that
    found a change. bytes: of the whole file, ``header_bytes`` of them its header. dense_bytes: of one dense image for
    each look, each ``image_bytes``; share_of_dense: ``bytes / dense_bytes``, ``None`` without a look. density: changed
    elements of all, mean over the looks; largest_density: in one frame. closed: the recording ended there.
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
        """Everything but the series, as plain values."""
        return {
            **{name: value for name, value in vars(self).items() if name not in ("parameters", "series")},
            "about": dict(self.about),
            "parameters": [asdict(p) for p in self.parameters],
        }


def inspect(stream: Stream, base: IntegerImage | None = None) -> Summary:
    """Read the whole ``stream`` and sum it up; ``base`` as for :func:`replay`, needed only to count saturated weights.

    A stream that was cut is summed up as far as it goes, with a note; a damaged one is an error, as in :func:`replay`,
    and so is one of so many parameters and frames that a number for each of both takes more memory than
    :func:`~spikelfp.untrusted.most`.
    """
    decoder = Decoder(name_of(stream))
    count: _Count | None = None
    for event in read_events(stream, decoder):
        if isinstance(event, Header):
            has_base = base is not None or event.base is not None
            count = _Count(event, base_of(event, base, decoder.name) if has_base else None, decoder.link.offset)
        elif count is not None:
            count.add(event, decoder.name)
    notes = tail_notes(stream, decoder)
    if count is None:
        raise DataError(f"{decoder.name}: {notes[0]}")
    return count.summary(decoder, notes)


class _Count:
    """The sums over the frames so far."""

    def __init__(self, header: Header, image: IntegerImage | None, header_bytes: int) -> None:
        self.header, self.image, self.header_bytes = header, image, header_bytes
        self.first = image.saturated() if image is not None else {}
        self.parameters = {p.name: p for p in header.parameters}
        self.rows: list[tuple[int, int]] = []
        """Step and bytes of each frame."""
        self.changes: list[tuple[int, str, int, int]] = []
        """The frame's number, the parameter, elements changed, and how many more of them are at an end."""

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
            series=Series(
                _column([row[0] for row in rows]),
                _column([row[1] for row in rows]),
                changes,
                saturated,
            ),
        )

    def _series(self) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
        """Elements changed, and elements at an end, of each parameter in each frame."""
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
