"""A NIR file as plain dictionaries, before nir checks anything: what can still be mended or explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nir

from hw_export.nir.schema import Document, checked, newer
from hw_export.nir.shapes import NEURONS, flattened_axes
from spikelfp.errors import DataError
from spikelfp.untrusted import check_size, open_hdf5

__all__ = ["Document", "build_graph", "copied", "read_document", "reason"]


def read_document(source: str | Path | nir.NIRGraph) -> Document:
    """Read the graph of a file, or a graph in memory (a copy), every field checked.

    Raises:
        DataError: for a file that is missing or no NIR file, and for a node or field that is missing, unknown or odd.
    """
    if isinstance(source, nir.NIRGraph):
        try:
            found = source.to_dict()
        except Exception as error:  # nodes that were taken apart by hand: whatever dataclasses make of them
            raise DataError(f"the NIR graph holds what is no node: {reason(error)}") from None
        return checked(found, "the NIR graph")
    path = Path(source)
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
        said = "has no type" if kind is None else f"holds a {kind.decode() if isinstance(kind, bytes) else kind}"
        raise DataError(f"{path} is not a readable NIR file: it {said}, no graph")
    return checked(document, str(path), version)


def build_graph(document: Document, source: str) -> nir.NIRGraph:
    """Make nir's objects of ``document``.

    Types are not checked: nir 1.0 gets the shapes of kernels that are not square and of grouped convolutions wrong, and
    :mod:`hw_export.nir.shapes` knows them all.

    Raises:
        DataError: naming the node whose parameters do not go together.
    """
    nodes = {name: _build(name, node, source) for name, node in document["nodes"].items()}
    return nir.NIRGraph(nodes, list(document["edges"]), metadata=dict(document["metadata"]), type_check=False)


def copied(document: Document) -> Document:
    """Copy a graph so that fields can be replaced; the arrays, which nobody writes into, are shared."""
    if "nodes" not in document:
        return dict(document)
    return dict(document) | {"nodes": {name: copied(node) for name, node in document["nodes"].items()}}


def reason(error: Exception) -> str:
    """The first line of an error, or its kind."""
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
    """Reads groups and values of a file that was checked as it was opened.

    What they take is counted once more, as the numbers of eight bytes that they become here.
    """

    def __init__(self, path: Path) -> None:
        self.source, self.packed, self.taken = str(path), path.stat().st_size, 0
        self.seen: set[Any] = set()

    def group(self, group: h5py.Group, names: tuple[str, ...]) -> Document:
        """The values of a group by name."""
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
        """A number, text, or an array of them."""
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
