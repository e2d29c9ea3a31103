"""The HDF5 file that lava-dl's ``netx.hdf5.Network`` reads.

``/layer/<index>`` for each block, its ``type`` as one byte string:

* ``input``: ``shape`` of the inputs, channels, height, width (netx turns it around, to width, height, channels).
* ``dense``: ``weight`` ``[out, in]``, ``bias`` ``[out]``, ``neuron``, ``shape``.
* ``conv``: ``weight`` ``[out, in / groups, height, width]``, ``stride``, ``padding``, ``dilation`` (height, width) and
  ``groups``. netx turns the kernel around and lava, which convolves where PyTorch correlates, turns it back: what is
  stored is PyTorch's kernel.
* ``flatten``: makes netx turn width, height, channels back to channels, height, width in front of ``dense``.

``neuron`` holds ``type`` ``CUBA``, ``iDecay`` 4096 (the current does not last), ``vDecay``, ``vThMant`` and
``refDelay`` 1. netx takes the bias for a mantissa with exponent 6, so it is in the unit of sums, and chooses the
exponents of weights itself.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikelfp.errors import DataError
from spikelfp.files import write_whole
from spikelfp.untrusted import open_hdf5

NO_CURRENT = 4096
"""The decay of a current that is gone after its step."""


def write_netx(path: Path, blocks: list[dict[str, Any]]) -> None:
    """Write blocks, each a mapping of what stands above, whole or not at all."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for index, block in enumerate(blocks):
            group = file.create_group(f"layer/{index}")
            for key, value in block.items():
                _put(group, key, value)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def read_netx(path: Path) -> list[dict[str, Any]]:
    """The blocks of a file; :class:`~spikelfp.errors.DataError` when it cannot be read."""
    if not path.is_file():
        raise DataError(f"there is no {path}")
    try:
        with open_hdf5(path) as file:
            layers = file["layer"]
            return [_get(layers[str(index)]) for index in range(len(layers))]
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise DataError(f"{path} is no readable netx file: {str(error).splitlines()[0]}") from None


def _put(group: Any, key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        inner = group.create_group(key)
        for name, entry in value.items():
            _put(inner, name, entry)
    elif isinstance(value, str):
        group.create_dataset(key, (1,), "S10", [value.encode("ascii")])
    else:
        group.create_dataset(key, data=np.asarray(value))


def _get(group: Any) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for key, entry in group.items():
        if isinstance(entry, h5py.Group):
            block[key] = _get(entry)
        else:
            value = entry[()]
            block[key] = value[0].decode("ascii") if value.dtype.kind == "S" else value
    return block
