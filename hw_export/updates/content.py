"""What the bodies of records say: a header, frames of changes, and marks.

Bodies are CBOR arrays that begin with their kind (docs/update-stream.md). They are encoded in one way only: the
shortest heads, definite lengths, 64-bit floats; a body in any other encoding is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cbor2
import numpy as np
import torch
from numpy.typing import NDArray

from hw_export.updates.image import IntegerImage, Parameter
from hw_export.updates.items import check_items
from hw_export.updates.packing import (
    FLOAT64,
    TAGS,
    Ints,
    pack_indices,
    pack_values,
    unpack_indices,
    unpack_values,
    untyped,
)
from spikelfp.errors import DataError, UserError
from spikelfp.quantized import Grid

FORMAT, VERSION = "sparse-updates", 1
HEADER, FRAME, MARK = 0, 1, 2
_DEPTH = 8
"""Containers inside containers; the header needs four."""

Plain = str | int | float | bool | None


@dataclass(frozen=True, eq=False)
class Header:
    """What a stream is about.

    parameters: in the order frames count them. step: steps of training behind the base image. every: steps between two
    looks at the weights. digest: of the base image, :meth:`IntegerImage.digest`. base: the image itself, if the stream
    has it. about: names and plain values for the reader.
    """

    parameters: tuple[Parameter, ...]
    step: int
    every: int
    digest: bytes
    base: IntegerImage | None = None
    about: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Change:
    """New values of some elements of one parameter.

    parameter: its name. indices: int64, rising, row-major. values: int32, the whole integers, not differences.
    """

    parameter: str
    indices: Ints
    values: NDArray[np.int32]


def changes_of(image: IntegerImage) -> tuple[Change, ...]:
    """A whole image as the changes that write it."""
    return tuple(
        Change(p.name, np.arange(p.size, dtype=np.int64), image.arrays[p.name].reshape(-1).astype(np.int32))
        for p in image.parameters
    )


@dataclass(frozen=True, eq=False)
class Frame:
    """All changes since the frame before. step: steps of training behind them. sequence, size: set when it is read."""

    step: int
    changes: tuple[Change, ...]
    sequence: int = 0
    size: int = 0

    @property
    def changed(self) -> int:
        """Number of elements."""
        return sum(len(change.indices) for change in self.changes)


@dataclass(frozen=True)
class Mark:
    """The image after ``step`` steps has this digest: written when a recording ends, or is taken up again."""

    step: int
    digest: bytes


def encode_header(header: Header) -> bytes:
    """The body of a header."""
    return cbor2.dumps(
        [
            HEADER,
            {
                "format": FORMAT,
                "version": VERSION,
                "step": header.step,
                "every": header.every,
                "parameters": [p.entry() for p in header.parameters],
                "digest": header.digest,
                "base": None if header.base is None else header.base.typed_arrays(),
                "about": dict(header.about),
            },
        ]
    )


def encode_frame(frame: Frame, parameters: Sequence[Parameter]) -> bytes:
    """The body of a frame: kind, step, and ``[parameter, gaps, values]`` for each change, in the order of the table."""
    place = {p.name: index for index, p in enumerate(parameters)}
    parts = [
        [place[c.parameter], pack_indices(c.indices), pack_values(c.values, parameters[place[c.parameter]].bits)]
        for c in frame.changes
    ]
    return cbor2.dumps([FRAME, frame.step, *sorted(parts, key=lambda part: part[0])])


def encode_mark(mark: Mark) -> bytes:
    """The body of a mark."""
    return cbor2.dumps([MARK, mark.step, mark.digest])


def decode(body: bytes) -> list[Any]:
    """The array of a body, whose first element is its kind."""
    check_items(body)
    try:
        item = cbor2.loads(body, max_depth=_DEPTH, allow_indefinite=False)
        same = cbor2.dumps(item) == body
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise DataError(
            f"its content is no valid CBOR: {str(error).splitlines()[0] if str(error) else 'damaged'}"
        ) from None
    if not isinstance(item, list) or not item or not _whole(item[0]) or not same:
        raise DataError("its content is no array of this format in its one encoding")
    return item


def decode_header(item: list[Any]) -> Header:
    """The header of a decoded body; the base image, where there is one, matches the digest."""
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
    if not isinstance(about, dict) or not all(
        isinstance(name, str) and isinstance(value, Plain) for name, value in about.items()
    ):
        raise DataError("the header's notes are not names with plain values")
    parameters = tuple(_parameter(entry) for entry in table)
    if len({p.name for p in parameters}) != len(parameters):
        raise DataError("two parameters of the header have the same name")
    base = None if content.get("base") is None else _base(content["base"], parameters, step, digest)
    return Header(parameters, step, every, digest, base, about)


def decode_frame(item: list[Any], parameters: Sequence[Parameter]) -> Frame:
    """The frame of a decoded body, every index and value within its parameter."""
    if len(item) < 2 or not _whole(item[1]):
        raise DataError("it has no step")
    changes, least = [], 0
    for part in item[2:]:
        if not isinstance(part, list) or len(part) != 3 or not _whole(part[0]):
            raise DataError("a change is no array of parameter, gaps and values")
        index = part[0]
        if not least <= index < len(parameters):
            raise DataError(f"it changes parameter {index}, expected one from {least} to {len(parameters) - 1}")
        p, least = parameters[index], index + 1
        indices = unpack_indices(part[1], p.size, f"the indices of {p.name}")
        values = unpack_values(part[2], p.bits, len(indices), f"the values of {p.name}")
        if int(values.min()) < p.grid.low or int(values.max()) > p.grid.high:
            raise DataError(f"a value of {p.name} is outside of its grid, {p.grid.low} to {p.grid.high}")
        changes.append(Change(p.name, indices, values))
    return Frame(item[1], tuple(changes))


def decode_mark(item: list[Any]) -> Mark:
    """The mark of a decoded body."""
    if len(item) != 3 or not _whole(item[1]) or not isinstance(item[2], bytes) or len(item[2]) != 32:
        raise DataError("a mark is no array of kind, step and digest")
    return Mark(item[1], item[2])


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
