"""The shape that comes out of a node, from its parameters and the shape that goes in; time and batch not counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hw_export.nir.schema import Document
from spikelfp.errors import DataError

Shape = tuple[int, ...]

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
"""Nodes that treat every element by itself, and the parameters that have its shape."""


MOST = 2**28
"""Values of one sample at one step that any node may give; more is a mistake, or made to fill the memory."""


def passed(name: str, node: Document, shape: Shape) -> Shape:
    """Carry ``shape`` through a node, after a check against what the node says it takes.

    Raises:
        DataError: where parameters, an ``input_shape`` or an ``input_type`` are of another shape than what arrives, and
            for more than :data:`MOST` values.
    """
    kind = str(node["type"])
    if kind in NEURONS:
        own = np.asarray(node[NEURONS[kind][-1]]).shape
        if own != shape:
            raise DataError(
                f"the parameters of the {kind} {name!r} have shape {list(own)}, an input of {list(shape)} arrives "
                f"there ({', '.join(NEURONS[kind])})"
            )
    said, arrives = {
        "Conv1d": (node.get("input_shape"), shape[1:]),
        "Conv2d": (node.get("input_shape"), shape[1:]),
        "Flatten": (node.get("input_type"), shape),
    }.get(kind, (None, shape))
    if said is not None and not np.array_equal(np.atleast_1d(said), arrives):
        raise DataError(f"{name!r} is made for an input of {np.asarray(said).tolist()}, {list(arrives)} arrives there")
    made = output_shape(name, node, shape)
    if math.prod(made) > MOST:
        raise DataError(f"the {kind} {name!r} gives {list(made)} values a step, more than is read here")
    return made


def fields(node: Any) -> Document:
    """The fields of one of nir's nodes, as they are in a file."""
    found = {"type": type(node).__name__, **vars(node)}
    if isinstance(found.get("input_type"), dict):
        found["input_type"] = found["input_type"].get("input")
    return found


def output_shape(name: str, node: Document, shape: Shape) -> Shape:
    """What ``node`` makes of an input of ``shape``; :class:`~spikelfp.errors.DataError` if it does not take it."""
    kind = str(node["type"])
    if kind in NEURONS or kind in ("Input", "Output"):
        return shape
    try:
        made = _SHAPES[kind](node, shape)
    except KeyError:
        raise DataError(f"{name!r} is a {kind}, whose shape is not known here") from None
    except (ValueError, IndexError):
        made = None
    if made is None or min(made, default=1) < 1:
        raise DataError(f"the {kind} {name!r} does not take an input of {list(shape)}")
    return made


def flattened_axes(node: Document, shape: Shape) -> tuple[int, int]:
    """First and last axis of ``shape`` that a Flatten joins, counted from 0."""
    start, end = (int(node[key]) for key in ("start_dim", "end_dim"))
    axes = len(shape)
    start, end = (axis + axes if axis < 0 else axis for axis in (start, end))
    if not 0 <= start <= end < axes:
        raise ValueError("axes out of range")
    return start, end


def pair(value: Any) -> tuple[int, int]:
    """A parameter of two axes, given once or twice."""
    first, second = np.broadcast_to(np.asarray(value), 2)
    return int(first), int(second)


def _affine(node: Document, shape: Shape) -> Shape | None:
    rows, columns = node["weight"].shape
    return (*shape[:-1], rows) if shape[-1] == columns else None


def _conv(axes: int) -> Callable[[Document, Shape], Shape | None]:
    def out(node: Document, shape: Shape) -> Shape | None:
        channels, inputs, *kernel = node["weight"].shape
        if len(shape) != axes + 1 or len(kernel) != axes or shape[0] != inputs * int(node["groups"]):
            return None
        if str(node["padding"]) == "same":
            return (channels, *shape[1:])
        padding = 0 if str(node["padding"]) == "valid" else node["padding"]
        return (channels, *_windows(shape[1:], kernel, node["stride"], padding, node["dilation"]))

    return out


def _pool(node: Document, shape: Shape) -> Shape | None:
    if len(shape) != 3:
        return None
    kernel, padding = pair(node["kernel_size"]), pair(node["padding"])
    if any(2 * border > width for border, width in zip(padding, kernel, strict=True)):
        return None  # a window could lie in the border alone, which torch does not pool
    return (shape[0], *_windows(shape[1:], kernel, node["stride"], padding, 1))


def _windows(sizes: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> Shape:
    axes = len(sizes)
    steps, borders, gaps = (np.broadcast_to(np.asarray(v), axes) for v in (stride, padding, dilation))
    return tuple(
        int(size + 2 * border - gap * (width - 1) - 1) // int(step) + 1
        for size, width, step, border, gap in zip(sizes, kernel, steps, borders, gaps, strict=True)
    )


def _flatten(node: Document, shape: Shape) -> Shape:
    start, end = flattened_axes(node, shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


_SHAPES: dict[str, Callable[[Document, Shape], Shape | None]] = {
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
}
