"""NIR files made by no friend: damaged ones, and small ones that claim to be large."""

from __future__ import annotations

import tracemalloc

import h5py
import nir
import numpy as np
import pytest
from nir_fields import put, write
from nir_graphs import chain, graph
from nir_mutants import fill_value, mutant, originals, read

from hw_export import from_nir
from hw_export.nir import migrate, read_chain
from spikelfp.errors import DataError

READERS = [from_nir, migrate, read_chain]


def test_damaged_files_are_read_or_refused_in_a_line(tmp_path):
    rng, path, seen = np.random.default_rng(14), tmp_path / "a.nir", set()
    contents = originals()
    for content in contents:
        path.write_bytes(content)
        assert read(path)[0] == "read"
    for number in range(60):
        path.write_bytes(mutant(contents[number % len(contents)], rng))
        seen |= set(read(path))
    assert seen == {"read", "refused"}


def refused_small(path, reader):
    """The error of ``reader``, after a check that it took little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as refused:
            reader(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_small_file_of_large_weights_is_refused_before_they_are_made(tmp_path, reader):
    path = tmp_path / "a.nir"
    fill_value(path)
    assert path.stat().st_size < 100_000
    assert "weight" in refused_small(path, reader)
    fill_value(path, (8, 8), chunks=(1, 8))  # as small as it says
    many = {f"x{i}": 1 for i in range(40)}
    with h5py.File(path, "r+") as file:
        for name in many:  # each small enough, together too many
            file["node/nodes/n0"].create_dataset(name, (1 << 20,), "i1", chunks=(1024,), fillvalue=1)
    refused_small(path, reader)


@pytest.mark.parametrize("reader", READERS)
def test_pieces_larger_than_what_they_hold_are_refused(tmp_path, reader):
    """One value in a chunk of two gigabytes: all of it would be unpacked."""
    path = tmp_path / "a.nir"
    write(path, "LIF")
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n/tau"]
        file["node/nodes/n"].create_dataset("tau", (4,), "f8", chunks=(1 << 28,), maxshape=(None,), compression="gzip")
    assert "tau" in refused_small(path, reader)


@pytest.mark.parametrize("reader", READERS)
def test_one_long_text_that_stands_in_many_places_is_refused(tmp_path, reader):
    path = tmp_path / "a.nir"
    write(path, "LIF", put("edges", None))
    with h5py.File(path, "r+") as file:
        file["node"].create_dataset(
            "edges", (10**6, 2), h5py.string_dtype(), chunks=(4096, 2), compression="gzip", fillvalue="long" * 100
        )
    assert "edges" in refused_small(path, reader)


def heap(content, place, value):
    """``content`` with ``value`` in 8 bytes at ``place`` behind the start of its heap of texts."""
    at = content.index(b"GCOL\x01") + place
    return content[:at] + value.to_bytes(8, "little") + content[at + 8 :]


@pytest.mark.parametrize("reader", READERS)
def test_damaged_texts_neither_hang_nor_fill_the_memory(tmp_path, reader):
    path = tmp_path / "a.nir"
    write(path, "LIF")
    whole = path.read_bytes()
    for place, value in ((16, 0), (24, 0), (24, 2**64 - 16), (24, 2**40)):  # index and size of the first text
        path.write_bytes(heap(heap(whole, 16, 0), place, value) if place == 24 else heap(whole, place, value))
        refused_small(path, reader)
    with h5py.File(path.with_name("b.nir"), "w") as file:
        file.create_group("node")["type"] = "NIRGraph"
        place = file["node/type"].id.get_offset()
    content = bytearray(path.with_name("b.nir").read_bytes())
    content[place : place + 4] = b"\xff" * 4  # a text of four gigabytes
    path.write_bytes(content)
    assert "type" in refused_small(path, reader)
    assert "claims 4294967295 bytes" in refused_small(path, reader)


@pytest.mark.parametrize("reader", READERS)
def test_groups_within_groups_end_somewhere(tmp_path, reader):
    path = tmp_path / "a.nir"
    write(path, "LIF")
    with h5py.File(path, "r+") as file:
        group = file["node/nodes"]
        for _ in range(100):
            group = group.create_group("g")
    assert "groups lie more than" in refused_small(path, reader)
    write(path, "LIF")
    with h5py.File(path, "r+") as file:  # groups that stand in two places: ways down double with each
        group = file["node/nodes"]
        for depth in range(4):
            inner = group.create_group(f"a{depth}")
            group[f"b{depth}"] = inner
            group = inner
    assert "two places" in refused_small(path, reader)


@pytest.mark.parametrize("reader", READERS)
def test_values_in_other_files_are_not_read(tmp_path, reader):
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones(4).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["tau"] = np.full(4, 1e-3)
    for how in ("external", "virtual", "link"):
        path = tmp_path / f"{how}.nir"
        write(path, "LIF", put("nodes/n/tau", None))
        with h5py.File(path, "r+") as file:
            node = file["node/nodes/n"]
            if how == "external":
                node.create_dataset("tau", (4,), "f8", external=[(str(secret), 0, 32)])
            elif how == "virtual":
                layout = h5py.VirtualLayout((4,), "f8")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "tau", (4,))
                node.create_virtual_dataset("tau", layout)
            else:
                node["tau"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "tau")
        refused_small(path, reader)


@pytest.mark.parametrize("reader", READERS)
def test_shapes_that_are_only_claimed_take_no_memory(tmp_path, reader):
    """A sum over one window the size of an image that nobody could hold."""
    path = tmp_path / "a.nir"
    size = np.array([60_000, 60_000])
    pool = nir.SumPool2d(size, size, np.zeros(2, np.int64))
    nir.write(path, graph((1, 60_000, 60_000), (1, 1, 1), *chain(pool)))
    if reader is not migrate:
        assert "more values a step than are read here" in refused_small(path, reader)
    else:
        tracemalloc.start()
        reader(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
        tracemalloc.stop()
