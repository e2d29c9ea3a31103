"""Files of strangers: what reading one will take is known, and bounded, before it is made.

One rule for all formats: a file of ``n`` bytes may unpack to :func:`most` bytes, which is 256 MiB or 200 times ``n``,
whichever is more. Content that claims more is refused before anything is allocated for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import torch
import yaml

from spikelfp.errors import DataError

ALWAYS = 1 << 28
"""Bytes that any file may unpack to (256 MiB)."""

RATIO = 200
"""Times its own size that a larger one may: events shrink to a tenth, constant columns to a thousandth."""


def most(packed: int) -> int:
    """Return how many bytes a file of ``packed`` bytes may unpack to."""
    return max(ALWAYS, RATIO * packed)


def check_size(unpacked: int, packed: int, where: str) -> None:
    """Refuse content of ``unpacked`` bytes in a file of ``packed`` before it is unpacked.

    Raises:
        DataError: for more than :data:`RATIO` times the file and more than :data:`ALWAYS`.
    """
    if unpacked > most(packed):
        raise DataError(
            f"{where}: claims {unpacked} bytes of content in a file of {packed}: damaged, or made to fill the memory"
        )


def read_yaml(path: str | Path) -> Any:
    """Read the plain values of a YAML file."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None


@contextmanager
def open_hdf5(source: str | Path | BinaryIO) -> Iterator[h5py.File]:
    """Open an HDF5 file to read."""
    with h5py.File(source, "r", locking=False) as file:
        yield file


def load_tensors(path: str | Path) -> Any:
    """Load plain data and tensors that torch has written."""
    return torch.load(path, weights_only=True, map_location="cpu")


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Load the arrays of an ``.npz`` file by name."""
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
