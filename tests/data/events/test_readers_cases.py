"""Recordings as other programs wrote them, which licences keep out of the project: each to its right value.

``SPIKELFP_EVENT_CASES`` names the folder that they lie in, else the one beside the repository is taken. Small files of
the same layouts, made by code, are in ``test_readers_layouts.py``, ``test_sources_tree.py`` and
``test_readers_refused.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from spikelfp.data.events import Sensor, load_recordings
from spikelfp.data.events.readers import read
from spikelfp.errors import DataError

BESIDE = Path(__file__).resolve().parents[4] / "shared" / "cases" / "events"
PLACE = Path(os.environ.get("SPIKELFP_EVENT_CASES", BESIDE))
TABLES, TEXTS = "6_hdf5_and_mat_layouts", "8_text_layouts"

pytestmark = pytest.mark.skipif(not PLACE.is_dir(), reason="SPIKELFP_EVENT_CASES names no folder of recordings")

DAVIS346, DAVIS240, HD = Sensor(346, 260, 2), Sensor(240, 180, 2), Sensor(1280, 720, 2)
SMALLEST = Sensor(234, 180, 2)
"""The smallest sensor that holds the events, where a file states none."""

SAME = {
    f"{TABLES}/evlib-0.13.2.h5": (SMALLEST, {"table": "events"}),
    f"{TABLES}/v2e.h5": (SMALLEST, {"table": "events"}),
    f"{TABLES}/mvsec.hdf5": (SMALLEST, {"table": "davis/left/events", "other_tables": ("davis/right/events",)}),
    f"{TABLES}/matlab73_struct.mat": (SMALLEST, {"table": "TD", "first_pixel": 1}),
    f"{TABLES}/matlab73_vars.mat": (SMALLEST, {"table": "/", "first_pixel": 1}),
    f"{TEXTS}/e2vid_events.txt": (DAVIS240, {}),
    f"{TEXTS}/metavision.csv": (DAVIS240, {"columns": ("x", "y", "p", "t")}),
    f"{TEXTS}/pandas.csv": (SMALLEST, {}),
}


def columns(recording):
    """Columns t, x, y, p ``[M, 4]``."""
    return np.stack([recording.events[name].astype(np.int64) for name in "txyp"], axis=1)


def expected(folder):
    return np.load(PLACE / folder / "expected_txyp.npy")


@pytest.mark.parametrize("name", SAME)
def test_the_same_events_out_of_each_layout(name):
    found = read(PLACE / name)
    sensor, facts = SAME[name]
    np.testing.assert_array_equal(columns(found), expected(Path(name).parent))
    assert found.sensor == sensor
    assert {key: found.facts[key] for key in facts} == facts


def test_faery_orders_events_of_one_time_by_itself():
    """Its order is that of the file: the same events, and the same times."""
    found, right = columns(read(PLACE / TEXTS / "faery-0.7.1.csv")), expected(TEXTS)
    lines = (PLACE / TEXTS / "faery-0.7.1.csv").read_text().split()[1:]
    assert [",".join(map(str, event)) for event in found.tolist()] == lines
    assert sorted(found.tolist()) == sorted(right.tolist())
    np.testing.assert_array_equal(found[:, 0], right[:, 0])


def test_quoted_text():
    assert columns(read(PLACE / TEXTS / "quoted.csv")).tolist() == [[1, 2, 3, 1]]


def test_seconds_of_event_vision_library():
    found = read(PLACE / TABLES / "event-vision-library_event.hdf5")
    assert found.events["t"].tolist()[:5] == [0, 780, 1706, 1724, 1930]
    assert (len(found.events), found.sensor, found.events["p"].max()) == (17, Sensor(146, 182, 2), 0)


def test_the_folder_of_v2e():
    """AEDAT 2 without a line of the chip: the addresses fit one camera alone."""
    splits = load_recordings(f"folder:{PLACE / '5_v2e_folder'}")
    right = expected(TABLES)
    for part in (splits.train, splits.test):
        assert (len(part), part.sensor, part.class_names) == (2, DAVIS346, ("a", "b"))
        for index in range(2):
            found = np.stack([part.read(index)[name].astype(np.int64) for name in "txyp"], axis=1)
            np.testing.assert_array_equal(found[:, 1:], right[:, 1:])
            assert set((found[:, 0] - right[:, 0]).tolist()) <= {-1, 0}


def test_one_stray_pixel():
    folder = PLACE / "9_outlier"
    with pytest.raises(DataError, match="event 1500 has y = 33014, outside the sensor of 1280 x 720 pixels"):
        load_recordings(f"folder:{folder}")
    splits = load_recordings(f"folder:{folder}", skip_bad=True)
    assert (splits.train.sensor, splits.test.sensor, len(splits.train) + len(splits.test)) == (HD, HD, 5)
    assert len(splits.skipped) == 1
    assert "0.h5: event 1500 has y = 33014" in splits.skipped[0]


def test_two_recordings_in_one_file():
    with pytest.raises(DataError, match=r"event 2628, in line 2630, is of 0 µs, where the clock starts again"):
        read(PLACE / "10_two_recordings_named.csv")
