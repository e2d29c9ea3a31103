"""What a stream holds, in numbers: density, bytes against dense images, saturated weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_export.updates.content import Frame, Header, Plain
from hw_export.updates.decoder import Decoder, Stream, name_of, read_events
from hw_export.updates.image import IntegerImage, Parameter
from hw_export.updates.replay import apply, base_of, tail_notes
from spikelfp.errors import DataError
from spikelfp.untrusted import check_size

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
