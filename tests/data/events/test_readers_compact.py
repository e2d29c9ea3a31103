"""Columns in blocks: the same events as of whole columns, in little memory."""

import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelfp.data.events.readers import compact, read
from spikelfp.data.events.readers.base import BYTES_WHILE_READ
from spikelfp.errors import DataError

KINDS = ("?", "i1", "u1", "i2", "u2", ">u2", "i4", "u4", "i8", "u8", "f4", "f8", ">f8")
EDGES = (0, 1, -1, 2, 127, 128, 255, 256, -129, 65535, 65536, 2**31, 2**53 + 1, 2**63, 0.5, np.nan, np.inf)


@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from(EDGES), max_size=12),
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_values_stay_as_they_are(kind, content, block, together):
    with np.errstate(all="ignore"):
        values = np.array(content, "f8").astype(kind)
    column, before = compact.Column(len(values), values.dtype), compact.BLOCK
    try:
        compact.BLOCK = block
        parts = list(compact.blocks(len(values), together))
    finally:
        compact.BLOCK = before
    assert [index for part in parts for index in range(len(values))[part]] == list(range(len(values)))
    assert all(part.start % (together or 1) == 0 for part in parts)
    for part in parts:
        column.add(values[part])
    found = column.values()
    assert list(map(repr, found.astype(object))) == list(map(repr, values.astype(object))) or (
        found.dtype != values.dtype and found.astype(object).tolist() == values.astype(object).tolist()
    )
    assert found.dtype.itemsize <= values.dtype.itemsize


def test_columns_take_what_they_need():
    for content, kind in (([0, 1], "u1"), ([-1, 1], "i2"), ([0, 640], "u2"), ([0.0, 640.0], "u2"), ([0.5, 1], "f8")):
        assert compact.compact(np.array(content)).dtype == kind


def content(events):
    """Columns of 64 bits, in order of time but for a last event."""
    number = np.arange(events)
    return {"t": number * 3, "x": number % 640, "y": number % 480, "p": number % 2}


@pytest.mark.parametrize("layout", ["columns", "table", "turned", "fields", "floats", "mat", "npz"])
@pytest.mark.parametrize("disorder", [False, True])
def test_events_are_the_same_in_little_memory(layout, disorder, tmp_path):
    events = 300_000
    columns = content(events)
    if disorder and layout not in ("table", "turned"):  # without names they must be in order
        columns["t"][7::2] -= 7
    path = tmp_path / ("x.npz" if layout == "npz" else "x.h5")
    if layout == "npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            if layout == "fields":
                table = np.zeros(events, [(name, "i8") for name in columns])
                for name, column in columns.items():
                    table[name] = column
                file.create_dataset("CD/events", data=table, chunks=(5000,))
            elif layout in ("table", "turned"):
                table = np.stack([columns[name] for name in "xytp"], 0 if layout == "turned" else 1)
                file.create_dataset("events", data=table, chunks=(4, 5000) if layout == "turned" else (5000, 4))
            else:
                for name, column in columns.items():
                    if layout == "floats":
                        column = column * 1e-6 if name == "t" else column.astype(float)
                    file.create_dataset(f"events/{name}", data=column, chunks=(5000,), compression="gzip")
    if layout == "mat":
        path = tmp_path / "x.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, column in columns.items():
                file.create_dataset(f"TD/{name}", data=column[None].astype(float), chunks=(1, 5000))
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    read(path)  # what is imported and kept on the first time
    tracemalloc.start()
    try:
        found = read(path).events
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    order = np.argsort(columns["t"], kind="stable")
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column[order])
    beside = path.stat().st_size if layout in ("npz", "mat") else 0  # read as a whole
    assert (peak - beside - 80 * 5000) / events < BYTES_WHILE_READ


@pytest.mark.parametrize("field", "txyp")
def test_a_fault_in_a_later_block_is_found_in_its_place(field, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "BLOCK", 64)
    columns = {name: column.astype(float) for name, column in content(500).items()}
    columns[field][300] = 0.5 if field != "t" else np.nan
    np.savez(tmp_path / "x.npz", **columns)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.update({f"events/{name}": column for name, column in columns.items()})
    for name in ("x.npz", "x.h5"):
        with pytest.raises(DataError, match=rf"{name}: event 300 has {field} = (0\.5|nan), expected a whole number"):
            read(tmp_path / name)


def test_seconds_and_signs_are_of_the_whole_column(tmp_path, monkeypatch):
    """Blocks without a fraction, or without a -1, are read as the others."""
    monkeypatch.setattr(compact, "BLOCK", 2)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.update({"events/t": np.array([0.0, 1, 1.5, 2, 2, 3]), "events/x": np.arange(6)})
        file["events/p"] = np.array([1, 1, -1, 1, -1, 1])
    found = read(tmp_path / "x.h5").events
    assert found["t"].tolist() == [0, 10**6, 1_500_000, 2 * 10**6, 2 * 10**6, 3 * 10**6]
    assert found["p"].tolist() == [1, 1, 0, 1, 0, 1]
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.update({"events/t": np.arange(4), "events/x": np.arange(4), "events/p": np.array([0, 1, -1, 1])})
    with pytest.raises(DataError, match=r"event 0 has p = 0, expected 0 and 1, or -1 and 1"):
        read(tmp_path / "y.h5")
