"""Files of arrays and of plain data, written whole or not at all and read back with clear errors."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spikelfp.errors import DataError
from spikelfp.files import write_text, write_whole
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
    """The arrays of a file of :func:`write_arrays`; :class:`~spikelfp.errors.DataError` when it has none."""
    _check_there(path)
    return load_arrays(path)


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Plain data as YAML."""
    write_text(path, yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True))


def read_facts(path: Path) -> dict[str, Any]:
    """The plain data of a YAML file; :class:`~spikelfp.errors.DataError` for any other file."""
    _check_there(path)
    facts = read_yaml(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path} holds no facts by name")
    return facts


def _check_there(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is no {path}")
