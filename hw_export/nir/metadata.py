"""Metadata of NIR graphs and nodes: what comes back from HDF5, and what goes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A value as read from HDF5 in Python's types: text comes back as bytes, numbers as numpy scalars, and
    dictionaries hold such. Arrays stay arrays."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return plain(value.item())
    return value.item() if isinstance(value, np.generic) else value


def in_order(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``parts``, later ones over earlier ones, by name: HDF5 gives them back in that order, so a file
    read and written again has the same bytes."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= {key: value for key, value in part.items() if value is not None}
    return {key: merged[key] for key in sorted(merged)}
