"""Metadata of NIR graphs and nodes: what comes back from HDF5, and what goes there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from spikelfp.errors import DataError, UserError


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


def is_number(value: Any) -> bool:
    """Whether ``value`` is one finite real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_dt(value: Any) -> float:
    """Return a time step that was typed as a float.

    Raises:
        UserError: unless it is one finite number above 0.
    """
    number = plain(value)
    if not is_number(number) or number <= 0:
        raise UserError(f"the time step dt must be a finite number above 0, got {short(value)}")
    return float(number)


def check_metadata(metadata: Mapping[str, Any], source: str, label: str) -> None:
    """Refuse metadata that this package goes by and cannot: ``dt``, ``threshold_op``.

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
    """Refuse what a file of ours says of its integers, if it cannot be.

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
    """Return ``value`` as it is written in an error: one line, and not long."""
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray) else value).split())
    return text if len(text) <= 60 else text[:57] + "..."
