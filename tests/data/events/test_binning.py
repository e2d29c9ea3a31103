"""Events become the steps that the formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import slow_events

from spikelfp.data.events import EVENT, Binning, Sensor, SparseFrames, bin_events
from spikelfp.data.events import binning as module
from spikelfp.errors import DataError, UserError

SENSORS = [Sensor(3, 2, 2), Sensor(70, 65, 2), Sensor(5), Sensor(1), Sensor(4, 3, 1)]


@st.composite
def recordings(draw, most: int = 60):
    """A sensor and events on it, many at the same places and times."""
    sensor = draw(st.sampled_from(SENSORS))
    event = st.tuples(
        st.integers(-30, 30) | st.integers(-(10**12), 10**12),
        st.integers(0, sensor.width - 1),
        st.integers(0, sensor.height - 1),
        st.integers(0, sensor.polarities - 1),
    )
    return sensor, slow_events.events_of(draw(st.lists(event, max_size=most)))


BINNINGS = st.one_of(
    st.builds(Binning, bins=st.integers(1, 40), levels=st.sampled_from([1, 2, 65535])),
    st.builds(
        Binning,
        window=st.integers(10**10, 10**13),
        most=st.none() | st.integers(1, 5),
        levels=st.sampled_from([1, 3]),
    ),
    st.builds(Binning, count=st.integers(1, 70), most=st.none() | st.integers(1, 5), levels=st.sampled_from([1, 3])),
)


def check(frames: SparseFrames, expected: tuple[dict[int, int], int]) -> None:
    counts, steps = expected
    assert frames.places.dtype == np.uint32
    assert frames.counts.dtype == np.uint16
    assert frames.places.tolist() == sorted(counts)
    assert dict(zip(frames.places.tolist(), frames.counts.tolist(), strict=True)) == counts
    assert frames.steps == steps


@given(recordings(), BINNINGS)
@settings(max_examples=150, deadline=None)
def test_equals_slow(recording, binning):
    sensor, events = recording
    before = events.copy()
    check(bin_events(events, sensor, binning), slow_events.bin_slow(events, sensor, binning))
    assert (events == before).all()


@given(recordings(), BINNINGS)
@settings(max_examples=60, deadline=None)
def test_sorting_equals_slow(recording, binning):
    """What sensors of many million pixels take instead of an array for a step."""
    sensor, events = recording
    small, module._SMALL = module._SMALL, 0
    try:
        check(bin_events(events, sensor, binning), slow_events.bin_slow(events, sensor, binning))
    finally:
        module._SMALL = small


@given(recordings(), st.integers(0, 10**13), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_steps_counted_from_an_origin(recording, before, bins):
    sensor, events = recording
    origin = int(events["t"][0]) - before if len(events) else before
    for binning in (Binning(bins=bins, origin=origin), Binning(window=10**12, most=20, origin=origin)):
        check(bin_events(events, sensor, binning), slow_events.bin_slow(events, sensor, binning))


def test_an_event_before_the_origin():
    with pytest.raises(DataError, match="the first is of 4 µs, before the origin of 5 µs"):
        bin_events(slow_events.events_of([(4, 0, 0, 0)]), Sensor(1), Binning(window=3, origin=5))


def test_sensor_of_many_million_pixels():
    sensor = Sensor(65536, 32767)
    events = slow_events.events_of([(0, 3, 1, 0), (5, 65535, 32766, 0), (5, 65535, 32766, 0)])
    check(bin_events(events, sensor, Binning(bins=1, levels=7)), ({65539: 1, sensor.size - 1: 2}, 1))
    with pytest.raises(UserError, match="less than 2\\^32"):
        bin_events(events, sensor, Binning(bins=3))
    events["t"] = [1, 0, 2]
    with pytest.raises(DataError, match="event 1 is of 0 µs"):
        bin_events(events, sensor, Binning(bins=1))


def test_a_recording_of_a_large_camera():
    sensor, random = Sensor(1280, 720, 2), np.random.default_rng(0)
    events = np.zeros(5000, EVENT)
    events["t"] = np.sort(random.integers(0, 10**6, 5000))
    events["x"], events["y"], events["p"] = (random.integers(0, end, 5000) for end in (1280, 720, 2))
    check(bin_events(events, sensor, Binning(bins=300)), slow_events.bin_slow(events, sensor, Binning(bins=300)))


def test_last_event_is_of_the_last_bin():
    events = slow_events.events_of([(t, 0, 0, 0) for t in (100, 149, 150, 199)])
    assert bin_events(events, Sensor(1), Binning(bins=2, levels=9)).counts.tolist() == [2, 2]
    events = slow_events.events_of([(t, 0, 0, 0) for t in (100, 149, 150, 200)])  # 101 µs: halves of 50.5
    assert bin_events(events, Sensor(1), Binning(bins=2, levels=9)).counts.tolist() == [3, 1]


@pytest.mark.parametrize(("binning", "steps"), [(Binning(bins=7), 7), (Binning(window=3), 1), (Binning(count=3), 1)])
def test_no_events_are_steps_of_zeros(binning, steps):
    check(bin_events(np.empty(0, EVENT), Sensor(4), binning), ({}, steps))


def test_read_only_and_strided_events():
    events = slow_events.events_of([(t, t % 3, 0, 0) for t in range(40)])
    expected = slow_events.bin_slow(events[::2], Sensor(3), Binning(bins=4))
    events.flags.writeable = False
    check(bin_events(events[::2], Sensor(3), Binning(bins=4)), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of bins, window and count"),
        ({"bins": 3, "count": 2}, "one of bins, window and count"),
        ({"bins": 0}, "bins must be a whole number of at least 1, got 0"),
        ({"window": 2.5}, "window must be a whole number of at least 1, got 2.5"),
        ({"count": True}, "count must be a whole number"),
        ({"window": 2, "most": 0}, "most must be a whole number"),
        ({"bins": 2, "levels": None}, "levels must be a whole number"),
        ({"bins": 2, "levels": 65536}, "levels must be at most 65535, got 65536"),
        ({"bins": 2, "most": 1}, "most limits sequences by window or count"),
        ({"bins": 2, "origin": 0.5}, "origin must be a whole number of µs, got 0.5"),
        ({"count": 2, "origin": 0}, "steps of 2 events have no origin"),
    ],
)
def test_refused_binnings(options, message):
    with pytest.raises(UserError, match=message):
        Binning(**options)


@pytest.mark.parametrize(
    ("binning", "message"),
    [
        (Binning(bins=2**31), "fewer bins"),
        (Binning(window=1), r"a larger window, a limit of steps \(most, --steps\)"),
        (Binning(window=1, most=2**31), "a larger window"),
    ],
)
def test_too_many_places(binning, message):
    events = slow_events.events_of([(0, 0, 0, 0), (2**40, 1, 0, 1)])
    with pytest.raises(UserError, match=message) as error:
        bin_events(events, Sensor(2, 1, 2), binning)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, DataError) == (binning.bins is None)  # of this recording, so that it may be skipped
    assert bin_events(events, Sensor(2, 1, 2), Binning(window=1, most=5)).steps == 5
    assert bin_events(events, Sensor(2, 1, 2), Binning(window=2**40)).places.tolist() == [0, 7]


def test_times_too_far_apart():
    events = slow_events.events_of([(-(2**62), 0, 0, 0), (2**62, 0, 0, 0)])
    with pytest.raises(DataError, match="from the first to the last is too long"):
        bin_events(events, Sensor(1), Binning(bins=4))
    few = Binning(window=1000, most=8)  # steps that are kept, of a difference that does not fit 64 bits
    events = slow_events.events_of([(-(2**62), 0, 0, 0), (2**62, 0, 0, 0)])
    with pytest.raises(DataError, match="from the first to the last is too long"):
        bin_events(events, Sensor(1), few)
    events["t"][1] -= 1
    assert bin_events(events, Sensor(1), few).counts.tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([(0, 0, 0, 0), (1, 3, 0, 0)], "event 1 has x = 3"), ([(0, 0, 0, 0), (1, 0, 0, 2)], "event 1 has p = 2")],
)
def test_events_off_the_sensor(rows, message):
    with pytest.raises(DataError, match=message):
        bin_events(slow_events.events_of(rows), Sensor(3, 2, 2), Binning(bins=2))


def test_events_out_of_order_and_of_another_kind():
    events = slow_events.events_of([(t, 0, 0, 0) for t in (0, 5, 9)])
    events["t"][1] = 10
    with pytest.raises(DataError, match="event 2 is of 9 µs, before the 10 µs"):
        bin_events(events, Sensor(3), Binning(bins=2))
    with pytest.raises(DataError, match="expected events"):
        bin_events(np.zeros(3), Sensor(3), Binning(bins=2))


def test_bins_are_tonics_frames_of_that_window():
    """tonic's own bins are a little shorter and leave out the last events; windows of the exact length are the same."""
    frames = pytest.importorskip("tonic.transforms").ToFrame
    events, sensor = _random_recording(), Sensor(9, 6, 2)
    length = int(events["t"][-1] - events["t"][0]) + 1
    theirs = frames(sensor_size=(9, 6, 2), time_window=length / 7, include_incomplete=True)(_for_tonic(events))
    check(bin_events(events, sensor, Binning(bins=7, levels=65535)), _sparse(theirs))
    short = frames(sensor_size=(9, 6, 2), n_time_bins=7)(_for_tonic(events))
    check(bin_events(events, sensor, Binning(window=(length - 1) // 7, most=7, levels=65535)), _sparse(short))


def test_windows_and_counts_are_tonics():
    frames = pytest.importorskip("tonic.transforms").ToFrame
    events, sensor = _random_recording(), Sensor(9, 6, 2)
    for window in (10, 37, 1000, 5000):
        theirs = frames(sensor_size=(9, 6, 2), time_window=window, include_incomplete=True)(_for_tonic(events))
        check(bin_events(events, sensor, Binning(window=window, levels=65535)), _sparse(theirs))
    for count in (1, 7, 100, 200):
        theirs = frames(sensor_size=(9, 6, 2), event_count=count, include_incomplete=True)(_for_tonic(events))
        check(bin_events(events, sensor, Binning(count=count, levels=65535)), _sparse(theirs))


def _random_recording() -> np.ndarray:
    random = np.random.default_rng(3)
    times = np.sort(random.integers(0, 3000, 200)) + 77
    times[-1] = 3079  # no window ends at the last event, which tonic would leave out
    return slow_events.events_of(
        [(int(t), *(int(random.integers(end)) for end in (9, 6, 2))) for t in times],
    )


def _for_tonic(events: np.ndarray) -> np.ndarray:
    made = np.zeros(len(events), [("x", int), ("y", int), ("t", int), ("p", int)])
    for name in "xytp":
        made[name] = events[name]
    return made


def _sparse(frames: np.ndarray) -> tuple[dict[int, int], int]:
    flat = frames.reshape(-1)
    return {int(place): int(flat[place]) for place in flat.nonzero()[0]}, len(frames)
