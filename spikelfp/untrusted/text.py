"""Plain values of YAML, JSON and CSV files, none of which grow when read, and checks of single values."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from torch import Tensor

from spikelfp.errors import CheckpointError, DataError, UserError
from spikelfp.terminal import brief, first_line, plain
from spikelfp.untrusted.bounds import read_regular

LONGEST = 1 << 20
"""Bytes of a YAML file; configurations and manifests have some thousands."""

LONGEST_JSON = 1 << 24
"""Bytes of a JSON file, which is read faster."""

LONGEST_CSV = 1 << 26
"""Bytes of a CSV file."""

MOST_CELLS = 1 << 21
"""Cells of a CSV file, each of which takes about 150 bytes: 50,000 epochs of 40 values."""

DEEPEST = 64
"""Most lists and mappings within each other."""

MOST_VALUES = 200_000
"""Values of a YAML file, each of which takes about 1 kB while it is read."""

LARGEST = 1 << 64
"""Whole numbers are smaller: longer ones take quadratic time to be written and read."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a pair, written out: a byte of a file name that is no text. libyaml refuses it, PyYAML's parser does not."""

SHORT = 1 << 16
"""Bytes of a file that the slow parser is used for."""

_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))


def _loader(parser: Any) -> Any:
    """Make a loader of plain values: no dates (they stay text), no merged mappings, no key twice."""

    class Plain(parser):
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
        yaml_constructors = {  # noqa: RUF012
            tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in _TAGS or tag is None
        }

    Plain.add_constructor("tag:yaml.org,2002:int", _read_whole)
    Plain.add_constructor("tag:yaml.org,2002:map", _read_mapping)
    return Plain


def _read_whole(loader: Any, node: Any) -> int:
    digits = node.value.replace("_", "").lstrip("+-0")
    if len(digits) > 80 or ":" in digits or abs(value := loader.construct_yaml_int(node)) >= LARGEST:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value[:40]} is no whole number of at most 64 bits", node.start_mark
        )
    return value


def _read_mapping(loader: Any, node: Any) -> Any:
    seen = set()
    for key, _ in node.value:
        if key.value == "<<" and not key.style:
            raise yaml.constructor.ConstructorError(
                None, None, "merge keys (<<) are not read: write the values out", key.start_mark
            )
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is a list or a mapping", key.start_mark)
        value = loader.construct_object(key)
        if value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {first_line(ValueError(value), 60)} stands in it twice", key.start_mark
            )
        seen.add(value)
    return loader.construct_yaml_map(node)


_FAST, _SLOW = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)), _loader(yaml.SafeLoader)


def read_yaml(path: str | Path) -> Any:
    """Read the plain values of a YAML file: text, numbers, yes or no, nothing, lists and mappings of these.

    Dates are read as text.

    Args:
        path: the file, UTF-8 with or without a byte order mark.

    Raises:
        DataError: for a file that cannot be read or is no YAML; for anchors and aliases, merged mappings, tags of
            other types, a key that stands twice in a mapping, whole numbers of more than 64 bits, more than
            :data:`LONGEST` bytes, :data:`MOST_VALUES` values or :data:`DEEPEST` levels.
    """
    content = read_regular(path, LONGEST)
    try:
        text = content.decode("utf-8-sig")
        loader = _SLOW if len(content) <= SHORT and _HALF.search(text) else _FAST
        _check_events(text, path, loader)
        return yaml.load(text, loader)
    except DataError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise DataError(f"{path} is not valid YAML{line}: {first_line(ValueError(problem))}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise DataError(f"{path} is not valid YAML: {first_line(error)}") from None


def _check_events(text: str, path: str | Path, loader: Any) -> None:
    """Refuse content that grows when it is read, from its parser events: no values are made of them."""
    depth = values = 0
    event: Any
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise DataError(
                f"{path}: line {event.start_mark.line + 1} refers to a value by an anchor (&{event.anchor[:40]}): such "
                "files can grow without end, write the value out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            values += 1
            tag = event.tag
            if tag is not None and tag not in _TAGS and tag != "!":
                raise DataError(f"{path}: it holds a value of the type {tag[:60]!r}: plain values are read only")
        if depth > DEEPEST or values > MOST_VALUES:
            raise DataError(
                f"{path}: more than {DEEPEST} lists within each other, or {MOST_VALUES} values: made to fill the memory"
            )


def read_json(path: str | Path) -> Any:
    """Read the values of a JSON file.

    Raises:
        DataError: for a file that cannot be read or is no JSON, a key that stands twice, and more than
            :data:`LONGEST_JSON` bytes.
    """
    return plain_json(read_regular(path, LONGEST_JSON), path)


def plain_json(content: bytes, path: str | Path) -> Any:
    """Read the values of JSON that stands in a file.

    Args:
        content: the bytes, UTF-8.
        path: the file, named in errors.

    Raises:
        DataError: for what is no JSON, and a key that stands twice.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique_keys, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {first_line(error)}") from None


def read_csv(path: str | Path) -> list[dict[str, float]]:
    """Read the rows of a CSV file whose first line names its columns; empty cells are left out.

    Raises:
        DataError: for a file that cannot be read or is no table of numbers, a name that stands twice, rows of more or
            fewer cells, and more than :data:`LONGEST_CSV` bytes or :data:`MOST_CELLS` cells.
    """
    content = read_regular(path, LONGEST_CSV)
    cells = content.count(b",") + content.count(b"\n")
    if cells > MOST_CELLS:
        raise DataError(f"{path}: has {cells} cells, more than the {MOST_CELLS} that are read")
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        names = next(lines, [])
        if len(set(names)) < len(names):
            raise ValueError("two columns have the same name")
        rows = [_row(names, line, number) for number, line in enumerate(lines, 1) if line]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {first_line(error)}") from None
    return rows


def _row(names: list[str], cells: list[str], number: int) -> dict[str, float]:
    if len(cells) != len(names):
        raise ValueError(f"row {number} has {len(cells)} cells, the head has {len(names)}")
    return {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell != ""}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands in it twice")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > 80 or abs(value := int(digits)) >= LARGEST:
        raise ValueError(f"{digits[:40]} is no whole number of at most 64 bits")
    return value


MOST = 2**53
"""Largest number of anything that is counted."""


class Field:
    """A value of a file.

    Args:
        source: the file.
        name: place of the value in it, such as ``position.epoch``; empty for the whole content.
        value: as it was read.
        error: class of the errors that are raised.
    """

    def __init__(self, source: Any, name: str, value: Any, error: type[UserError] = CheckpointError) -> None:
        self.source, self.name, self.value, self.error = source, name, value, error

    def refuse(self, wanted: str, found: str | None = None) -> NoReturn:
        """Raise the error for this value, which is not the ``wanted`` one."""
        shown = brief(self.value) if found is None else found
        raise self.error(f"{self.source} is damaged: {self.name or 'its content'} is {shown}, expected {wanted}")

    def at(self, key: Any) -> Field:
        """Go to a value inside, by name or number, which must be there."""
        inside = f"{self.name}[{key}]" if isinstance(self.value, list | tuple) else self._named(key)
        return Field(self.source, inside, self.value[key], self.error)

    def _named(self, key: Any) -> str:
        text = str(key)
        name = (text if text.isascii() and text.isidentifier() else plain(text))[:120]
        return f"{self.name}.{name}" if self.name else name

    def flag(self) -> bool:
        """Return it, if it is true or false."""
        if type(self.value) is not bool:
            self.refuse("true or false")
        return self.value

    def text(self, among: Collection[str] | None = None) -> str:
        """Return it, if it is a text, and one of ``among`` where these are given."""
        if type(self.value) is not str or (among is not None and self.value not in among):
            self.refuse("text" if among is None else f"one of {', '.join(among)}")
        return self.value

    def whole(self, low: int = 0, high: int = MOST) -> int:
        """Return it, if it is a whole number within ``low … high``."""
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"a whole number of at least {low}" if high == MOST else f"a whole number from {low} to {high}")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf, *, finite: bool = True) -> float:
        """Return it, if it is a number within ``low … high``, and finite unless said otherwise."""
        value = self.value
        fits = type(value) in (int, float) and (not finite or (abs(value) <= 1e308 and not math.isnan(value)))
        if not fits or value < low or value > high:
            kind = "a finite number" if finite else "a number"
            bounds = "" if (low, high) == (-math.inf, math.inf) else f" from {low:g} to {high:g}"
            self.refuse(kind + (f" of at least {low:g}" if high == math.inf and bounds else bounds))
        return float(value)

    def mapping(self, needed: Collection[str] = (), known: Collection[str] | None = None) -> dict[Any, Any]:
        """Return it, if it is a mapping with all names of ``needed`` and none outside of ``known``."""
        if not isinstance(self.value, dict):
            self.refuse("values by name")
        for name in needed:
            if name not in self.value:
                raise self.error(f"{self.source} is damaged: {self._named(name)} is missing")
        extra = [] if known is None else [name for name in self.value if name not in known]
        if extra:
            raise self.error(f"{self.source} is damaged: {self._named(extra[0])} is not known to this version")
        return self.value

    def items(self) -> Iterator[tuple[str, Field]]:
        """Go through a mapping, each of whose names must be a text."""
        for name in self.mapping():
            if type(name) is not str:
                raise self.error(f"{self.source} is damaged: {self.name or 'its content'} has the key {brief(name)}")
            yield name, self.at(name)

    def sequence(self, length: int | None = None, kind: type[list[Any]] | type[tuple[Any, ...]] = list) -> list[Field]:
        """Return its values, if it is a list (or another ``kind``) of them, ``length`` long."""
        if type(self.value) is not kind or (length is not None and len(self.value) != length):
            self.refuse(f"a {kind.__name__}" + ("" if length is None else f" of {length} values"))
        return [self.at(i) for i in range(len(self.value))]

    def tensor(self, shape: Collection[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Return it, if it is a tensor of this shape and dtype whose elements lie apart and are finite."""
        value = self.value
        if (
            not isinstance(value, Tensor)
            or (shape is not None and tuple(value.shape) != tuple(shape))
            or (value.dtype != dtype if dtype is not None else value.is_complex())
        ):
            kind = "a tensor" if dtype is None else f"a tensor of {dtype}"
            self.refuse(kind if shape is None else f"{kind} and shape {list(shape)}")
        if not is_finite(value):
            self.refuse("finite numbers", "NaN or infinite in places")
        return value


def is_finite(value: Tensor) -> bool:
    """Whether all numbers of a tensor are finite; it takes the time of reading them once."""
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if not value.is_floating_point() or value.numel() == 0:
        return True
    if value.element_size() == 1:
        value = value.float()
    low, high = torch.aminmax(value)  # NaN comes through
    return bool(torch.isfinite(low) & torch.isfinite(high))
