"""Published layouts of HDF5, MATLAB, archives and text: the same events out of each, or refused for the true reason."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from spikelfp.data.events import FileLayout, Sensor
from spikelfp.data.events.readers import read, read_bytes
from spikelfp.data.events.readers.tables import GREY_LEVELS
from spikelfp.data.events.tally import tallied, told
from spikelfp.errors import DataError, UserError

RANDOM = np.random.default_rng(5)
M = 300
T = np.sort(RANDOM.integers(3_000, 90_000, M))
X, Y, P = RANDOM.integers(0, 240, M), RANDOM.integers(0, 180, M), RANDOM.integers(0, 2, M)
X[:2], Y[:2] = (0, 239), (0, 179)
EVENTS = np.stack([T, X, Y, P], axis=1).tolist()
SIGNED = np.where(P == 1, 1, -1)
CAMERA = Sensor(240, 180, 2)


def rows(found):
    return [list(event) for event in found.events[["t", "x", "y", "p"]].tolist()]


def hdf5(path, attributes=(), **content):
    """A file with data sets by their paths, ``__`` in place of slashes."""
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name.replace("__", "/")] = values
        for name, value in dict(attributes).items():
            file.attrs[name] = value
    return path


COMPOUND = np.zeros(M, [("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")])
COMPOUND["x"], COMPOUND["y"], COMPOUND["p"], COMPOUND["t"] = X, Y, P, T
TRIGGERS = np.zeros(3, [("p", "i2"), ("t", "i8"), ("id", "i2")])
MVSEC = np.stack([X, Y, T * 1e-6, SIGNED], axis=1)
V2E = np.stack([T, X, Y, P], axis=1).astype("u4")
PLURAL = {"events__xs": X, "events__ys": Y, "events__ts": T * 1e-6, "events__ps": P.astype("i1")}
SINGULAR = {"events__x": X, "events__y": Y, "events__t": T, "events__p": P}
HDF5 = {
    "E2VID": (PLURAL, {}, "events", None),
    "event_utils": ({**PLURAL, "images__image0": np.zeros((2, 2))}, {"sensor_resolution": (180, 240)}, "events",
                    CAMERA),
    "DSEC": ({**SINGULAR, "ms_to_idx": np.arange(5), "t_offset": np.int64(0)}, {}, "events", None),
    "RVT, eTraM": ({**SINGULAR, "events__width": 240, "events__height": 180}, {}, "events", CAMERA),
    "v2e": ({"events": V2E, "frame": np.zeros((3, 4, 4), "u1"), "frame_ts": np.zeros(3)}, {}, "events", None),
    "v2e, columns first": ({"events": V2E.T}, {}, "events", None),
    "MVSEC": ({"davis__left__events": MVSEC, "davis__left__imu": np.zeros((9, 6)), "davis__right__events": MVSEC[:9]},
              {}, "davis/left/events", None),
    "event-vision-library": ({"raw_events__x": X, "raw_events__y": Y, "raw_events__t": T * 1e-6,
                              "raw_events__p": P.astype(bool)}, {}, "raw_events", None),
    "Metavision": ({"CD__events": COMPOUND, "EXT_TRIGGER__events": TRIGGERS}, {"geometry": "240x180"}, "CD/events",
                   CAMERA),
    "a group of one's own": ({"day__camera__x": X, "day__camera__y": Y, "day__camera__t": T, "day__camera__p": P}, {},
                             "day/camera", None),
}  # fmt: skip


@pytest.mark.parametrize("layout", HDF5)
def test_hdf5(layout, tmp_path):
    content, attributes, table, sensor = HDF5[layout]
    found = read(hdf5(tmp_path / "x.h5", attributes, **content))
    assert rows(found) == EVENTS
    assert found.facts["table"] == table
    assert (found.sensor, found.named) == (sensor or CAMERA, sensor is not None)
    assert found.facts.get("other_tables") == (("davis/right/events",) if layout == "MVSEC" else None)


def test_what_was_chosen_is_told(tmp_path):
    stereo = hdf5(tmp_path / "stereo.h5", davis__left__events=MVSEC, davis__right__events=MVSEC[:9])
    (tmp_path / "a.mat").write_bytes(mat(TD=struct()))
    with tallied() as tally:
        read(stereo)
        read(tmp_path / "a.mat")
    place = tmp_path.name
    assert told(tally) == [
        f"1 further table of events in a file was left out (--table chooses): {place}/stereo.h5",
        "300 events in columns of another order than t, x, y, p were read by their content (--columns states it): "
        f"{place}/stereo.h5",
        f"300 events whose columns and rows count from 1 were moved by one (--first-pixel states it): {place}/a.mat",
    ]


def test_hdf5_tables_are_stated(tmp_path):
    stereo = hdf5(tmp_path / "stereo.h5", davis__left__events=MVSEC, davis__right__events=MVSEC[:9])
    for name in ("davis/right/events", "/davis/right/events", "right/events"):
        assert len(read(stereo, layout=FileLayout(table=name)).events) == 9
    with pytest.raises(
        DataError, match=r"no table 'none' of events; choose from 'davis/left/events', 'davis/right/events'"
    ):
        read(stereo, layout=FileLayout(table="none"))
    with pytest.raises(DataError, match=r"no table 'events' of events; choose from"):
        read(stereo, layout=FileLayout(table="events"))
    two = hdf5(tmp_path / "two.h5", a__x=X, a__t=T, b__x=X, b__t=T)
    with pytest.raises(
        DataError, match=r"'a', 'b' may each hold the events; choose one with --table, such as --table a"
    ):
        read(two)
    assert read(two, layout=FileLayout(table="b")).facts["other_tables"] == ("a",)


def test_hdf5_links_are_followed_within_the_file(tmp_path):
    path = hdf5(tmp_path / "links.h5", data__x=X, data__y=Y, data__t=T, data__p=P)
    with h5py.File(path, "a") as file:
        file["events"] = h5py.SoftLink("/data")
        file["loop"], file["nothing"] = h5py.SoftLink("/loop"), h5py.SoftLink("/absent")
    assert rows(read(path)) == EVENTS
    hdf5(tmp_path / "other.h5", x=X, t=T)
    with h5py.File(path, "w") as file:
        file["events"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(DataError, match="no columns t and x"):
        read(path)
    with pytest.raises(DataError, match="'events' is a link to another file, which is not followed"):
        read(path, layout=FileLayout(table="events"))
    with h5py.File(path, "w") as file:  # a group within itself
        file["again/events"], file["again/t"], file["again/x"] = h5py.SoftLink("/"), T, X
    assert read(path).facts["table"] == "again"


def test_metavision_ecf_says_what_is_missing(tmp_path):
    """The filter of an HDF5 file that nobody can read here: neither h5py nor hdf5plugin has it."""
    with h5py.File(tmp_path / "ecf.h5", "w") as file:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((64,))
        settings.set_filter(36559, h5py.h5z.FLAG_OPTIONAL, ())
        kind, space = h5py.h5t.py_create(COMPOUND.dtype), h5py.h5s.create_simple((64,))
        h5py.h5d.create(file.create_group("CD").id, b"events", kind, space, settings).write_direct_chunk(
            (0,), bytes(99)
        )
    with pytest.raises(
        DataError, match=r"is compressed by Metavision's ECF \(filter 36559\), which hdf5plugin does not"
    ):
        read(tmp_path / "ecf.h5")


def test_a_filter_of_a_plug_in_is_named(tmp_path):
    """DSEC is compressed by Blosc, which hdf5plugin has; without its settings the plug-in would end the process."""
    for values in ((2, 2, 8), (2, 2, 8, 8 * M, 5, 1, 0)):
        with h5py.File(tmp_path / "dsec.h5", "w") as file:
            for name, column in SINGULAR.items():
                settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                settings.set_chunk((M,))
                settings.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, values)
                kind, space = h5py.h5t.py_create(column.dtype), h5py.h5s.create_simple((M,))
                group = file.require_group("events")
                h5py.h5d.create(group.id, name[-1].encode(), kind, space, settings).write_direct_chunk((0,), bytes(99))
        if len(values) < 4 and not h5py.h5z.filter_avail(32001):  # which would write them
            said = "compressed by Blosc without its settings: damaged"
        elif importlib.util.find_spec("hdf5plugin"):
            said = r"dsec\.h5: .*damaged"
        else:
            said = r"is compressed with the filter 32001 .*; pip install hdf5plugin"
        with pytest.raises(DataError, match=said):
            read(tmp_path / "dsec.h5")


def test_blosc_is_read_where_its_plug_in_is_installed(tmp_path):
    """In a process of its own, which has not loaded the plug-in: the reader does, when a column needs it."""
    plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "dsec.h5", "w") as file:
        for name, column in SINGULAR.items():
            file.create_dataset(name.replace("__", "/"), data=column, chunks=(64,), **plugin.Blosc(cname="zstd"))
        file["t_offset"] = np.int64(1000)
    code = (
        "import sys, json; from spikelfp.data.events.readers import read; assert 'hdf5plugin' not in sys.modules; "
        "print(json.dumps(read(sys.argv[1]).events[['t', 'x', 'y', 'p']].tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "dsec.h5"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[t + 1000, x, y, p] for t, x, y, p in EVENTS]


def mat(**content):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


def mat73(path, struct, from_one=1, polarity=P + 1):
    """MATLAB 7.3 with a struct ``TD`` or with variables: matrices of one row in an HDF5 file behind 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        place = file.create_group("TD") if struct else file
        for name, values in {"x": X + from_one, "y": Y + from_one, "ts": T, "p": polarity}.items():
            place[name] = values.astype(float)[None]
            place[name].attrs["MATLAB_class"] = np.bytes_("double")
        if struct:
            place.attrs["MATLAB_class"] = np.bytes_("struct")
            names = np.empty(4, object)
            names[:] = [np.array([letter.encode() for letter in name], "S1") for name in ("x", "y", "ts", "p")]
            place.attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype("S1"))
        file.create_group("#refs#")
    content = path.read_bytes()
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: today".ljust(116) + bytes(8) + b"\x00\x02IM"
    path.write_bytes(head.ljust(512, b"\0") + content[512:])
    return path


@pytest.mark.parametrize("struct", [True, False])
def test_matlab_73(struct, tmp_path):
    found = read(mat73(tmp_path / "x.mat", struct))
    assert rows(found) == EVENTS
    assert found.facts["format"] == "MATLAB 7.3"
    assert found.facts["first_pixel"] == 1
    found = read(mat73(tmp_path / "y.mat", struct, from_one=0, polarity=P))
    assert (rows(found), found.facts["first_pixel"]) == (EVENTS, 0)


def struct(first=1, p=P, events=M):
    return {"x": X[:events] + first, "y": Y[:events] + first, "p": p[:events], "ts": T[:events]}


def test_matlab_counts_from_one_also_with_polarities_from_zero():
    for p in (P, P + 1, SIGNED):
        found = read_bytes(mat(TD=struct(p=p)), ".mat", "here")
        assert (rows(found), found.facts["first_pixel"]) == (EVENTS, 1)
    found = read_bytes(mat(TD=struct(first=0)), ".mat", "here")
    assert (rows(found), found.facts["first_pixel"]) == (EVENTS, 0)
    short = mat(TD=struct(events=2))  # both ends of the sensor, but too few events
    assert read_bytes(short, ".mat", "here").facts["first_pixel"] == 1
    inside = {name: values[2:5] + (name != "p") for name, values in struct().items()}
    assert read_bytes(mat(TD=inside), ".mat", "here").facts["first_pixel"] == 0
    one = read_bytes(mat(TD=inside), ".mat", "here", layout=FileLayout(first_pixel=1))
    assert one.events["x"].tolist() == (inside["x"] - 1).tolist()
    zero = read_bytes(mat(TD=struct()), ".mat", "here", layout=FileLayout(first_pixel=0))
    assert zero.events["x"].tolist() == (X + 1).tolist()


def test_matlab_grey_levels_are_no_events():
    """An ATIS writes changes (TD) and grey levels (EM) with the same fields."""
    grey = {"x": X[:9] + 1, "y": Y[:9] + 1, "p": P[:9], "ts": T[:9]}
    assert "em" in GREY_LEVELS
    assert rows(read_bytes(mat(EM=grey, TD=struct()), ".mat", "here")) == EVENTS
    assert rows(read_bytes(mat(EM=grey, changes=struct()), ".mat", "here")) == EVENTS
    assert rows(read_bytes(mat(recording={"EM": grey, "TD": struct()}), ".mat", "here")) == EVENTS
    assert len(read_bytes(mat(EM=grey, TD=struct()), ".mat", "here", layout=FileLayout(table="EM")).events) == 9
    with pytest.raises(DataError, match=r"here: 'left', 'right' may each hold the events; choose one with --table"):
        read_bytes(mat(left=struct(), right=struct()), ".mat", "here")
    assert rows(read_bytes(mat(events=V2E.astype(float)), ".mat", "here")) == EVENTS


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_archives_of_several_recordings():
    starts = np.array([0, 100, 250])
    for arrays in (
        {"t": T, "x": X, "y": Y, "p": P, "offsets": starts},
        {"events": V2E.astype("i8"), "offsets": np.append(starts, M), "labels": np.arange(3)},
    ):
        content = npz(**arrays)
        name = "events" if "events" in arrays else ""
        with pytest.raises(
            DataError, match=r"here: holds 3 recordings of 300 events together, cut by its offsets: state"
        ):
            read_bytes(content, ".npz", "here")
        for number, (start, stop) in enumerate(((0, 100), (100, 250), (250, 300))):
            found = read_bytes(content, ".npz", "here", layout=FileLayout(table=f"{name}[{number}]"))
            assert rows(found) == EVENTS[start:stop]
        with pytest.raises(DataError, match="holds recordings 0 to 2, 3 is stated"):
            read_bytes(content, ".npz", "here", layout=FileLayout(table=f"{name}[3]"))
    with pytest.raises(DataError, match="its offsets do not cut its 300 events into recordings"):
        read_bytes(npz(t=T, x=X, offsets=np.array([5, 2])), ".npz", "here")
    two = npz(left=V2E.astype("i8"), right=V2E[:5].astype("i8"))
    with pytest.raises(DataError, match=r"no array 'events', .* among \['left', 'right'\]; choose one with --table"):
        read_bytes(two, ".npz", "here")
    assert len(read_bytes(two, ".npz", "here", layout=FileLayout(table="right")).events) == 5


def lines(form, header=""):
    body = "".join(form.format(i=i, t=t, s=t * 1e-6, x=x, y=y, p=p) for i, (t, x, y, p) in enumerate(EVENTS))
    return header + body


TEXT = {
    "Event-Camera Dataset": (lines("{s:.6f} {x} {y} {p}\n"), None),
    "rpg_e2vid": (lines("{s:.9f} {x} {y} {p}\n", "240 180\n"), CAMERA),
    "faery": (lines("{t},{x},{y},{p}\r\n", "t,x@240,y@180,on\r\n"), CAMERA),
    "Metavision": (lines("{x},{y},{p},{t}\n", "%geometry:240,180\n"), CAMERA),
    "Metavision, no header": (lines("{x},{y},{p},{t}\n"), None),
    "pandas": (lines("{i},{t},{x},{y},{p}\n", ",t,x,y,p\n"), None),
    "pandas, by blanks": (lines("{i} {t} {x} {y} {p}\n", " t x y p\n"), None),
    "R": (lines('"{i}" {t} {x} {y} {p}\n', '"t" "x" "y" "p"\n'), None),
    "quoted": (lines('"{t}","{x}","{y}","{p}"\n', '"t","x","y","p"\n'), None),
    "quoted by semicolons": (lines("'{x}';'{y}';'{p}';'{t}'\n", "'x';'y';'polarity';'timestamp'\n"), None),
    "MVSEC's order": (lines("{x} {y} {s:.6f} {p}\n"), None),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("layout", TEXT)
def test_text(layout, encoding):
    content, sensor = TEXT[layout]
    found = read_bytes(content.encode(encoding), ".csv", "here")
    assert rows(found) == EVENTS
    assert (found.sensor, found.named) == (sensor or CAMERA, sensor is not None)


def test_text_in_many_blocks_is_that_in_one(monkeypatch):
    content = TEXT["pandas"][0].encode()
    monkeypatch.setattr("spikelfp.data.events.readers.text._TOGETHER", 7)
    assert rows(read_bytes(content, ".csv", "here")) == EVENTS
    with pytest.raises(DataError, match=r"here: line 252 has 'x' in place of a number"):
        read_bytes(content.replace(b"\n250,", b"\nx,"), ".csv", "here")


def test_text_whose_first_column_does_not_number_its_rows():
    with pytest.raises(DataError, match="here: line 2 has 5 values, expected 4: t, x, y, p"):
        read_bytes(b"t,x,y,p\n7,1,2,3,1\n7,2,2,3,1\n", ".csv", "here")


def test_columns_without_names():
    """The documented order, else the only one that the content fits, else what the user states."""
    other = np.stack([X, Y, P, T], axis=1)
    found = read_bytes(npy(other), ".npy", "here")
    assert (rows(found), found.facts["columns"]) == (EVENTS, ("x", "y", "p", "t"))
    turned = np.stack([P, T, Y, X], axis=1)
    with pytest.raises(DataError, match=r"here: event \d+, at byte \d+, has p = "):
        read_bytes(npy(turned), ".npy", "here")
    assert rows(read_bytes(npy(turned), ".npy", "here", layout=FileLayout(columns=("p", "t", "y", "x")))) == EVENTS
    line = read_bytes(npy(turned), ".npy", "here", layout=FileLayout(columns=("-", "t", "-", "x")))
    assert line.sensor == Sensor(240)
    with pytest.raises(DataError, match="has 4 columns, but 2 are stated: t,x"):
        read_bytes(npy(turned), ".npy", "here", layout=FileLayout(columns=("t", "x")))
    unclear = np.stack(
        [X, np.zeros(M, int), T % 2 * 0, P * 0], axis=1
    )  # x or y never falls, p and t could change places
    with pytest.raises(DataError, match=r"its columns may be x,y,t,p or x,y,p,t; state them with --columns"):
        read_bytes(npy(unclear), ".npy", "here")


def test_more_events_than_a_file_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("spikelfp.data.events.readers.base.MOST_EVENTS", 99)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", data=np.zeros(10**6, "u1"), chunks=(10**6,), compression="gzip")
    with pytest.raises(
        DataError, match=r"claims 1000000 events in a file of \d+ bytes: damaged, or made to fill memory"
    ):
        read(tmp_path / "x.h5")


def test_more_events_than_memory_is_free(tmp_path, monkeypatch):
    """Refused before they are unpacked, whatever their file could hold."""
    monkeypatch.setattr("spikelfp.data.events.readers.base.ALWAYS", 2000)
    monkeypatch.setattr("spikelfp.data.events.readers.base.available", lambda device: 10_000)
    hdf5(tmp_path / "x.h5", **SINGULAR)
    np.savez(tmp_path / "x.npz", t=T, x=X, y=Y, p=P)
    (tmp_path / "x.mat").write_bytes(mat(TD=struct()))
    for name, events in (("x.h5", "its 300 events"), ("x.npz", "its events"), ("x.mat", "its 300 events")):
        with pytest.raises(DataError, match=rf"{name}: {events} take up to 1 MiB of memory .* cut the recording into"):
            read(tmp_path / name)
    monkeypatch.setattr("spikelfp.data.events.readers.base.available", lambda device: 300 * 64 * 4)
    for name in ("x.h5", "x.npz", "x.mat"):
        assert len(read(tmp_path / name).events) == 300


def test_what_cannot_be_stated():
    for columns in (("t", "y"), ("t", "x", "x"), ("t", "x", "z")):
        with pytest.raises(UserError, match="columns are t, x, y, p, each once"):
            FileLayout(columns=columns)
    with pytest.raises(UserError, match="the first pixel has the number 0 or 1, got 2"):
        FileLayout(first_pixel=2)
    for text in ("", "346", "12x", "axb"):
        if text == "346":
            assert Sensor.from_text(text) == Sensor(346)
            continue
        with pytest.raises(UserError, match="a sensor is written as width x height"):
            Sensor.from_text(text)
    assert Sensor.from_text(" 346X260 ") == Sensor(346, 260, 2)
    assert Sensor.from_text("34x34x1") == Sensor(34, 34, 1)
