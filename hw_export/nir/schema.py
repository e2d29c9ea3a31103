"""The fields of every kind of node: which there are, and what each may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nir
import numpy as np

from hw_export.nir.metadata import check_metadata, plain
from spikelfp.errors import DataError

Document = dict[str, Any]
"""A node: its ``type``, its parameters; a graph also ``nodes`` by name and ``edges`` as pairs of names."""

LARGEST = 2**31 - 1
"""Sizes, strides and the like are at most this."""

Check = Callable[[Any], Any]
"""Takes a value, returns it in the form used here, or raises ``ValueError`` with what is wrong with it."""


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
    """Make the check for the shape of a sample: sizes from ``least`` upwards, ``count`` of them."""

    def check(value: Any) -> np.ndarray:
        array = _whole(value)
        if array.ndim != 1 or count not in (None, array.size):
            wanted = "a list of sizes" if count is None else f"{count} sizes"
            raise ValueError(f"has shape {list(array.shape)}, expected {wanted}")
        return _within(array, least)

    return check


def whole(count: int, least: int, words: tuple[str, ...] = ()) -> Check:
    """Make the check for ``count`` whole numbers from ``least`` upwards (given once or each), or one of ``words``."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and words:
            if value not in words:
                raise ValueError(f"is {value!r}, expected numbers or one of {', '.join(map(repr, words))}")
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

OPTIONAL = frozenset({"input_shape", "input_type", "v_reset", "w_in"})
"""Fields that NIR lets a node leave out: what arrives, 0 and 1 are meant."""


def checked(document: Document, source: str, version: str = "") -> Document:
    """Check every node, field, edge and entry of metadata of a graph.

    Args:
        document: of a graph, as read; it is left as it is.
        source: what errors call the file.
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
        said = "has no type" if node.get("type") is None else "has a type that is no text"
        raise DataError(f"{source}: the node {name!r} {said}")
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
    _fill(made, checks)
    return made | {"metadata": _metadata(node, source, label)}


def _fill(node: Document, checks: Mapping[str, Check]) -> None:
    """Complete what a node may leave out; ``w_in`` may be one number for all."""
    if "v_reset" in checks and "v_reset" not in node:
        node["v_reset"] = np.zeros_like(node["v_threshold"])
    if "w_in" in checks:
        shape, given = node["r"].shape, np.asarray(node.get("w_in", 1.0))
        node["w_in"] = np.array(np.broadcast_to(given, shape)) if given.shape == () else given


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
    """Return ``value`` as text, ``None`` for what is no text (or not UTF-8)."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    try:
        return value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, str) else None
    except UnicodeDecodeError:
        return None


def newer(version: Any) -> str:
    """Say that a file is of a newer NIR than the one installed, for the end of an error; else nothing."""
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
