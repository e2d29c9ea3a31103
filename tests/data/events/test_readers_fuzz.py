"""Whatever the bytes: events in order on their sensor, or one line; no other error, and little memory."""

from __future__ import annotations

import io
import tracemalloc

import aedat4_writer
import event_writers as write
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelfp.data.events import Sensor, check_events
from spikelfp.data.events.readers import read_bytes, suffixes
from spikelfp.errors import DataError
from spikelfp.untrusted.bounds import ALWAYS

pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")  # each is a line too many

EVENTS = [(10 * i, i % 60, i % 40, i % 2) for i in range(200)]
COLUMNS = {name: np.array(column) for name, column in zip("txyp", zip(*EVENTS, strict=True), strict=True)}
MOST = ALWAYS
"""Bytes that a file of a few thousand may take: a chunk of HDF5 is unpacked whole, whatever it claims up to here."""


def saved(save, *arguments, **more):
    buffer = io.BytesIO()
    save(buffer, *arguments, **more)
    return buffer.getvalue()


def hdf5():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, column in COLUMNS.items():
            file.create_dataset(f"events/{name}", data=column, chunks=(64,), compression="gzip")
    return buffer.getvalue()


FLAT = np.array(EVENTS)
TABLE = np.array(EVENTS, "i8,i8,i8,i8")
TABLE.dtype.names = ("t", "x", "y", "p")


SEEDS = {
    ".bin": [write.atis_bin(EVENTS)],
    ".bs1": [write.bs1(EVENTS)],
    ".dat": [write.dat(EVENTS, size=(64, 48)), write.dat(EVENTS, version=1)],
    ".raw": [
        write.raw(write.evt2_words(EVENTS), "2"),
        write.raw(write.evt21_words(EVENTS), "2.1"),
        write.raw(write.evt3_words(EVENTS, vectors=True), "3", "% format EVT3;height=720;width=1280\n% end\n"),
    ],
    ".aedat": [
        write.aedat2(EVENTS),
        write.aedat2(EVENTS, "DAVIS240C"),
        write.aedat2(EVENTS, version="1.0"),
        write.aedat3([write.aedat3_packet(EVENTS[:100], room=3), write.aedat3_packet(EVENTS[100:])]),
        write.aedat3([write.aedat3_packet(EVENTS)], "3.0"),
    ],
    ".aedat4": [
        aedat4_writer.file([aedat4_writer.packet(EVENTS)]),
        aedat4_writer.file([aedat4_writer.lz4_frame(aedat4_writer.packet(EVENTS))], 1),
        aedat4_writer.file([aedat4_writer.zstandard_frame(aedat4_writer.packet(EVENTS))], 3),
    ],
    ".es": [write.event_stream(EVENTS, 64, 48)],
    ".npy": [saved(np.save, FLAT), saved(np.save, TABLE)],
    ".npz": [saved(np.savez, **COLUMNS), saved(np.savez_compressed, events=FLAT)],
    ".h5": [hdf5()],
    ".hdf5": [hdf5()],
    ".mat": [
        saved(scipy.io.savemat, COLUMNS, do_compression=True),
        saved(scipy.io.savemat, {"TD": COLUMNS}),
        saved(scipy.io.savemat, {"spiketrain": np.eye(101)}, do_compression=True),
    ],
    ".csv": [b"t,x,y,p\n" + b"".join(b"%d,%d,%d,%d\n" % each for each in EVENTS)],
    ".txt": [b"".join(b"%f %d %d %d\n" % (each[0] * 1e-6, *each[1:]) for each in EVENTS)],
}

SENSORS = st.sampled_from([None, Sensor(64, 48, 2), Sensor(128, 128, 2), Sensor(1280, 720, 2)])


@st.composite
def damaged(draw, seed):
    """``seed`` with bytes changed, put in, taken out, or its end cut off."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(content), 300) if draw(st.booleans()) else len(content)))
        piece = draw(st.binary(max_size=9) | st.sampled_from([b"\xff" * 4, b"\xff" * 8, bytes(4), b"\x7f\xff\xff\xff"]))
        match draw(st.sampled_from(["change", "insert", "remove", "cut"])):
            case "change":
                content[at : at + len(piece)] = piece
            case "insert":
                content[at:at] = piece
            case "remove":
                del content[at : at + len(piece)]
            case "cut":
                del content[at:]
    return bytes(content)


def reads_or_refuses(content, suffix, sensor):
    tracemalloc.start()
    try:
        found = read_bytes(content, suffix, "here", sensor=sensor)
    except DataError as error:
        line = str(error)
    else:
        check_events(found.events, found.sensor, "here")
        line = ""
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in line
    assert len(line) < 1000
    assert peak < MOST, line


def test_all_formats_are_here():
    assert set(SEEDS) == set(suffixes)


@pytest.mark.parametrize("suffix", SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_files(suffix, data):
    seed = data.draw(st.sampled_from(SEEDS[suffix]))
    reads_or_refuses(data.draw(damaged(seed)), suffix, data.draw(SENSORS))


@pytest.mark.parametrize("suffix", SEEDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_bytes(suffix, data):
    seed = data.draw(st.sampled_from(SEEDS[suffix]))
    start = seed[: data.draw(st.integers(0, min(len(seed), 150)))]
    reads_or_refuses(start + data.draw(st.binary(max_size=200)), suffix, data.draw(SENSORS))


@pytest.mark.parametrize("suffix", SEEDS)
def test_seeds_are_read_whole(suffix):
    for content in SEEDS[suffix]:
        sensor = Sensor(240, 180, 2) if b"AER-DAT3.0" in content else None
        assert len(read_bytes(content, suffix, "here", sensor=sensor).events) in (100, 200)
