"""One small file for each kind of node, and what can be wrong with a field of it."""

from __future__ import annotations

import copy
import io
from functools import cache

import h5py
import nir
import numpy as np

F = [np.full(4, value) for value in (1e-3, 1.0, 0.0, 0.1, 0.0)]
CONV1D = nir.Conv1d(5, np.ones((2, 1, 2)), 1, 0, 1, 1, np.zeros(2))
CONV2D = nir.Conv2d((5, 5), np.ones((2, 1, 2, 2)), 1, 0, 1, 1, np.zeros(2))
TWO = [np.array([2, 2]), np.array([2, 2]), np.array([0, 0])]

NODES = {
    "Affine": (nir.Affine(np.ones((4, 5)), np.zeros(4)), [5], [4]),
    "Linear": (nir.Linear(np.ones((4, 5))), [5], [4]),
    "Scale": (nir.Scale(np.ones(4)), [4], [4]),
    "Conv1d": (CONV1D, [1, 5], [2, 4]),
    "Conv2d": (CONV2D, [1, 5, 5], [2, 4, 4]),
    "SumPool2d": (nir.SumPool2d(*TWO), [1, 4, 4], [1, 2, 2]),
    "AvgPool2d": (nir.AvgPool2d(*TWO), [1, 4, 4], [1, 2, 2]),
    "Flatten": (nir.Flatten({"input": np.array([1, 4, 4])}, 0, -1), [1, 4, 4], [16]),
    "Delay": (nir.Delay(np.ones(4)), [4], [4]),
    "Threshold": (nir.Threshold(np.ones(4)), [4], [4]),
    "I": (nir.I(np.ones(4)), [4], [4]),
    "LI": (nir.LI(*F[:3]), [4], [4]),
    "IF": (nir.IF(F[1], F[3], F[4]), [4], [4]),
    "LIF": (nir.LIF(*F), [4], [4]),
    "CubaLI": (nir.CubaLI(F[0], *F[:3], w_in=F[1]), [4], [4]),
    "CubaLIF": (nir.CubaLIF(F[0], *F, w_in=F[1]), [4], [4]),
}
"""By kind, a node ``n`` and the shapes in front of it and behind it."""

NO_LAYER = ("Conv1d",)

STORED = {
    "group": {},
    "text": "fast",
    "bytes that are no text": np.bytes_(b"\xff\xfe"),
    "compound": np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "nothing": h5py.Empty("f8"),
}
"""What a file may hold in the place of numbers; the error names node and field."""

ODD = {
    "text": "fast",
    "bool": np.array([True, False]),
    "complex": np.array([1 + 1j]),
    "NaN": np.float64("nan"),
    "infinite": np.array([np.inf, 1.0]),
    "empty": np.zeros(0),
    "empty of whole numbers": np.zeros((0, 2), np.int64),
    "five axes": np.ones((1, 1, 1, 1, 1), np.int64),
    "texts": np.array([b"a", b"b"]),
    "objects": np.array([None, 1.0]),
}
"""Values that no field of numbers may hold; the error names node and field."""

DOUBTFUL = {
    "0-d": np.int64(1),
    "one": np.ones(1),
    "zero": np.int64(0),
    "negative": np.int64(-1),
    "negative numbers": -np.ones(4),
    "huge": np.int64(2**40),
    "huge numbers": np.full(4, 1e300),
    "tiny numbers": np.full(4, 1e-300),
    "seven": np.arange(1, 8),
    "a pair": np.array([3, 1]),
    "half floats": np.ones(4, np.float16),
    "floats where whole numbers are": np.array([2.0, 2.0]),
}
"""Values that some fields may hold: read, or refused in one line."""


def write(path, kind, edit=None):
    """Write a file with one node of ``kind``, changed by ``edit(group of the graph)``."""
    path.write_bytes(whole(kind))
    if edit is not None:
        with h5py.File(path, "r+") as file:
            edit(file["node"])


def changed(kind, name=None, field=None, value=None):
    """The graph in memory, with ``value`` in the place of a field."""
    node, shape, behind = NODES[kind]
    nodes = {"in": nir.Input(np.array(shape)), "n": copy.copy(node), "out": nir.Output(np.array(behind))}
    if name in ("in", "out"):
        setattr(
            nodes[name], *(("input_type", {"input": value}) if name == "in" else ("output_type", {"output": value}))
        )
    elif name is not None:
        setattr(nodes[name], field, {"input": value} if field == "input_type" else value)
    return nir.NIRGraph(nodes, [("in", "n"), ("n", "out")], type_check=False)


@cache
def whole(kind):
    """The file, as bytes."""
    made = io.BytesIO()
    nir.write(made, changed(kind), compression=None)
    return made.getvalue()


def put(where, value):
    """An edit that puts ``value`` at ``where``, or takes away what is there (``None``)."""

    def edit(node):
        if where in node:
            del node[where]
        if isinstance(value, dict):
            node.create_group(where)["x"] = 1
        elif value is not None:
            node[where] = value

    return edit
