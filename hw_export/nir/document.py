"""A NIR file as plain dictionaries, before nir checks anything: what can still be mended or explained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from hw_export.nir.metadata import plain
from spikelfp.errors import DataError

Document = dict[str, Any]
"""A node: its ``type``, its parameters; a graph also ``nodes`` by name and ``edges`` as pairs of names."""


def read_document(source: str | Path | nir.NIRGraph) -> Document:
    """The graph of a file, or of a graph in memory (a copy). :class:`~spikelfp.errors.DataError` for a file that
    is missing or no NIR file."""
    if isinstance(source, nir.NIRGraph):
        return _normal(copy.deepcopy(source.to_dict()))
    path = Path(source)
    if not path.is_file():
        raise DataError(f"there is no NIR file at {path}")
    try:
        with h5py.File(path, "r") as file:
            document = _normal(_content(file["node"]))
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"{path} is not a readable NIR file: {reason(error)}") from None
    if document.get("type") != "NIRGraph":
        raise DataError(f"{path} is not a readable NIR file: it holds a {document.get('type')}, no graph")
    return document


def build_graph(document: Document, source: str, hint: str = "") -> nir.NIRGraph:
    """The nodes of ``document`` as nir's objects. Types are not checked: nir 1.0 gets the shapes of kernels that are
    not square and of grouped convolutions wrong, and :func:`~hw_export.nir.read.from_nir` checks every shape itself.
    """
    try:
        return nir.dict2NIRNode(_unchecked(document))
    except Exception as error:  # missing or odd parameters: whatever the constructors make of them
        raise DataError(f"{source} is not a readable NIR file: {reason(error)}{hint}") from None


def reason(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _content(group: h5py.Group) -> Document:
    found: Document = {}
    for key, item in group.items():
        found[str(key)] = _content(item) if isinstance(item, h5py.Group) else item[()]
    return found


def _normal(node: Document) -> Document:
    """Text as str, edges as pairs of str, tensors of other libraries as arrays; all the way down."""
    made: Document = {}
    for key, value in node.items():
        if key == "edges":
            made[key] = [(_text(a), _text(b)) for a, b in value]
        elif key == "nodes":
            made[key] = {name: _normal(inner) for name, inner in value.items()}
        elif key == "metadata":
            made[key] = plain(value)
        elif isinstance(value, (bytes, str)):
            made[key] = _text(value)
        elif value is None or isinstance(value, (dict, np.ndarray, np.generic, int, float)):
            made[key] = value
        else:
            made[key] = np.asarray(value)
    made.setdefault("metadata", {})
    return made


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _unchecked(node: Document) -> Document:
    made = dict(node)
    if made.get("type") == "NIRGraph":
        made["nodes"] = {name: _unchecked(inner) for name, inner in made["nodes"].items()}
        made["type_check"] = False
    return made
