"""NIR files as plain dictionaries, before nir checks anything, so that mistakes can be mended or explained.

First the fields of every kind of node and the values that each may hold; then reading files and building graphs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from spikelfp import checks
from spikelfp.errors import DataError, UserError
from spikelfp.untrusted import check_size, open_hdf5

Document = dict[str, Any]
"""A node: its ``type``, its parameters; a graph also ``nodes`` by name and ``edges`` as pairs of names."""

Shape = tuple[int, ...]

LARGEST = 2**31 - 1
"""Largest value of sizes, strides and the like."""

Check = Callable[[Any], Any]
"""Function that converts a value to the form used here, or raises ``ValueError`` with its fault."""


def numbers(least: int = 0, most: int | None = None, *, positive: bool = False) -> Check:
    """Make the check for an array of finite numbers of ``least`` to ``most`` axes."""

    def check(value: Any) -> np.ndarray:
        array = _array(value)
        if array.ndim < least or (most is not None and array.ndim > most):
            raise ValueError(f"has shape {list(array.shape)}, expected {least} axes")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("has values that are not finite")
        if positive and array.min() <= 0:
            raise ValueError(f"is {array.min():g}, expected above 0")
        return array

    return check


def sizes(least: int, count: int | None = None) -> Check:
    """Make the check for the shape of a sample: ``count`` sizes of at least ``least``."""

    def check(value: Any) -> np.ndarray:
        array = _whole(value)
        if array.ndim != 1 or count not in (None, array.size):
            wanted = "a list of sizes" if count is None else f"{count} sizes"
            raise ValueError(f"has shape {list(array.shape)}, expected {wanted}")
        return _within(array, least)

    return check


def whole(count: int, least: int, names: tuple[str, ...] = ()) -> Check:
    """Make the check for ``count`` whole numbers of at least ``least`` (one or all given), or one of ``names``."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and names:
            if value not in names:
                raise ValueError(f"is {value!r}, expected numbers or one of {', '.join(map(repr, names))}")
            return value
        array = _whole(value)
        if array.size not in (1, count) or array.ndim > 1:
            raise ValueError(f"has shape {list(array.shape)}, expected {count} whole number{'s' * (count > 1)}")
        _within(array, least)
        return int(array.flat[0]) if count == 1 else np.array(np.broadcast_to(array.astype(np.int64), count))

    return check


def _array(value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, tensors with a graph: whatever numpy makes of them
        raise ValueError(f"is a {type(value).__name__}, expected an array of numbers") from None
    if array.dtype.kind in "SU" or isinstance(value, str):
        raise ValueError(f"is text ({str(value)[:40]!r}), expected numbers")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"holds values of type {array.dtype}, expected numbers")
    if not array.size:
        raise ValueError("is empty")
    return array


def _whole(value: Any) -> np.ndarray:
    array = _array(value)
    if array.dtype.kind == "f":
        raise ValueError("holds floating-point numbers, expected whole ones")
    return array


def _within(array: np.ndarray, least: int) -> np.ndarray:
    if array.min() < least or array.max() > LARGEST:
        found = array.min() if array.min() < least else array.max()
        raise ValueError(f"is {found}, expected {least} to {LARGEST}")
    return array.astype(np.int64)


_ANY, _TAU = numbers(), numbers(positive=True)
_PADDING = ("same", "valid")
_POOL = {"kernel_size": whole(2, 1), "stride": whole(2, 1), "padding": whole(2, 0)}
_FIRE = {"v_threshold": _ANY, "v_reset": _ANY}
_MEMBRANE = {"r": _ANY, "v_leak": _ANY}
_SYNAPSE = {"tau_syn": _TAU, "tau_mem": _TAU, **_MEMBRANE, "w_in": _ANY}

FIELDS: dict[str, dict[str, Check]] = {
    "Input": {"shape": sizes(1)},
    "Output": {"shape": sizes(1)},
    "Affine": {"weight": numbers(2, 2), "bias": numbers(1, 1)},
    "Linear": {"weight": numbers(2, 2)},
    "Scale": {"scale": _ANY},
    "Conv1d": {
        "input_shape": whole(1, 1), "weight": numbers(3, 3), "stride": whole(1, 1), "padding": whole(1, 0, _PADDING),
        "dilation": whole(1, 1), "groups": whole(1, 1), "bias": numbers(1, 1),
    },
    "Conv2d": {
        "input_shape": sizes(1, 2), "weight": numbers(4, 4), "stride": whole(2, 1), "padding": whole(2, 0, _PADDING),
        "dilation": whole(2, 1), "groups": whole(1, 1), "bias": numbers(1, 1),
    },
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": {"input_type": sizes(0), "start_dim": whole(1, -LARGEST), "end_dim": whole(1, -LARGEST)},
    "Delay": {"delay": _ANY},
    "Threshold": {"threshold": _ANY},
    "I": {"r": _ANY},
    "LI": {"tau": _TAU, **_MEMBRANE},
    "IF": {"r": _ANY, **_FIRE},
    "LIF": {"tau": _TAU, **_MEMBRANE, **_FIRE},
    "CubaLI": _SYNAPSE,
    "CubaLIF": _SYNAPSE | _FIRE,
}  # fmt: skip
"""By kind, the fields of a node and their checks."""

NEURONS = {
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "Threshold": ("threshold",),
    "Scale": ("scale",),
    "Delay": ("delay",),
}
"""Elementwise nodes, and their parameters, which have the shape of the input."""

OPTIONAL = frozenset({"input_shape", "input_type", "v_reset", "w_in"})
"""Fields that NIR lets a node leave out; they default to the shape that arrives, 0 and 1."""


def checked(document: Document, source: str, version: str = "") -> Document:
    """Check every node, field, edge and entry of metadata of a graph.

    Args:
        document: of a graph, as read; it is left as it is.
        source: name of the file in errors.
        version: of NIR, for errors, where the file is newer than what is installed.

    Returns:
        The graph with every field in the form used here: arrays, integers and text, defaults filled in.

    Raises:
        DataError: naming node and field.
    """
    return _graph(document, source, "the graph", version)


def _graph(graph: Document, source: str, label: str, version: str) -> Document:
    extra = sorted(set(graph) - {"type", "nodes", "edges", "metadata"})
    if extra:
        raise DataError(f"{source}: {label} has a field {extra[0]!r}, which is not known here{version}")
    for key in ("nodes", "edges"):
        if graph.get(key) is None:
            raise DataError(f"{source}: {label} has no {key}")
    nodes = graph["nodes"]
    if not isinstance(nodes, Mapping):
        raise DataError(f"{source}: nodes of {label} are no group of nodes")
    made = {str(name): _node(str(name), node, source, version) for name, node in nodes.items()}
    edges = _edges(graph["edges"], source, label)
    return {"type": "NIRGraph", "nodes": made, "edges": edges, "metadata": _metadata(graph, source, label)}


def _node(name: str, node: Any, source: str, version: str) -> Document:
    if not isinstance(node, Mapping):
        raise DataError(f"{source}: the node {name!r} is no group of fields")
    kind = plain_text(node.get("type"))
    if kind is None:
        problem = "has no type" if node.get("type") is None else "has a type that is no text"
        raise DataError(f"{source}: the node {name!r} {problem}")
    if kind == "NIRGraph":
        return _graph(dict(node), source, f"the graph {name!r}", version)
    label = f"the {kind} {name!r}"
    checks = FIELDS.get(kind)
    if checks is None:
        raise DataError(f"{source}: the node {name!r} is a {kind!r}, a type that is not known here{version}")
    extra = sorted(set(node) - set(checks) - {"type", "metadata"})
    if extra:
        raise DataError(f"{source}: {label} has a field {extra[0]!r}, which is not known here{version}")
    made: Document = {"type": kind}
    for key, check in checks.items():
        value = node.get(key)
        if value is None:
            if key not in OPTIONAL:
                raise DataError(f"{source}: {label} has no {key}")
            continue
        if isinstance(value, Mapping):
            raise DataError(f"{source}: {key} of {label} is a group, expected a value")
        text = plain_text(value)
        try:
            made[key] = check(value if text is None else text)
        except ValueError as error:
            raise DataError(f"{source}: {key} of {label} {error}") from None
    if "v_reset" in checks and "v_reset" not in made:
        made["v_reset"] = np.zeros_like(made["v_threshold"])
    if "w_in" in checks:  # may be left out, or be one number for all
        shape, w_in = made["r"].shape, np.asarray(made.get("w_in", 1.0))
        made["w_in"] = np.array(np.broadcast_to(w_in, shape)) if w_in.shape == () else w_in
    return made | {"metadata": _metadata(node, source, label)}


def _edges(value: Any, source: str, label: str) -> list[tuple[str, str]]:
    malformed = f"{source}: edges of {label} are malformed: expected pairs of names"
    try:
        pairs = [tuple(edge) if not isinstance(edge, (str, bytes)) else (edge,) for edge in value]
    except TypeError:
        raise DataError(malformed) from None
    made = []
    for pair in pairs:
        names = [plain_text(name) for name in pair]
        if len(names) != 2 or None in names:
            raise DataError(f"{malformed}, got {str(pair)[:60]!r}")
        made.append((str(names[0]), str(names[1])))
    return made


def _metadata(node: Mapping[str, Any], source: str, label: str) -> dict[str, Any]:
    value = node.get("metadata")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(f"{source}: metadata of {label} are no group of values")
    try:
        metadata = plain(value)
    except UnicodeDecodeError:
        raise DataError(f"{source}: metadata of {label} hold text that is not UTF-8") from None
    check_metadata(metadata, f"{source}: ", label)
    return dict(metadata)


def plain_text(value: Any) -> str | None:
    """Convert ``value`` to text; ``None`` for what is no text (or not UTF-8)."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    try:
        return value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, str) else None
    except UnicodeDecodeError:
        return None


def newer(version: Any) -> str:
    """Write the end of an error for a file of a newer NIR than the one installed; else nothing."""
    text = plain_text(version)
    if text is None:
        return ""
    theirs, ours = _parts(text), _parts(nir.version)
    return f" (the file is of NIR {text[:20]!r}, this reads {nir.version})" if theirs > ours else ""


def _parts(version: str) -> list[int]:
    parts = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part[:9]))
    return parts


def read_document(source: str | Path | nir.NIRGraph) -> Document:
    """Read the graph of a file, or copy a graph in memory, and check every field.

    Args:
        source: path of the file, or a graph.

    Raises:
        UserError: for what is neither a path nor a graph.
        DataError: for a file that is missing or no NIR file, and for a node or field that is missing, unknown or odd.
    """
    if isinstance(source, nir.NIRGraph):
        try:
            found = source.to_dict()
        except Exception as error:  # nodes that were taken apart by hand: whatever dataclasses make of them
            raise DataError(f"the NIR graph holds what is no node: {reason(error)}") from None
        return checked(found, "the NIR graph")
    path = checks.path("a NIR file", source)
    if not path.is_file():
        raise DataError(f"there is no NIR file at {path}")
    try:
        with open_hdf5(path) as file:
            if not _holds(file, "node", h5py.Group):
                raise DataError(f"{path} is not a readable NIR file: it has no group 'node'")
            content = _Content(path)
            text = _holds(file, "version", h5py.Dataset) and file["version"].shape == ()
            version = newer(content.value(file["version"], "version")) if text else ""
            document = content.group(file["node"], ())
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"{path} is not a readable NIR file: {reason(error)}") from None
    kind = document.get("type")
    if kind not in (b"NIRGraph", "NIRGraph"):
        problem = "has no type" if kind is None else f"holds a {kind.decode() if isinstance(kind, bytes) else kind}"
        raise DataError(f"{path} is not a readable NIR file: it {problem}, no graph")
    return checked(document, str(path), version)


def build_graph(document: Document, source: str) -> nir.NIRGraph:
    """Build nir's objects of ``document``.

    Types are not checked: nir 1.0 gets the shapes of kernels that are not square and of grouped convolutions wrong, and
    :mod:`hw_export.nir.chain` knows them all.

    Raises:
        DataError: naming the node whose parameters do not go together.
    """
    nodes = {name: _build(name, node, source) for name, node in document["nodes"].items()}
    return nir.NIRGraph(nodes, list(document["edges"]), metadata=dict(document["metadata"]), type_check=False)


def copied(document: Document) -> Document:
    """Copy a graph so that fields can be replaced; arrays, which nobody writes into, are shared."""
    if "nodes" not in document:
        return dict(document)
    return dict(document) | {"nodes": {name: copied(node) for name, node in document["nodes"].items()}}


def reason(error: Exception) -> str:
    """Return the first line of an error, or its kind."""
    return str(error).splitlines()[0] if str(error).strip() else type(error).__name__


def _build(name: str, node: Document, source: str) -> nir.NIRNode:
    kind = node["type"]
    if kind == "NIRGraph":
        return build_graph(node, source)
    label = f"the {kind} {name!r}"
    if kind in NEURONS:
        first, *others = NEURONS[kind]
        for key in others:
            if node[key].shape != node[first].shape:
                raise DataError(
                    f"{source}: {key} of {label} has shape {list(node[key].shape)}, its {first} "
                    f"{list(node[first].shape)}: all parameters of a node have one shape"
                )
    if kind == "Flatten" and "input_type" in node:
        try:
            flattened_axes(node, tuple(node["input_type"]))
        except ValueError:
            raise DataError(
                f"{source}: {label} joins axes {node['start_dim']} to {node['end_dim']} of an input of "
                f"{node['input_type'].tolist()} (time and batch are not counted)"
            ) from None
    fields = dict(node)
    if kind in ("Conv1d", "Conv2d"):
        fields.setdefault("input_shape", None)
        if kind == "Conv2d" and fields["input_shape"] is not None:
            fields["input_shape"] = tuple(int(size) for size in fields["input_shape"])
    try:
        return nir.dict2NIRNode(fields)
    except Exception as error:  # whatever the constructors make of parameters that do not go together
        raise DataError(f"{source}: {label} cannot be built: {reason(error)}") from None


class _Content:
    """Reads groups and values of a file that was checked when it was opened.

    Their sizes are counted again, as the numbers of eight bytes that they become here.
    """

    def __init__(self, path: Path) -> None:
        self.source, self.packed, self.taken = str(path), path.stat().st_size, 0
        self.seen: set[Any] = set()

    def group(self, group: h5py.Group, names: tuple[str, ...]) -> Document:
        """Read the values of a group, by name."""
        where = f"{self.source}: {'.'.join(names)!r}"
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen:
            raise DataError(f"{where} is a group that stands in two places")
        self.seen.add(address)
        found: Document = {}
        for key in group:
            inner = (*names, str(key))
            where = f"{self.source}: {'.'.join(inner)!r}"
            self._take(64, where)
            try:
                item = group[key]
                found[str(key)] = self.group(item, inner) if isinstance(item, h5py.Group) else self.value(item, where)
            except DataError:
                raise
            except Exception as error:  # h5py raises many kinds for damaged data
                raise DataError(f"{where} cannot be read: {reason(error)}") from None
        return found

    def value(self, item: Any, where: str) -> Any:
        """Read a number, a text, or an array of them."""
        if not isinstance(item, h5py.Dataset):
            raise DataError(f"{where} is no group and no value")
        dtype, shape = item.dtype, item.shape
        if shape is None:
            raise DataError(f"{where} is empty")
        text = h5py.check_string_dtype(dtype) is not None
        if dtype.kind not in "biufcS" and not text:
            raise DataError(f"{where} holds values of type {dtype}, which NIR files do not have")
        self._take(max(8, dtype.itemsize) * item.size, where)
        return item[()]

    def _take(self, size: int, where: str) -> None:
        self.taken += int(size)
        check_size(self.taken, self.packed, where)


def _holds(file: h5py.File, key: str, kind: type) -> bool:
    """Whether ``key`` is a group or value of the file itself."""
    return isinstance(file.get(key, getlink=True), h5py.HardLink) and isinstance(file[key], kind)


def flattened_axes(node: Document, shape: Shape) -> tuple[int, int]:
    """Find the first and last axis of ``shape`` that a Flatten joins, counted from 0."""
    start, end = (int(node[key]) for key in ("start_dim", "end_dim"))
    axes = len(shape)
    start, end = (axis + axes if axis < 0 else axis for axis in (start, end))
    if not 0 <= start <= end < axes:
        raise ValueError("axes out of range")
    return start, end


def plain(value: Any) -> Any:
    """Convert a value as read from HDF5 to Python's types.

    There, text is bytes, numbers are numpy scalars, and dictionaries hold such. Arrays stay arrays.
    """
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return plain(value.item())
    return value.item() if isinstance(value, np.generic) else value


def in_order(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``parts``, later entries over earlier ones, sorted by name.

    HDF5 gives entries back in that order, so a file that is read and written again has the same bytes.
    """
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= {key: value for key, value in part.items() if value is not None}
    return {key: merged[key] for key in sorted(merged)}


def is_number(value: Any) -> bool:
    """Whether ``value`` is one finite real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_dt(value: Any) -> float:
    """Check a time step and return it as a float.

    Raises:
        UserError: unless it is one finite number above 0.
    """
    number = plain(value)
    if not is_number(number) or number <= 0:
        raise UserError(f"the time step dt must be a finite number above 0, got {short(value)}")
    return float(number)


CHOSEN = "chosen_delay"
"""Metadata of the weights of a tap: int8 ``[out, in]``, 1 where the delay of a connection is that of this tap."""


def check_metadata(metadata: Mapping[str, Any], source: str, label: str) -> None:
    """Check the metadata that this package uses: ``dt`` and ``threshold_op``.

    Raises:
        DataError: naming the entry and ``label``, the node or graph it belongs to.
    """
    dt, fires = metadata.get("dt"), metadata.get("threshold_op")
    if dt is not None and (not is_number(dt) or dt <= 0):
        raise DataError(
            f"{source}dt in the metadata of {label} is {short(dt)}, expected a finite number above 0 (the time step)"
        )
    if fires is not None and not (isinstance(fires, str) and fires == ">"):
        raise DataError(
            f"{source}threshold_op in the metadata of {label} is {short(fires)}: neurons here fire above their "
            "threshold ('>')"
        )


def check_integers(metadata: Mapping[str, Any], source: str, label: str) -> None:
    """Check the metadata of a quantised network: ``bits``, ``input_scale``, ``scale`` and ``integer_threshold``.

    Raises:
        DataError: naming the entry.
    """
    for key, least, most in (("bits", 2, 32), ("input_scale", 1, 2**31)):
        value = metadata.get(key)
        if value is not None and not (is_number(value) and value == int(value) and least <= value <= most):
            raise DataError(
                f"{source}{key} in the metadata of {label} is {short(value)}, expected a whole number from {least} "
                f"to {most}"
            )
    for key in ("scale", "integer_threshold"):
        value = metadata.get(key)
        if value is None:
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array).all() or array.min() <= 0:
            raise DataError(f"{source}{key} in the metadata of {label} is {short(value)}, expected numbers above 0")


def short(value: Any) -> str:
    """Format ``value`` for an error: one line of at most 60 characters."""
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray) else value).split())
    return text if len(text) <= 60 else text[:57] + "..."
