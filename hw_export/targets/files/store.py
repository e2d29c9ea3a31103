"""Files of arrays and of plain data, written whole or not at all and read back with clear errors."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.errors import DataError
from spikelfp.files import write_text, write_whole, yaml_text
from spikelfp.printable import first_line, plain
from spikelfp.untrusted import load_arrays, read_yaml


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """``arrays`` as an ``.npz`` file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file of :func:`write_arrays`.

    Raises:
        DataError: for a file that is missing or damaged, and arrays of anything but whole numbers.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}")
    try:
        arrays = load_arrays(path)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(f"{path} holds no readable arrays: {first_line(error)}") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "biu" or not array.dtype.isnative:
            raise DataError(f"{path} is damaged: {plain(name)} is of {array.dtype}, expected whole numbers")
    return arrays


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Plain data as YAML."""
    write_text(path, yaml_text(dict(facts)))


def read_facts(path: Path) -> dict[str, Any]:
    """Read the plain data of a YAML file.

    Raises:
        DataError: for any other file.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}")
    facts = read_yaml(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path} holds no facts by name")
    return facts
