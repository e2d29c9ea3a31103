"""Content of a stream of updates: parameters and their integers, the header, frames of changes, marks, and a decoder.

docs/update-stream.md specifies the format. Bodies of records are CBOR arrays that begin with their kind. They are
encoded in one way only: the shortest heads, definite lengths, 64-bit floats; a body in any other encoding is refused.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.quantize.prepare import as_floats
from hw_export.updates.format import (
    DEEPEST,
    FLOAT64,
    TAGS,
    VALUE_BITS,
    Ints,
    Link,
    Record,
    check_items,
    pack_indices,
    pack_values,
    read_record,
    typed,
    unpack_indices,
    unpack_values,
    untyped,
)
from spikelfp import checks
from spikelfp.errors import DataError, ShapeError, UserError
from spikelfp.quantized import Grid
from spikelfp.registry import unknown_name
from spikelfp.terminal import brief
from spikelfp.untrusted import open_regular

# Parameters and their integers

LIMIT = 2**24
"""Largest magnitude of an integer. Live parameters are rounded in float32, which holds every whole number up to it."""

MOST_ELEMENTS = 2**31 - 1
"""Most elements of one parameter."""

MOST_AXES = 64
"""Most axes of a parameter: those of a NumPy array."""

MOST_PARAMETERS = 10_000
"""Most parameters of a stream: what is told of each of them still fits on pages that people read."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """Parameter of a network, whose integers ``q`` stand for ``scale · q``.

    Attributes:
        name: as in ``net.named_parameters()``.
        shape: of the parameter.
        grid: scale, lowest and highest integer. The scale is one number, or a tensor ``[out, 1, …]`` with one for each
            output channel.

    Raises:
        UserError: for a name that is no text, more than 64 axes, no element or more than 2³¹ − 1, integers beyond
            ±2²⁴, and scales that are not finite and above 0.
        ShapeError: for scales of another shape.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid

    def __post_init__(self) -> None:
        low, high, scale = self.grid.low, self.grid.high, self.grid.scale
        if not self.name.isprintable() and any("\ud800" <= char <= "\udfff" for char in self.name):
            raise UserError(f"streams and images name parameters in UTF-8, and {self.name!r} is no text: rename it")
        if not -LIMIT <= low <= high <= LIMIT:
            raise UserError(f"{self.name}: a grid from {low} to {high} is not within ±2^24")
        if len(self.shape) > MOST_AXES:
            raise UserError(f"{self.name} has {len(self.shape)} axes, more than the {MOST_AXES} of an array")
        if not self.size:
            raise UserError(f"{self.name} has shape {self.shape} and no element: streams and images hold at least one")
        if self.size > MOST_ELEMENTS:
            raise UserError(f"{self.name}: {self.size} elements are more than the {MOST_ELEMENTS} a stream can hold")
        if isinstance(scale, Tensor):
            per_channel = (self.shape[0], *[1] * (len(self.shape) - 1)) if self.shape else ()
            if tuple(scale.shape) != per_channel:
                raise ShapeError(f"{self.name}: scales of shape {tuple(scale.shape)}, expected {per_channel}")
        if not all(math.isfinite(value) and value > 0 for value in self.scales):
            raise UserError(f"{self.name}: a scale must be finite and above 0, got {self.scales[:3]}")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def scales(self) -> list[float]:
        """Scale, or scales of the output channels, as a list."""
        scale = self.grid.scale
        return scale.double().flatten().tolist() if isinstance(scale, Tensor) else [float(scale)]

    @property
    def bits(self) -> int:
        """Bits of an integer: the least of 2, 4, 8, 16 and 32 that hold the grid in two's complement."""
        low, high = self.grid.low, self.grid.high
        return next(bits for bits in VALUE_BITS if -(1 << bits - 1) <= low and high < 1 << bits - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in which an integer is kept: int8, int16 or int32, little endian."""
        return np.dtype(f"<i{max(self.bits, 8) // 8}")

    def entry(self) -> list[Any]:
        """Make the entry of a header: name, shape, bits, lowest and highest integer, scale or scales."""
        grid = self.grid
        per_channel = isinstance(grid.scale, Tensor)
        scale = typed(np.array(self.scales), FLOAT64) if per_channel else self.scales[0]
        return [self.name, list(self.shape), self.bits, grid.low, grid.high, scale]

    def integers(self, live: Tensor) -> NDArray[Any]:
        """Round a live parameter to the grid.

        Args:
            live: float tensor of the shape of the parameter.

        Returns:
            ``round(live / scale)``, limited to the grid, in :attr:`dtype`.

        Raises:
            ShapeError: for another shape.
            UserError: for NaN and infinity.
        """
        if tuple(live.shape) != self.shape:
            raise ShapeError(f"{self.name} has shape {tuple(live.shape)}, the grid was chosen for {self.shape}")
        if not torch.isfinite(live).all():
            raise UserError(f"{self.name} holds NaN or infinity, which no integer stands for")
        return self.grid.to_integers(live.detach()).to("cpu", torch.int32).numpy().astype(self.dtype)


class IntegerImage:
    """Integers of every parameter of a network, as a chip holds them and a stream of updates changes them.

    Args:
        parameters: in the order of the stream.
        arrays: integers by name of the parameter, of its shape; kept as int8, int16 or int32.
        step: steps of training after which the network had these integers.
        notes: remarks for users, such as a stream that was cut.

    Attributes:
        parameters: as given.
        arrays: integers by name of the parameter.
        step: as given.
        notes: as given.
    """

    def __init__(
        self,
        parameters: tuple[Parameter, ...],
        arrays: Mapping[str, NDArray[Any]],
        step: int = 0,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.parameters, self.step, self.notes = parameters, step, notes
        self.arrays = {p.name: np.ascontiguousarray(arrays[p.name], p.dtype).reshape(p.shape) for p in parameters}

    @staticmethod
    def of(net: torch.nn.Module, grids: Mapping[str, Grid], step: int = 0) -> IntegerImage:
        """Round the live parameters ``w`` of a network to grids: ``round(w / scale)``, limited to the grid.

        Args:
            net: the network.
            grids: by name of the parameter, one for each.
            step: steps of training so far.

        Raises:
            UserError: for a grid without a parameter, a parameter without a grid, and values that are not finite.
            ShapeError: for scales that do not fit a parameter.
        """
        live = dict(checks.network(net).named_parameters())
        if not isinstance(grids, Mapping):
            raise UserError(f"grids are Grid objects by name of the parameter, got {brief(grids)}")
        for name in [*grids, *live]:
            if name not in live or name not in grids:
                raise UserError(f"{name}: {'a grid without a parameter' if name in grids else 'no grid is given'}")
        parameters = tuple(Parameter(name, tuple(live[name].shape), grids[name]) for name in live)
        return IntegerImage(parameters, {p.name: p.integers(live[p.name]) for p in parameters}, step)

    @property
    def grids(self) -> dict[str, Grid]:
        """Grids by name of the parameter."""
        return {p.name: p.grid for p in self.parameters}

    @property
    def nbytes(self) -> int:
        """Bytes of all integers, which sending the whole image takes."""
        return sum(array.nbytes for array in self.arrays.values())

    def write(self, parameter: str, indices: NDArray[np.int64], values: NDArray[np.int32]) -> None:
        """Set elements of a parameter.

        Args:
            parameter: name of the parameter.
            indices: int64 ``[N]``, places of the elements in row-major order.
            values: int32 ``[N]``, their new integers.

        Raises:
            UserError: for an unknown parameter, indices outside of it, and values beyond its grid; nothing is set then.
        """
        known = next((p for p in self.parameters if p.name == parameter), None)
        if known is None:
            raise unknown_name("parameter", parameter, self.arrays)
        indices, values = np.asarray(indices), np.asarray(values)
        if indices.shape != values.shape or indices.ndim != 1:
            raise UserError(
                f"{parameter}: {indices.shape} indices for {values.shape} values; pass flat arrays of one length"
            )
        if not len(indices):
            return
        for what, array in (("indices", indices), ("values", values)):
            if array.dtype.kind not in "iu":
                raise UserError(f"{parameter}: the {what} must be whole numbers, got {array.dtype}")
        if indices.min() < 0 or indices.max() >= known.size:
            worst = indices.min() if indices.min() < 0 else indices.max()
            raise UserError(f"{parameter} has the indices 0 to {known.size - 1}, there is no index {worst}")
        low, high = known.grid.low, known.grid.high
        if values.min() < low or values.max() > high:
            raise UserError(
                f"{parameter} holds whole numbers from {low} to {high}, got {values.min()} to {values.max()}: is the "
                "update made for another network?"
            )
        self.arrays[parameter].reshape(-1)[indices] = values

    def copy(self) -> IntegerImage:
        """Make a copy that shares no integers with this image."""
        return IntegerImage(
            self.parameters, {name: array.copy() for name, array in self.arrays.items()}, self.step, self.notes
        )

    def digest(self) -> bytes:
        """Compute the SHA-256 over each parameter's header entry followed by its integers, little endian.

        Returns:
            32 bytes.
        """
        total = hashlib.sha256()
        for p in self.parameters:
            total.update(cbor2.dumps(p.entry()))
            total.update(self.arrays[p.name].astype(p.dtype, copy=False).data)
        return total.digest()

    def saturated(self) -> dict[str, int]:
        """Count the elements of each parameter at an end of its grid, where they cannot grow any more."""
        return {
            p.name: int(((self.arrays[p.name] <= p.grid.low) | (self.arrays[p.name] >= p.grid.high)).sum())
            for p in self.parameters
        }

    def to_net(self, net: torch.nn.Module) -> torch.nn.Module:
        """Copy a network with the values of the integers, ``scale · q``, as its parameters.

        The copy computes with these values as they are, also where ``net`` is trained with quantised weights.

        Args:
            net: network with the parameters of the image.

        Raises:
            ShapeError: for a parameter of the image that ``net`` does not have in this shape.
        """
        made = copy.deepcopy(checks.network(net))
        as_floats(made)
        live = dict(made.named_parameters())
        for p in self.parameters:
            if p.name not in live or tuple(live[p.name].shape) != p.shape:
                raise ShapeError(f"the network has no parameter {p.name} of shape {p.shape}")
            integers = torch.from_numpy(self.arrays[p.name].astype(np.int32)).to(live[p.name])
            live[p.name].data.copy_(p.grid.to_real(integers))
        return made


def check_image(name: str, value: Any) -> IntegerImage:
    """Return an image.

    Args:
        name: of the argument, for the error.
        value: the image.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(value, IntegerImage):
        raise UserError(f"{name} is an IntegerImage, as replay and load_image give it, got {brief(value)}")
    return value


# Header, frames and marks

FORMAT, VERSION = "sparse-updates", 1
HEADER, FRAME, MARK = 0, 1, 2
"""Kinds of bodies."""

Plain = str | int | float | bool | None
"""Values of a header's notes for people."""


@dataclass(frozen=True, eq=False)
class StreamHeader:
    """Header of a stream.

    Attributes:
        parameters: in the order in which frames count them.
        step: steps of training before the base image.
        every: steps of training between two comparisons of the weights.
        digest: :meth:`IntegerImage.digest` of the base image, 32 bytes.
        base: the base image, where the stream holds it.
        about: names and plain values for people.

    Raises:
        UserError: for more than 10,000 parameters.
    """

    parameters: tuple[Parameter, ...]
    step: int
    every: int
    digest: bytes
    base: IntegerImage | None = None
    about: Mapping[str, Plain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.parameters) > MOST_PARAMETERS:
            raise UserError(f"a stream holds at most {MOST_PARAMETERS} parameters, got {len(self.parameters)}")


@dataclass(frozen=True, eq=False)
class Change:
    """New values of elements of one parameter.

    Attributes:
        parameter: name of the parameter.
        indices: int64 ``[N]``, strictly rising places in row-major order.
        values: int32 ``[N]``, the new integers, not differences.
    """

    parameter: str
    indices: Ints
    values: NDArray[np.int32]


def changes_of(image: IntegerImage) -> tuple[Change, ...]:
    """Express a whole image as the changes that write it."""
    return tuple(
        Change(p.name, np.arange(p.size, dtype=np.int64), image.arrays[p.name].reshape(-1).astype(np.int32))
        for p in image.parameters
    )


@dataclass(frozen=True, eq=False)
class Frame:
    """All changes since the frame before.

    Attributes:
        step: steps of training after which the network had these values.
        changes: of each parameter that changed.
        sequence: number of the record, set when a frame is read or recorded.
        size: bytes of the record, set when a frame is read or recorded.
    """

    step: int
    changes: tuple[Change, ...]
    sequence: int = 0
    size: int = 0

    @property
    def changed(self) -> int:
        """Number of changed elements."""
        return sum(len(change.indices) for change in self.changes)


@dataclass(frozen=True)
class Mark:
    """Digest of the image after some steps, written when a recording ends.

    Attributes:
        step: steps of training.
        digest: :meth:`IntegerImage.digest` of the image, 32 bytes.
    """

    step: int
    digest: bytes


def encode_header(header: StreamHeader) -> bytes:
    """Encode a header as the body of a record."""
    base = None
    if header.base is not None:
        arrays = ((p, header.base.arrays[p.name].reshape(-1)) for p in header.base.parameters)
        base = [typed(array, TAGS[p.dtype.itemsize]) for p, array in arrays]
    content = {
        "format": FORMAT, "version": VERSION, "step": header.step, "every": header.every,
        "parameters": [p.entry() for p in header.parameters], "digest": header.digest, "base": base,
        "about": dict(header.about),
    }  # fmt: skip
    return cbor2.dumps([HEADER, content])


def encode_frame(frame: Frame, parameters: Sequence[Parameter]) -> bytes:
    """Encode a frame as ``[kind, step, [parameter, gaps, values], …]``, parameters in the order of the header."""
    place = {p.name: index for index, p in enumerate(parameters)}
    changes = [
        [place[c.parameter], pack_indices(c.indices), pack_values(c.values, parameters[place[c.parameter]].bits)]
        for c in frame.changes
    ]
    return cbor2.dumps([FRAME, frame.step, *sorted(changes, key=lambda change: change[0])])


def encode_mark(mark: Mark) -> bytes:
    """Encode a mark as the body of a record."""
    return cbor2.dumps([MARK, mark.step, mark.digest])


def decode(body: bytes) -> list[Any]:
    """Decode a body to an array whose first element is its kind.

    Raises:
        DataError: for a body that is no such array, or is encoded in another way.
    """
    check_items(body)
    try:
        item = cbor2.loads(body, max_depth=DEEPEST, allow_indefinite=False)
        same = cbor2.dumps(item) == body
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise DataError(
            f"its content is no valid CBOR: {str(error).splitlines()[0] if str(error) else 'damaged'}"
        ) from None
    if not isinstance(item, list) or not item or not _whole(item[0]) or not same:
        raise DataError("its content is no array of this format in its one encoding")
    return item


def decode_header(item: list[Any]) -> StreamHeader:
    """Make the header of a decoded body.

    Raises:
        DataError: for another kind or version, values of other types, and a base image without the digest.
    """
    content = item[1] if len(item) == 2 and item[0] == HEADER else None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError("the stream does not begin with a header of this format")
    if not _whole(content.get("version")) or content["version"] != VERSION:
        raise DataError(f"the stream has version {content.get('version')!r}, this program reads version {VERSION}")
    step, every, digest = (content.get(name, -1) for name in ("step", "every", "digest"))
    if not _whole(step) or not _whole(every) or every < 1 or not isinstance(digest, bytes) or len(digest) != 32:
        raise DataError("the header has no valid step, every or digest")
    table, about = content.get("parameters"), content.get("about")
    if not isinstance(table, list) or not table:
        raise DataError("the header has no table of parameters")
    if len(table) > MOST_PARAMETERS:
        raise DataError(f"the header has {len(table)} parameters, and a stream holds at most {MOST_PARAMETERS}")
    if not isinstance(about, dict) or not all(
        isinstance(name, str) and isinstance(value, Plain) for name, value in about.items()
    ):
        raise DataError("the header's notes are not names with plain values")
    parameters = tuple(_parameter(entry) for entry in table)
    if len({p.name for p in parameters}) != len(parameters):
        raise DataError("two parameters of the header have the same name")
    base = None if content.get("base") is None else _base(content["base"], parameters, step, digest)
    return StreamHeader(parameters, step, every, digest, base, about)


def decode_frame(item: list[Any], parameters: Sequence[Parameter]) -> Frame:
    """Make the frame of a decoded body.

    Raises:
        DataError: for another form, and an index or value outside of its parameter.
    """
    if len(item) < 2 or not _whole(item[1]):
        raise DataError("it has no step")
    changes, least = [], 0
    for entry in item[2:]:
        if not isinstance(entry, list) or len(entry) != 3 or not _whole(entry[0]):
            raise DataError("a change is no array of parameter, gaps and values")
        index = entry[0]
        if not least <= index < len(parameters):
            raise DataError(f"it changes parameter {index}, expected one from {least} to {len(parameters) - 1}")
        p, least = parameters[index], index + 1
        indices = unpack_indices(entry[1], p.size, f"the indices of {p.name}")
        values = unpack_values(entry[2], p.bits, len(indices), f"the values of {p.name}")
        if int(values.min()) < p.grid.low or int(values.max()) > p.grid.high:
            raise DataError(f"a value of {p.name} is outside of its grid, {p.grid.low} to {p.grid.high}")
        changes.append(Change(p.name, indices, values))
    return Frame(item[1], tuple(changes))


def _parameter(entry: Any) -> Parameter:
    if not isinstance(entry, list) or len(entry) != 6:
        raise DataError("an entry of the table of parameters does not have six elements")
    name, shape, bits, low, high, scale = entry
    if not isinstance(name, str) or not isinstance(shape, list) or not all(_whole(size) for size in shape):
        raise DataError("a parameter has no name or no shape")
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high)):
        raise DataError(f"{name} has no grid")
    if isinstance(scale, float):
        grid = Grid(scale, low, high)
    else:
        scales = torch.from_numpy(untyped(scale, (FLOAT64,), f"the scales of {name}").astype(np.float64))
        grid = Grid(scales.reshape(-1, *[1] * (len(shape) - 1)), low, high)
    try:
        made = Parameter(name, tuple(shape), grid)
    except UserError as error:
        raise DataError(str(error)) from None
    if made.bits != bits:
        raise DataError(f"{name} says {bits!r} bits, its grid from {low} to {high} takes {made.bits}")
    return made


def _base(arrays: Any, parameters: tuple[Parameter, ...], step: int, digest: bytes) -> IntegerImage:
    if not isinstance(arrays, list) or len(arrays) != len(parameters):
        raise DataError(f"the base image does not have the {len(parameters)} parameters of the header")
    found = {}
    for p, item in zip(parameters, arrays, strict=True):
        values = untyped(item, (TAGS[p.dtype.itemsize],), f"the base image of {p.name}")
        if len(values) != p.size:
            raise DataError(f"the base image of {p.name} has {len(values)} elements, its shape has {p.size}")
        if len(values) and (int(values.min()) < p.grid.low or int(values.max()) > p.grid.high):
            raise DataError(f"the base image of {p.name} holds values outside of its grid")
        found[p.name] = values.copy()
    image = IntegerImage(parameters, found, step)
    if image.digest() != digest:
        raise DataError("the base image in the header does not match its digest")
    return image


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# Decoding a stream as it arrives

Stream = str | Path | bytes
"""Path of a stream, or its bytes."""

_CHUNK = 1 << 20
"""Bytes that are read from a file in one go."""

Event = StreamHeader | Frame | Mark
"""Decoded record."""


class Decoder:
    """Reads a stream in pieces and keeps its place. Memory grows with the bytes passed, not with the sizes they claim.

    Args:
        name: name of the stream in errors.

    Attributes:
        name: as given.
        link: place in the stream, after ``link.offset`` bytes.
        header: of the stream, ``None`` before it was read.
        step: step of the last record.
        closed: whether the last record was a mark.
    """

    def __init__(self, name: str = "the stream") -> None:
        self.name, self.link = name, Link()
        self.header: StreamHeader | None = None
        self.step, self.closed = 0, False

    def take(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """Decode all complete records of ``data`` and move :attr:`link` to the end of each.

        Args:
            data: bytes of the stream from ``link.offset`` on.

        Yields:
            The header, frames and marks, in order.

        Raises:
            DataError: at the first wrong byte; the records that were given before are good.
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
            if len(item) != 3 or not _whole(item[1]) or not isinstance(item[2], bytes) or len(item[2]) != 32:
                raise DataError("a mark is no array of kind, step and digest")
            mark = Mark(item[1], item[2])
            if mark.step < self.step:
                raise DataError(f"it is of step {mark.step}, the one before of {self.step}")
            self.step, self.closed = mark.step, True
            return mark
        raise DataError(f"its kind {item[0]} is not known")


def name_of(stream: Stream) -> str:
    """Name of a stream in errors."""
    return "the stream" if isinstance(stream, bytes) else str(stream)


def read_events(stream: Stream, decoder: Decoder) -> Iterator[Event]:
    """Decode all complete records of a stream from the place of a decoder on.

    Args:
        stream: path, or bytes from the beginning of the stream.
        decoder: moves to the end of the last complete record; :func:`left_over` counts the bytes after it.

    Yields:
        The header, frames and marks, in order.

    Raises:
        DataError: for a file that cannot be read, and at the first wrong byte.
    """
    if not isinstance(stream, bytes):
        checks.path("a stream", stream)
    if isinstance(stream, bytes):
        yield from decoder.take(memoryview(stream)[decoder.link.offset :])
        return
    try:
        with open_regular(stream) as file:
            file.seek(decoder.link.offset)
            waiting = bytearray()
            # reading as much again keeps the cost of a record longer than a chunk linear
            while chunk := file.read(max(_CHUNK, len(waiting))):
                waiting += chunk
                before = decoder.link.offset
                yield from decoder.take(bytes(waiting))
                del waiting[: decoder.link.offset - before]
    except OSError as error:
        raise DataError(f"cannot read {stream}: {error.strerror or error}") from None


def left_over(stream: Stream, decoder: Decoder) -> int:
    """Count the bytes after the last complete record that ``decoder`` has read."""
    size = len(stream) if isinstance(stream, bytes) else Path(stream).stat().st_size
    return max(size - decoder.link.offset, 0)
