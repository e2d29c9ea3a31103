"""Events in arrays, tables, HDF5 groups and MATLAB's files."""

from __future__ import annotations

import io

import event_writers as write
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings

from spikelfp.data.events import EVENT, Sensor
from spikelfp.data.events.readers import mat as mat_reader
from spikelfp.data.events.readers import read, read_bytes
from spikelfp.data.events.readers.base import check_room
from spikelfp.data.events.readers.mat import variables
from spikelfp.errors import DataError
from spikelfp.untrusted import bounds

EVENTS = [(5, 3, 1, 1), (5, 0, 2, 0), (9, 3, 0, 1)]
T, X, Y, P = (np.array(column) for column in zip(*EVENTS, strict=True))


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(packed=True, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def mat(**content):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content, do_compression=True)
    return buffer.getvalue()


def tuples(found):
    return found.events[["t", "x", "y", "p"]].tolist()


@settings(max_examples=25, deadline=None)
@given(write.event_lists(640, 480, 2**40))
def test_structured_arrays_in_any_order_and_by_other_names(events):
    ours = np.array(events, np.dtype([("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]))
    theirs = np.zeros(
        len(events), [("Polarity", "i1"), ("y", ">i4"), ("timestamp", ">u8"), ("other", "f4"), ("col", "f8")]
    )
    theirs["Polarity"] = np.where(ours["p"] == 1, 1, -1)
    theirs["y"], theirs["timestamp"], theirs["col"] = ours["y"], ours["t"], ours["x"]
    for array in (ours, theirs):
        for content, suffix in ((npy(array), ".npy"), (npz(events=array), ".npz"), (npz(whatever=array), ".npz")):
            found = read_bytes(content, suffix, "here")
            assert found.events.dtype == EVENT
            assert tuples(found) == events


@settings(max_examples=25, deadline=None)
@given(write.event_lists(640, 480, 2**40))
def test_plain_columns(events):
    plain = np.array(events)
    named = dict(zip(("ts", "x", "y", "pol"), plain.T, strict=True))
    lines = "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in events)
    for content, suffix in (
        (npy(plain), ".npy"),
        (npy(np.asfortranarray(plain)), ".npy"),
        (npz(events=plain, other=np.zeros(3)), ".npz"),
        (npz(packed=False, **named, height=np.array(480)), ".npz"),
        (lines.encode(), ".csv"),
        (lines.replace(",", "\t").encode(), ".txt"),
        (b"x;p;y;t\r\n" + "".join(f"{x};{p};{y};{t}\r\n" for t, x, y, p in events).encode(), ".csv"),
        (mat(TD={"x": plain[:, 1], "y": plain[:, 2], "p": plain[:, 3], "ts": plain[:, 0].astype(float)}), ".mat"),
        (mat(ts=plain[:, :1], x=plain[:, 1:2], y=plain[:, 2:3], pol=plain[:, 3:]), ".mat"),
    ):
        assert tuples(read_bytes(content, suffix, "here")) == events, suffix


def test_lines_of_channels():
    """Without y, one polarity is none; two are kept, and so they are for a sensor that has two."""
    columns = npz(t=T, x=X)
    assert read_bytes(columns, ".npz", "here").sensor == Sensor(4)
    ones = npz(t=T, x=X, p=np.ones(3))
    assert tuples(read_bytes(ones, ".npz", "here")) == [(5, 3, 0, 0), (5, 0, 0, 0), (9, 3, 0, 0)]
    assert tuples(read_bytes(ones, ".npz", "here", sensor=Sensor(9, 1, 2)))[0] == (5, 3, 0, 1)
    assert read_bytes(npz(t=T, x=X, p=P), ".npz", "here").sensor == Sensor(4, 1, 2)
    assert tuples(read_bytes(b"5 3\n7 1\n", ".txt", "here")) == [(5, 3, 0, 0), (7, 1, 0, 0)]


def test_seconds():
    """Only text and HDF5 have formats in seconds; in arrays a time with a fraction is a mistake."""
    found = read_bytes(b"# a comment\n0.003811000 33 39 1\n1.5 34 40 0\n", ".txt", "here")
    assert tuples(found) == [(3811, 33, 39, 1), (1_500_000, 34, 40, 0)]
    with pytest.raises(DataError, match=r"^here: event 1 has t = 0.5, expected a whole number; times are µs$"):
        read_bytes(npz(t=np.array([0, 0.5]), x=np.array([1, 2])), ".npz", "here")


def test_columns_by_place_must_rise_and_named_ones_may_be_a_little_out_of_order():
    disordered = np.array([(5, 3, 1, 1), (4, 0, 2, 0)])
    with pytest.raises(DataError, match=r"here: event 1, at byte 160, is of 4 µs, 1 µs behind an earlier one"):
        read_bytes(npy(disordered), ".npy", "here")
    with pytest.raises(DataError, match=r"here: event 1, in line 3, is of 4 µs, 1 µs behind an earlier one"):
        read_bytes(b"# t x y p\n5 3 1 1\n4 0 2 0\n", ".txt", "here")
    found = read_bytes(npz(t=disordered[:, 0], x=disordered[:, 1]), ".npz", "here")
    assert found.events["t"].tolist() == [4, 5]
    assert found.facts["disordered"] == 1
    with pytest.raises(
        DataError, match=r"event 1 is of 0 µs, 100001 µs behind an earlier one; at most 100000 µs of diso"
    ):
        read_bytes(npz(t=np.array([100_001, 0]), x=np.array([1, 2])), ".npz", "here")


def h5(path, group="events", **columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(f"{group}/{name}", data=values)
        return path


def test_hdf5_layouts(tmp_path):
    expected = [tuple(event) for event in EVENTS]
    dsec = h5(tmp_path / "dsec.h5", t=T.astype("u4"), x=X.astype("u2"), y=Y.astype("u2"), p=P.astype("u1"))
    with h5py.File(dsec, "a") as file:
        file["t_offset"] = 1000
    assert tuples(read(dsec)) == [(t + 1000, x, y, p) for t, x, y, p in expected]
    e2vid = h5(tmp_path / "e2vid.hdf5", ts=T * 1e-6, xs=X, x=X, y=Y, p=P.astype(bool))
    with h5py.File(e2vid, "a") as file:
        file.attrs["width"], file.attrs["height"] = 20, 10
    found = read(e2vid)
    assert (tuples(found), found.sensor) == (expected, Sensor(20, 10, 2))
    table = tmp_path / "metavision.h5"
    with h5py.File(table, "w") as file:
        rows = np.zeros(3, [("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")])
        rows["x"], rows["y"], rows["p"], rows["t"] = X, Y, P, T
        file.create_dataset("CD/events", data=rows, chunks=(2,), compression="gzip")
        file["CD"].attrs["geometry"] = "30x40"
    assert tuples(read(table)) == expected
    assert tuples(read(h5(tmp_path / "root.h5", group="/", t=T, x=X, y=Y, p=P))) == expected
    assert tuples(read_bytes(table.read_bytes(), ".h5", "here")) == expected
    with h5py.File(table):  # with a lock, by the same process
        assert tuples(read(table)) == expected


def test_hdf5_that_is_refused(tmp_path):
    with h5py.File(tmp_path / "much.h5", "w") as file:
        for name in "tx":
            file.create_dataset(f"events/{name}", shape=(10**12,), dtype="i8", chunks=(1024,))
    with pytest.raises(DataError, match=r"much\.h5: /events/t: claims 8000000000000 bytes of content in a file of \d+"):
        read(tmp_path / "much.h5")
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        for name in "tx":
            file.create_dataset(f"events/{name}", shape=(5,), maxshape=(None,), dtype="i8", chunks=(2**28,))
    with pytest.raises(DataError, match=r"chunk\.h5: /events/t, a chunk: claims 2147483648 bytes"):
        read(tmp_path / "chunk.h5")
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["events/x"] = X
        file.create_dataset("events/t", shape=(3,), dtype="i8", external=[("/etc/passwd", 0, 24)])
    with pytest.raises(DataError, match=r"elsewhere\.h5: /events/t keeps its content in other files"):
        read(tmp_path / "elsewhere.h5")
    with pytest.raises(
        DataError, match=r"shd\.h5: no columns t and x in any of events, CD/events, /; it holds \['spikes'\]"
    ):
        read(h5(tmp_path / "shd.h5", group="spikes", times=T, units=X))
    with pytest.raises(DataError, match=r"text\.h5: /events/x of object and shape \(3,\) is no column of numbers"):
        read(h5(tmp_path / "text.h5", t=T, x=["a", "b", "c"]))
    content = h5(tmp_path / "cut.h5", t=T, x=X).read_bytes()
    for cut in (3, 100, len(content) - 1):
        with pytest.raises(DataError, match=r"here: expected HDF5, found it mislabelled, truncated or damaged"):
            read_bytes(content[:cut], ".h5", "here")


def test_matlab():
    train = np.zeros((101, 4))
    train[[7, 93, 93, 0], [0, 1, 2, 3]] = [1, -1, 1, -1]
    train[-1] = [0.1, 0.1, 0.2, 0.3000004]
    found = read_bytes(mat(spiketrain=train), ".mat", "here")
    assert tuples(found) == [(100_000, 7, 0, 1), (100_000, 3, 9, 0), (200_000, 3, 9, 1), (300_000, 0, 0, 0)]
    assert found.sensor == Sensor(10, 10, 2)
    from_one = mat(TD={"x": X + 1, "y": Y + 1, "p": P + 1, "ts": T})
    assert tuples(read_bytes(from_one, ".mat", "here")) == EVENTS
    for content, text in (
        (mat(a=1), r"no variable or struct with t and x, nor 'spiketrain', among \['a'\]"),
        (mat(spiketrain=np.zeros((4, 3))), "here: holds no events"),
        (mat(t=T, x=np.ones((2, 2))), r"x is no vector of numbers but of shape \(2, 2\)"),
        (mat(t=T, x=X)[:-3], r"is truncated: the last whole variable ends at byte \d+ of"),
        (mat(t=T, x=X)[:-3].replace(b"\x00\x01IM", b"\x00\x02IM"), "expected a file of MATLAB 5"),
    ):
        with pytest.raises(DataError, match=text):
            read_bytes(content, ".mat", "here")


def test_variables_as_scipy_reads_them():
    content = {"a": np.arange(12.0).reshape(3, 4), "b": np.array([[1, 2]], "u1"), "c": np.float32([[1], [2]])}
    content["s"] = {"x": np.int16([[1, -2]]), "deep": {"y": np.array([[5.0]])}, "text": "abc"}
    content["t"], content["z"] = "a text", np.array([[1 + 2j]])
    for packed in (False, True):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, content, do_compression=packed)
        found = variables(buffer.getvalue(), "here")
        expected = scipy.io.loadmat(io.BytesIO(buffer.getvalue()))
        assert list(found) == list(content)
        for name in "abc":
            assert np.array_equal(found[name], expected[name])
        assert np.array_equal(found["s"]["x"], expected["s"]["x"][0, 0])
        assert found["s"]["deep"]["y"].tolist() == [[5.0]]
        assert found["s"]["text"] is found["t"] is found["z"] is None


def test_matlab_that_would_fill_the_memory(monkeypatch):
    content = mat(t=np.zeros(10**6), x=np.zeros(4))
    monkeypatch.setattr(bounds, "ALWAYS", 10_000)
    with pytest.raises(
        DataError, match=r"^here: the variable at byte 128 is damaged .made to fill the memory: 7826 bytes become more"
    ):
        read_bytes(content, ".mat", "here")


def test_matlab_that_is_larger_than_the_memory_that_is_free(monkeypatch):
    """The size of a compressed variable is not stated: it is unpacked piece by piece, as far as there is room."""
    content = mat(t=np.arange(10**5), x=np.zeros(10**5))
    monkeypatch.setattr("spikelfp.data.events.readers.mat.PIECE", 1000)
    assert len(read_bytes(content, ".mat", "here").events) == 10**5
    monkeypatch.setattr("spikelfp.data.events.readers.base.ALWAYS", 2000)
    monkeypatch.setattr("spikelfp.data.events.readers.base.available", lambda device: 2500)
    unpacked: list[int] = []
    monkeypatch.setattr(
        mat_reader, "check_room", lambda needed, what: (unpacked.append(needed), check_room(needed, what))
    )
    with pytest.raises(
        DataError, match=r"^here: its variables take up to 1 MiB of memory while they are read, and 1 MiB"
    ):
        read_bytes(content, ".mat", "here")
    assert unpacked == [2000, 4000]


def test_arrays_that_are_refused():
    wide = np.zeros((3, 3))
    for array, text in (
        (np.array([{}, 3], object), "holds pickled Python objects, which are not read"),
        (wide, r"expected fields t, x, y, p or columns \[M, 4\] in the order t, x, y, p"),
        (np.zeros((2, 2, 2)), r"an array of shape \(2, 2, 2\) is none of events"),
        (np.array(3.0), r"expected fields t, x, y, p|none of events"),
        (np.zeros((0, 4)), "holds no events"),
        (np.array(["a"]), "expected fields"),
        (np.array([(1, 2)], [("t", "i8"), ("z", "i8")]), r"no column x among \['t', 'z'\] \(may be called x: x, col"),
        (np.array([(1, 2, 3)], [("t", "i8"), ("ts", "i8"), ("x", "i8")]), "'t' and 'ts' may both be the t of events"),
        (np.array([(1, 2, 3, 7)]), "event 0, at byte 128, has p = 7, expected 0 and 1, or -1 and 1"),
        (np.array([(1, -2, 3, 1)]), "event 0, at byte 128, has x = -2, expected 0 to 65535"),
        (np.array([(1, 2, 70000, 1)]), "has y = 70000"),
        (np.array([(np.nan, 2, 3, 1)]), "has t = nan, expected a whole number; times are µs"),
        (np.array([(2**63 - 1, 2, 3, 1)]), "has t = 9223372036854775807, expected a whole number"),
        (np.array([(2**64 - 1, 2, 3, 1)], np.uint64), "has t = 18446744073709551615"),
        (np.array([(1e300, 2, 3, 1)]), r"has t = 1e\+300"),
        (np.array([("1", 2)], [("t", "U3"), ("x", "i8")]), "t is of type <U3, expected numbers"),
    ):
        with pytest.raises(DataError, match=f"^here: {text}" if not text.startswith("has") else text):
            read_bytes(npy(array), ".npy", "here")


def test_damaged_arrays():
    content = npy(np.array(EVENTS))
    with pytest.raises(
        DataError, match=r"is truncated: shape \(3, 4\) of 8 bytes each ends at byte 224 of 223, the last "
    ):
        read_bytes(content[:-1], ".npy", "here")
    huge = content.replace(b"(3, 4), }", b"(10**9,)}").replace(b"10**9,)}", b"99999999)}")
    assert huge != content
    for damaged in (b"\x89PNG\r\n\x1a\n" + bytes(50), content[:20], huge, content.replace(b"'<i8'", b"'<q9'")):
        with pytest.raises(DataError, match=r"^here: "):
            read_bytes(damaged, ".npy", "here")
    promise = content.replace(b"(3, 4), }" + b" " * 12, b"(1000000000000, 4), }"[:21])
    with pytest.raises(DataError, match=r"is truncated: shape \(1000000000000, 4\)"):
        read_bytes(promise, ".npy", "here")


def test_archives_that_are_refused(monkeypatch):
    bomb = npz(events=np.zeros((100_000, 4)))
    assert len(bomb) < 10_000
    with monkeypatch.context() as patch:
        patch.setattr(bounds, "ALWAYS", 1_000_000)
        with pytest.raises(DataError, match=r"^here: 'events.npy': claims 3200128 bytes of content in a file of \d+"):
            read_bytes(bomb, ".npz", "here")
    with pytest.raises(DataError, match=r"^here: expected an archive of NumPy arrays, found it damaged"):
        read_bytes(npz(t=T, x=X)[:-30], ".npz", "here")
    with pytest.raises(DataError, match=r"no array 'events', nor one each for t and x, among \['a', 'b'\]"):
        read_bytes(npz(a=T, b=X), ".npz", "here")
    with pytest.raises(DataError, match=r"expected columns \[M\] of one length, found shapes"):
        read_bytes(npz(t=T, x=X[:2]), ".npz", "here")
    with pytest.raises(DataError, match="holds pickled Python objects"):
        read_bytes(npz(events=np.array([{}], object)), ".npz", "here")


def test_text_that_is_refused():
    for content, text in (
        (b"1 2 3 1\n2 3 4\n", "line 2 has 3 values, expected 4: truncated or damaged"),
        (b"1 2 3 1\n2 x 4 1\n", "line 2 has 'x' in place of a number"),
        (b"1 2 3\n", "line 1 has 3 numbers, expected t, x, y, p or t, x"),
        (b"\xff\xfe\x00", "expected text, found byte 0 that is none"),
        (b"# only this\n\n", "holds no events"),
        (b"t,x,y,p\n", "holds no events"),
        (b"a,b,c\n1,2,3\n", r"no column t and x among \['a', 'b', 'c'\]"),
        (b"1 2 3 1\n99999999999999999999999 2 3 1\n", "at most 64 bits"),
        (b"1 2 3 5\n", "event 0, in line 1, has p = 5"),
    ):
        with pytest.raises(DataError, match=f"^here: .*{text}"):
            read_bytes(content, ".txt", "here")


def test_truth_values_are_no_columns():
    with pytest.raises(DataError, match="found bool of shape"):
        read_bytes(npy(np.ones((3, 4), bool)), ".npy", "a.npy")


def hdf5(**content):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in {"t": T, "x": X, "y": Y, "p": P, **content}.items():
            file[name] = values
    return buffer


@pytest.mark.parametrize(
    ("offset", "fault"), [(7.0, None), (7.5, "expected a whole number"), ([1, 2], "no number of µs")]
)
def test_the_offset_of_times_may_be_a_float(offset, fault):
    content = hdf5(t_offset=offset).getvalue()
    if fault is None:
        assert [event[0] for event in tuples(read_bytes(content, ".h5", "a.h5"))] == [12, 12, 16]
        return
    with pytest.raises(DataError, match=f"t_offset .*{fault}"):
        read_bytes(content, ".h5", "a.h5")


@pytest.mark.parametrize(("unit", "read_so"), [("us", True), ("µs", True), ("ns", False), ("s", False), ("ms", False)])
def test_a_stated_unit_of_times_is_heeded(unit, read_so):
    buffer = hdf5()
    with h5py.File(buffer, "r+") as file:
        file["t"].attrs["unit"] = unit
    if read_so:
        assert tuples(read_bytes(buffer.getvalue(), ".h5", "a.h5"))[0][0] == 5
        return
    with pytest.raises(DataError, match=f"t says unit = '{unit}'; times are µs"):
        read_bytes(buffer.getvalue(), ".h5", "a.h5")


def test_names_of_columns_with_blanks_are_told_whole():
    with pytest.raises(DataError, match=r"no column t among \['time \[ms\]', 'x', 'y', 'p'\]"):
        read_bytes(b"time [ms],x,y,p\n5,1,2,1\n", ".csv", "a.csv")
