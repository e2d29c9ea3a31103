"""Transforms of events do what they say, and leave their input alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import slow_events

from spikelfp.data.events import EVENT, Binning, Pipeline, Sensor, check_events
from spikelfp.data.events import transforms as t
from spikelfp.errors import UserError

CAMERA, LINE = Sensor(7, 5, 2), Sensor(9)


def recordings(sensor: Sensor, least: int = 0, first: int = -50):
    """Events on a sensor, close to each other in time."""
    event = st.tuples(
        st.integers(first, 200),
        st.integers(0, sensor.width - 1),
        st.integers(0, sensor.height - 1),
        st.integers(0, sensor.polarities - 1),
    )
    return st.lists(event, min_size=least, max_size=50).map(slow_events.events_of)


MOVES = {
    t.Crop(2, 1, 4, 3): (lambda e: (e[0], e[1] - 2, e[2] - 1, e[3]) if 2 <= e[1] < 6 and 1 <= e[2] < 4 else None),
    t.CenterCrop(4): (lambda e: (e[0], e[1] - 1, e[2], e[3]) if 1 <= e[1] < 5 and e[2] < 4 else None),
    t.FlipX(): lambda e: (e[0], 6 - e[1], e[2], e[3]),
    t.FlipY(): lambda e: (e[0], e[1], 4 - e[2], e[3]),
    t.FlipPolarity(): lambda e: (e[0], e[1], e[2], 1 - e[3]),
    t.MergePolarities(): lambda e: (*e[:3], 0),
    t.Downsample(3): lambda e: (e[0], e[1] // 3, e[2] // 3, e[3]),
    t.Downsample(10**9): lambda e: (e[0], 0, 0, e[3]),
    t.TimeCrop(-3, 20): lambda e: e if -3 <= e[0] <= 20 else None,
    t.DownsampleTime(7): lambda e: (e[0] // 7 * 7, *e[1:]),
}
SENSORS = {
    t.Crop(2, 1, 4, 3): Sensor(4, 3, 2),
    t.CenterCrop(4): Sensor(4, 4, 2),
    t.MergePolarities(): Sensor(7, 5, 1),
    t.Downsample(3): Sensor(3, 2, 2),
    t.Downsample(10**9): Sensor(1, 1, 2),
}


@pytest.mark.parametrize("transform", MOVES, ids=str)
@given(events=recordings(CAMERA))
@settings(max_examples=25, deadline=None)
def test_event_by_event(transform, events):
    before = events.copy()
    made = transform(events, CAMERA)
    expected = [row for row in map(MOVES[transform], slow_events.rows_of(events)) if row is not None]
    assert made.dtype == EVENT
    assert slow_events.rows_of(made) == expected
    assert (events == before).all()
    sensor = transform.sensor(CAMERA)
    assert sensor == SENSORS.get(transform, CAMERA)
    if len(made):
        check_events(made, sensor, "made")
        made["x"] = 0  # a copy
        assert (events == before).all()


FILTERS = {
    t.Denoise(10): lambda events: slow_events.denoise_slow(events, 10),
    t.Refractory(6): lambda events: slow_events.refractory_slow(events, 6),
    t.Refractory(0): lambda events: slow_events.refractory_slow(events, 0),
    t.Decimate(3): lambda events: slow_events.decimate_slow(events, 3),
    t.HotPixels(20000.0): lambda events: slow_events.hot_slow(events, 20000.0),
}


@pytest.mark.parametrize("transform", FILTERS, ids=str)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_filters_equal_slow(transform, data):
    sensor = data.draw(st.sampled_from([CAMERA, LINE, Sensor(2, 2, 2)]))
    events = data.draw(recordings(sensor, least=1))
    before = events.copy()
    assert slow_events.rows_of(transform(events, sensor)) == FILTERS[transform](events)
    assert (events == before).all()
    assert transform.sensor(sensor) == sensor


@pytest.mark.parametrize("transform", [*MOVES, *FILTERS, t.AlignTime()], ids=str)
def test_no_events_and_read_only(transform):
    assert transform(np.empty(0, EVENT), CAMERA).dtype == EVENT
    events = slow_events.events_of([(3, 3, 1, 1), (4, 4, 1, 0), (200, 2, 2, 0)])
    events.flags.writeable = False
    made = transform(events, CAMERA)
    assert len(transform(events[:0], CAMERA)) == 0
    assert slow_events.rows_of(made) == slow_events.rows_of(transform(events.copy(), CAMERA))


def test_align_time():
    events = slow_events.events_of([(1000, 1, 1, 0), (1005, 2, 1, 0)])
    assert t.AlignTime()(events, CAMERA)["t"].tolist() == [0, 5]
    assert events["t"].tolist() == [1000, 1005]


def test_lines():
    events = slow_events.events_of([(each, each, 0, 0) for each in range(9)])
    cases = {
        t.Crop(2, 0, 3, 1): (Sensor(3), [0, 1, 2]),
        t.CenterCrop(4): (Sensor(4), [0, 1, 2, 3]),
        t.FlipX(): (LINE, list(range(8, -1, -1))),
        t.Downsample(4): (Sensor(3), [0, 0, 0, 0, 1, 1, 1, 1, 2]),
        t.MergePolarities(): (LINE, list(range(9))),
    }
    for transform, (sensor, channels) in cases.items():
        assert transform(events, LINE)["x"].tolist() == channels
        assert transform.sensor(LINE) == sensor


def test_widest_sensor():
    """65,536 columns: the last one does not fit signed numbers of 16 bits."""
    sensor = Sensor(65536)
    events = slow_events.events_of([(0, 65535, 0, 0), (1, 0, 0, 0)])
    assert t.FlipX()(events, sensor)["x"].tolist() == [0, 65535]
    assert t.Downsample(65536)(events, sensor)["x"].tolist() == [0, 0]
    assert t.Crop(65535, 0, 1, 1)(events, sensor)["x"].tolist() == [0]
    assert len(t.Denoise(5)(events, sensor)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.Crop(-1, 0, 1, 1), "x of crop must be a whole number of at least 0, got -1"),
        (lambda: t.Crop(0, 0, 0, 1), "width of crop must be a whole number of at least 1, got 0"),
        (lambda: t.CenterCrop(2.0), "size of center-crop must be a whole number"),
        (lambda: t.Downsample(0), "factor of downsample must be"),
        (lambda: t.Denoise(0), "window_us of denoise must be a whole number of at least 1 µs, got 0"),
        (lambda: t.Refractory(-1), "us of refractory must be"),
        (lambda: t.DownsampleTime(0), "us of downsample-time"),
        (lambda: t.Decimate(True), "number of decimate"),
        (lambda: t.HotPixels(float("inf")), "rate of hot-pixels must be a number above 0 Hz, got inf"),
        (lambda: t.TimeCrop(5, 4), "time-crop ends at 4 µs, before its start at 5 µs"),
        (lambda: t.Crop(4, 0, 4, 1).sensor(CAMERA), "reaches over the edge of the sensor of 7 x 5 pixels"),
        (lambda: t.Crop(0, 0, 1, 6)(np.empty(0, EVENT), CAMERA), "reaches over the edge"),
        (lambda: t.CenterCrop(6).sensor(CAMERA), "center-crop of 6 is larger than the sensor"),
        (lambda: t.FlipPolarity().sensor(LINE), "flip-polarity needs a sensor of two polarities"),
    ],
)
def test_refused(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_too_many_pixels_to_remember():
    events = slow_events.events_of([(0, 65535, 65535, 0)])
    with pytest.raises(UserError, match="denoise: 65536 x 65536 pixels are too many"):
        t.Denoise(5)(events, Sensor(65536, 65536))


def test_hot_pixels_of_the_widest_sensor():
    events = slow_events.events_of([(0, 65535, 65535, 0), (1, 0, 0, 0), (1000, 0, 0, 0)])
    assert slow_events.rows_of(t.HotPixels(1500)(events, Sensor(65536, 65536))) == [(0, 65535, 65535, 0)]


def test_in_a_pipeline():
    pipeline = Pipeline(Binning(bins=2, levels=9), (t.Downsample(2), t.MergePolarities(), t.Crop(1, 0, 3, 2)))
    events = slow_events.events_of([(0, 2, 1, 1), (3, 3, 0, 0), (9, 6, 3, 1), (9, 0, 0, 0)])
    frames = pipeline(events, CAMERA)
    assert pipeline.sensor(CAMERA) == Sensor(3, 2, 1)
    assert (frames.places.tolist(), frames.counts.tolist(), frames.steps) == ([0, 11], [2, 1], 2)
    kinds = [each["kind"] for each in json.loads(pipeline.describe())["transforms"]]
    assert kinds == ["Downsample", "MergePolarities", "Crop"]
    assert pipeline.describe() != Pipeline(pipeline.binning, (t.Downsample(3), *pipeline.transforms[1:])).describe()
