"""NIR files with a few bytes changed, and a reader that watches what becomes of them."""

from __future__ import annotations

import io

import h5py
import nir
import numpy as np
from nir_fields import NODES
from nir_graphs import chain, graph, lif

from hw_export import from_nir
from hw_export.nir import migrate, read_chain
from spikelfp.errors import UserError


def originals():
    """Some whole files, packed and not, as bytes."""
    conv = nir.Conv2d((6, 6), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    flat = nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1)
    dense, back = nir.Affine(np.ones((4, 5)), np.zeros(4)), nir.Linear(np.eye(4))
    small = graph((5,), (4,), *chain(dense, lif(4), feedback={1: back}))
    small.metadata = {"dt": 1e-4, "reset": "zero", "author": "someone"}
    last = nir.Affine(np.ones((3, 32)), np.zeros(3)), lif(3)
    large = graph((1, 6, 6), (3,), *chain(conv, lif((2, 4, 4)), flat, *last))
    nested = graph((4,), (4,), *chain(graph((4,), (4,), *chain(NODES["CubaLIF"][0])), nir.Scale(np.ones(4))))
    made = []
    for content in (small, large, nested):
        for compression in ("gzip", None):
            buffer = io.BytesIO()
            nir.write(buffer, content, compression=compression)
            made.append(buffer.getvalue())
    return made


def mutant(content, rng):
    """``content`` with bytes changed, cut off, doubled or overwritten by numbers that mean much to a format."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data)))
        how = rng.integers(6)
        if how == 0:
            data[at] = int(rng.integers(256))
        elif how == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif how == 2:
            width = int(rng.choice([2, 4, 8]))
            value = int(rng.choice([0, 1, 2**15, 2**31 - 1, 2**40, 2**63 - 1, 2**64 - 1])) % 2 ** (8 * width)
            data[at : at + width] = value.to_bytes(width, "little")
        elif how == 3:
            other, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
            data[at : at + length] = data[other : other + length]
        elif how == 4:
            del data[at : at + int(rng.integers(1, 16))]
        elif len(data) > 600:
            del data[int(rng.integers(500, len(data))) :]
        if not data:
            break
    return bytes(data)


def read(path):
    """What becomes of a file: the kind of each answer. Anything but a network or an error of one line is raised."""
    answers, texts = [], []
    for reader in (from_nir, lambda p: from_nir(p, migrate=True, dt=1e-4), migrate, lambda p: read_chain(p).neurons):
        try:
            reader(path)
            answers.append("read")
        except UserError as error:
            texts.append(str(error))
            answers.append("refused")
    assert not any("\n" in text for text in texts), texts
    return answers


def fill_value(path, shape=(1 << 20, 1 << 12), chunks=None):
    """A file of a few kilobytes whose weights claim to be of ``shape``, none of them stored."""
    nir.write(path, graph((5,), (4,), *chain(nir.Linear(np.ones((4, 5))))))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n0/weight"]
        file["node/nodes/n0"].create_dataset(
            "weight", shape, "f4", chunks=chunks or (1024, 1024), fillvalue=1.0, compression="gzip"
        )
